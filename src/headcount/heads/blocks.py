"""The heads of a model by name, and gates on them.

A head is named after its block, see ``headcount.model.attention_blocks``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headcount.model.attention_blocks import attention_blocks
from headcount.model.base import SummaryModel

Model = SummaryModel[Any]


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head of a model.

    Attributes:
        site: encoder, decoder or cross.
        layer: number of the layer within its site, from zero.
        index: number of the head within its block, from zero.
    """

    site: str
    layer: int
    index: int

    @property
    def block(self) -> str:
        """Name of its attention block."""
        return f"{self.site}.{self.layer}"

    def __str__(self) -> str:
        """Return ``cross.0.3`` for the fourth head of the first cross-attention block."""
        return f"{self.block}.{self.index}"


def heads_of(model: nn.Module) -> list[Head]:
    """Return all heads of a model, block by block."""
    heads = []
    for name, block in attention_blocks(model).items():
        site, layer = name.split(".")
        for index in range(block.num_heads):
            heads.append(Head(site=site, layer=int(layer), index=index))
    return heads


def closed_heads(model: nn.Module) -> set[Head]:
    """Return the heads whose gate is zero, such as those that learned gates have closed."""
    closed = set()
    blocks = attention_blocks(model)
    for head in heads_of(model):
        gates_H = blocks[head.block].head_gates
        if gates_H is not None and gates_H[head.index] == 0:
            closed.add(head)
    return closed


def site_of(block: str) -> str:
    """Return the site in a block's name: cross for ``cross.0``."""
    return block.split(".")[0]


def parse_head(text: str, model: nn.Module) -> Head:
    """Return the head that a text such as ``cross.0.3`` names.

    Raises:
        ValueError: the model has no such head.
    """
    for head in heads_of(model):
        if str(head) == text:
            return head
    blocks = [f"{name}.0-{block.num_heads - 1}" for name, block in attention_blocks(model).items()]
    raise ValueError(f"head {text} does not exist; legal: {', '.join(blocks)}")


def open_gates(model: nn.Module) -> dict[str, Tensor]:
    """Return gates of one for every head of a model, [H] by the block's name."""
    gates = {}
    for name, block in attention_blocks(model).items():
        weight = next(block.parameters())
        gates[name] = torch.ones(block.num_heads, dtype=weight.dtype, device=weight.device)
    return gates


def gates_without(model: nn.Module, removed: set[Head]) -> dict[str, Tensor]:
    """Return gates [H] by the block's name: zero for the removed heads, one for the others."""
    gates = open_gates(model)
    for head in removed:
        gates[head.block][head.index] = 0.0
    return gates


@contextmanager
def gated(model: nn.Module, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply the gates of blocks by others within a ``with`` statement.

    A head that is closed already, such as by a learned gate, stays closed.

    Args:
        model: the model whose blocks get the gates.
        gates: [H] by the block's name; other blocks keep their gates.
    """
    blocks = attention_blocks(model)
    before = {name: blocks[name].head_gates for name in gates}
    try:
        for name, gates_H in gates.items():
            before_H = before[name]
            blocks[name].head_gates = gates_H if before_H is None else before_H * gates_H
        yield
    finally:
        for name, before_H in before.items():
            blocks[name].head_gates = before_H
