"""The attention blocks of a model by name, their weights, and switching heads off.

``encoder.0`` and ``decoder.0`` are self-attention, ``cross.0`` is the first decoder layer's
attention to the document. A decoder-only model has decoder blocks only. The additive attention of
a recurrent model is ``cross.0``. A head is named by its block: ``cross.0.3`` is the fourth one.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headcount.model.additive_attention import AdditiveAttention
from headcount.model.attention import MultiHeadAttention

AttentionBlock = MultiHeadAttention | AdditiveAttention
SITES = ("encoder", "decoder", "cross")


def attention_blocks(model: nn.Module) -> dict[str, AttentionBlock]:
    """Return the attention blocks of a model by name: encoder, decoder, cross; the first layer
    first."""
    found: dict[str, AttentionBlock] = {}
    for module_name, module in model.named_modules():
        if isinstance(module, AttentionBlock):
            found[_block_name(module_name)] = module
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _block_name(module_name: str) -> str:
    """Return ``cross.0`` for the module ``decoder.0.cross_attention``."""
    if "." not in module_name:  # additive attention
        return "cross.0"
    stack, layer, kind = module_name.split(".")
    return f"cross.{layer}" if kind == "cross_attention" else f"{stack}.{layer}"


def _order(name: str) -> tuple[int, int]:
    site, layer = name.split(".")
    return SITES.index(site), int(layer)


def heads_of(model: nn.Module) -> list[str]:
    """Return the names of all heads of a model, block by block."""
    names = []
    for name, block in attention_blocks(model).items():
        for head in range(block.num_heads):
            names.append(f"{name}.{head}")
    return names


@contextmanager
def heads_off(model: nn.Module, heads: Collection[str]) -> Iterator[None]:
    """Switch heads off within a ``with`` statement, by gates of zero.

    Args:
        model: its blocks get the gates.
        heads: names of its heads; with none the gates stay as they are.
    """
    blocks = attention_blocks(model)
    before = {name: block.head_gates for name, block in blocks.items()}
    gates: dict[str, Tensor] = {}
    for head in heads:
        name, _, index = head.rpartition(".")
        gates.setdefault(name, _open_gates(blocks[name]))[int(index)] = 0.0
    try:
        for name, gates_H in gates.items():
            blocks[name].head_gates = gates_H
        yield
    finally:
        for name, gates_H_before in before.items():
            blocks[name].head_gates = gates_H_before


def _open_gates(block: AttentionBlock) -> Tensor:
    """Return a copy of a block's gates, which are one where it has none."""
    if block.head_gates is not None:
        return block.head_gates.clone()
    like = next(block.parameters())
    return torch.ones(block.num_heads, dtype=like.dtype, device=like.device)


@contextmanager
def recorded_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Let every multi-head attention block compute its weights, and collect those of the last
    call, of one example.

    Yields:
        By the block's name the weights [H, T, S]. Additive attention is not among them: its model
        returns them itself.
    """
    found: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, block in attention_blocks(model).items():
            if isinstance(block, MultiHeadAttention):
                _record(block, name, found, stack)
        yield found


def _record(
    block: MultiHeadAttention, name: str, found: dict[str, Tensor], stack: ExitStack
) -> None:
    def ask(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "return_weights": True}

    def store(module: nn.Module, args: Any, output: Any) -> None:
        [found[name]] = output[1]

    before = block.register_forward_pre_hook(ask, with_kwargs=True)
    after = block.register_forward_hook(store)
    stack.callback(before.remove)
    stack.callback(after.remove)
