"""The attention blocks of a model by name, and gates on their heads.

A block is named by its site and its layer: ``encoder.0`` and ``decoder.0`` are self-attention,
``cross.0`` is the first decoder layer's attention to the document. A decoder-only model has
decoder blocks only. The additive attention of a recurrent model is ``cross.0``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headcount.model.additive_attention import AdditiveAttention
from headcount.model.attention import MultiHeadAttention
from headcount.model.base import SummaryModel

Model = SummaryModel[Any]
AttentionBlock = MultiHeadAttention | AdditiveAttention
SITES = ("encoder", "decoder", "cross")  # in the order of tables and pictures


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head of a model.

    Attributes:
        site: encoder, decoder or cross.
        layer: of that site, from zero.
        index: within its block, from zero.
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


def block_name(module_name: str) -> str:
    """Return the block's name for a module's name in a model.

    ``decoder.0.cross_attention`` is ``cross.0``, ``encoder.1.attention`` is ``encoder.1`` and a
    recurrent model's ``attention`` is ``cross.0``.
    """
    parts = module_name.split(".")
    if len(parts) == 1:
        return "cross.0"
    stack, layer, kind = parts
    return f"cross.{layer}" if kind == "cross_attention" else f"{stack}.{layer}"


def attention_blocks(model: nn.Module) -> dict[str, AttentionBlock]:
    """Return the attention blocks of a model by name: encoder, decoder, cross; first layer
    first."""
    found: dict[str, AttentionBlock] = {}
    for module_name, module in model.named_modules():
        if isinstance(module, AttentionBlock):
            found[block_name(module_name)] = module
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(name: str) -> tuple[int, int]:
    site, layer = name.split(".")
    return SITES.index(site), int(layer)


def heads_of(model: nn.Module) -> list[Head]:
    """Return all heads of a model, block by block."""
    heads = []
    for name, block in attention_blocks(model).items():
        site, layer = name.split(".")
        for index in range(block.num_heads):
            heads.append(Head(site=site, layer=int(layer), index=index))
    return heads


def site_of(block: str) -> str:
    """Return the site of a block's name."""
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
    """Return gates of one for every head of a model: for each block a tensor [H]."""
    gates = {}
    for name, block in attention_blocks(model).items():
        like = next(block.parameters())
        gates[name] = torch.ones(block.num_heads, dtype=like.dtype, device=like.device)
    return gates


def gates_without(model: nn.Module, removed: set[Head]) -> dict[str, Tensor]:
    """Return gates [H] of each block: zero for the removed heads, one for the others."""
    gates = open_gates(model)
    for head in removed:
        gates[head.block][head.index] = 0.0
    return gates


@contextmanager
def gated(model: nn.Module, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Set the gates of blocks within a ``with`` statement.

    Args:
        model: its blocks get the gates.
        gates: [H] by the block's name; blocks that are not named stay as they are.
    """
    blocks = attention_blocks(model)
    before = {name: blocks[name].head_gates for name in gates}
    try:
        for name, gates_H in gates.items():
            blocks[name].head_gates = gates_H
        yield
    finally:
        for name, gates_H_before in before.items():
            blocks[name].head_gates = gates_H_before
