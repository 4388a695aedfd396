"""Removing heads permanently: a smaller model whose output equals that of the gated one.

The rows of the query, key and value projections and the columns of the output projection that
belong to removed heads are left out. A key-value head that several query heads share is kept as
long as one of them is. Additive attention has no output projection: the layers whose input is its
context vector lose columns.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from headcount.config.sections.model import ModelConfig
from headcount.heads.blocks import Head, Model, heads_of, site_of
from headcount.model.additive_attention import AdditiveAttention
from headcount.model.attention import MultiHeadAttention, kept_kv_heads
from headcount.model.attention_blocks import AttentionBlock, attention_blocks
from headcount.model.recurrent import Recurrent


def pruned_config(config: ModelConfig, model: Model, removed: Iterable[Head]) -> ModelConfig:
    """Return the config of a model without some heads.

    Args:
        config: of the model, which may be pruned already.
        model: the model.
        removed: its heads to remove.

    Raises:
        ConfigError: no head would be left in the last layer that attends to the document.
    """
    removed = set(removed)
    mask: dict[str, list[list[int]]] = {}
    for name, block in attention_blocks(model).items():
        site, layer = name.split(".")
        num_heads = config.heads_of(site, int(layer))
        kept = config.kept_heads(site, int(layer))
        if kept is None:
            kept = list(range(num_heads))

        # The mask counts the heads before any pruning, the model only those that are left.
        row = [0] * num_heads
        for index in _kept_indices(name, block, removed):
            row[kept[index]] = 1
        mask.setdefault(site, []).append(row)
    return replace(config, head_mask=mask)


def pruned_weights(model: Model, removed: Iterable[Head]) -> dict[str, Tensor]:
    """Return the weights of a model without some heads, by their names in its state dict.

    Args:
        model: the model.
        removed: its heads to remove.
    """
    removed = set(removed)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    blocks = attention_blocks(model)
    for module_name, module in model.named_modules():
        if not isinstance(module, AttentionBlock):
            continue
        [name] = [name for name, block in blocks.items() if block is module]
        kept = _kept_indices(name, module, removed)

        # Replace the weights of the block, and those of the layers that read its context vector.
        if isinstance(module, MultiHeadAttention):
            parts = _without_heads(module, kept)
        elif isinstance(module, AdditiveAttention):
            parts = _additive_without_heads(module, kept)
        for part, tensor in parts.items():
            weights[f"{module_name}.{part}"] = tensor.detach().clone()
        if isinstance(model, Recurrent):
            for part, tensor in _readers_of_context(model, kept).items():
                weights[part] = tensor.detach().clone()
    return weights


def _kept_indices(name: str, block: AttentionBlock, removed: set[Head]) -> list[int]:
    layer = int(name.split(".")[1])
    kept = []
    for index in range(block.num_heads):
        if Head(site=site_of(name), layer=layer, index=index) not in removed:
            kept.append(index)
    return kept


def _rows_of_heads(heads: Sequence[int], head_dim: int) -> list[int]:
    """Return the rows of a projection [heads x head_dim, embedding_size] that belong to heads."""
    rows: list[int] = []
    for head in heads:
        rows.extend(range(head * head_dim, (head + 1) * head_dim))
    return rows


def _without_heads(block: MultiHeadAttention, kept: list[int]) -> dict[str, Tensor]:
    # ``group`` query heads share a key-value head.
    group = block.num_heads // block.num_kv_heads if block.num_kv_heads else 1
    query_rows = _rows_of_heads(kept, block.head_dim)
    kv_rows = _rows_of_heads(kept_kv_heads(kept, group), block.head_dim)

    # Queries, keys and values are one projection, in this order.
    weights = block.input_projection.weight.split(block.sizes)
    biases = block.input_projection.bias.split(block.sizes)
    rows = [query_rows, kv_rows, kv_rows]
    return {
        "input_projection.weight": torch.cat([w[r] for w, r in zip(weights, rows, strict=True)]),
        "input_projection.bias": torch.cat([b[r] for b, r in zip(biases, rows, strict=True)]),
        "output_projection.weight": block.output_projection.weight[:, query_rows],
    }


def _additive_without_heads(block: AdditiveAttention, kept: list[int]) -> dict[str, Tensor]:
    rows = _rows_of_heads(kept, block.head_dim)
    return {
        "query_projection.weight": block.query_projection.weight[rows],
        "key_projection.weight": block.key_projection.weight[rows],
        "key_projection.bias": block.key_projection.bias[rows],
        "score_HK": block.score_HK[kept],
    }


def _readers_of_context(model: Recurrent, kept: list[int]) -> dict[str, Tensor]:
    """Return the input weights of the first decoder cell and of the readout without the columns of
    removed heads.

    Both have the context vector after embedding_size other inputs; the readout has more after it.
    """
    size = model.attention.embedding_size
    before = list(range(size))
    context = [size + row for row in _rows_of_heads(kept, model.attention.head_dim)]
    after = list(range(size + model.attention.context_size, model.readout.in_features))
    return {
        "decoder.0.weight_ih": model.decoder[0].weight_ih[:, [*before, *context]],
        "readout.weight": model.readout.weight[:, [*before, *context, *after]],
    }


def heads_to_remove(order: Sequence[Head], keep: int, closed: Collection[Head] = ()) -> set[Head]:
    """Return the heads to remove so that a given number is kept.

    Args:
        order: all heads, the least important first.
        keep: number of heads to keep, at most the number of heads that are not closed.
        closed: heads that learned gates have closed, which are always removed.
    """
    open_heads = [head for head in order if head not in closed]
    return {*closed, *open_heads[: len(open_heads) - keep]}


def prune(
    model: Model, config: ModelConfig, removed: Iterable[Head]
) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the config and the weights of a model without some heads.

    ``build_model`` of the config with these weights gives the same output as the model with the
    gates of these heads at zero.

    Args:
        model: the model.
        config: its ``model`` section.
        removed: heads of it, such as the first ones of ``heads_of(model)``.

    Raises:
        ConfigError: no head would be left in the last layer that attends to the document.
        ValueError: the model has no such head.
    """
    removed = set(removed)
    unknown = removed - set(heads_of(model))
    if unknown:
        raise ValueError(f"heads that the model does not have: {', '.join(map(str, unknown))}")
    return pruned_config(config, model, removed), pruned_weights(model, removed)
