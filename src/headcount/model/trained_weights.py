"""Checks that trained weights belong to the model of a config, before memory is allocated for it.

Somebody else's export may state any size. A model of such a size is not built to find that out.
"""

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from headcount.config.schema import Config
from headcount.config.sections.model_attention import ATTENTION_SITES
from headcount.errors import ConfigError
from headcount.model.build import build_model
from headcount.model.cost import FLOAT_BYTES, cost

TABLE_COPIES = 4  # a table of positions, and the tensors from which it is computed
# The keys that set how many hypotheses of a document are in memory at a time, by strategy.
WIDTH_KEYS = {
    "greedy": ("num_return_sequences",),
    "beam": ("num_beams",),
    "sample": ("num_return_sequences",),
    "mbr": ("mbr_num_beams", "mbr_num_samples"),
}


def check_weights(weights: Mapping[str, Tensor], config: Config, vocabulary_size: int) -> None:
    """Check that weights have the sizes of a config, and that generation fits into memory.

    Args:
        weights: by name.
        config: of the model.
        vocabulary_size: number of tokens of the tokenizer.

    Raises:
        ConfigError: they are not the weights of this model, or memory cannot hold what the config
            asks for.
    """
    # Without memory a model is built quickly, unless it has very many layers or heads.
    _check_counts(weights, config)
    try:
        with torch.device("meta"):
            model = build_model(
                config.model, vocabulary_size=vocabulary_size, max_positions=config.max_positions
            )
    except (RuntimeError, OverflowError) as error:  # a number of values beyond 64 bits
        raise _not_of_this_model(" ".join(str(error).split())[:200]) from None
    expected = model.state_dict()
    _check_tensors(weights, expected)

    # Tables of positions are not among the weights: their size is that of the config alone.
    tables = sum(buffer.nbytes for name, buffer in model.named_buffers() if name not in expected)
    document_tokens = config.data.max_document_tokens
    summary_tokens = config.data.max_summary_tokens
    _check_memory(
        TABLE_COPIES * tables,
        f"data.max_document_tokens={document_tokens} and data.max_summary_tokens={summary_tokens}",
    )
    _check_generation(config, vocabulary_size)


def _check_tensors(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check names, types and shapes."""
    for name in expected.keys() | weights.keys():
        if name not in weights:
            raise _not_of_this_model(f"{name} is missing")
        if name not in expected:
            raise _not_of_this_model(f"it has no {name}")
        if not weights[name].is_floating_point():
            raise _not_of_this_model(f"{name} holds {weights[name].dtype}")
        shape = tuple(weights[name].shape)
        if shape != tuple(expected[name].shape):
            raise _not_of_this_model(
                f"{name} has the shape {shape}, not {tuple(expected[name].shape)}"
            )


def _check_counts(weights: Mapping[str, Tensor], config: Config) -> None:
    """Check the numbers of layers and of heads, which a model takes long to build from even
    without memory."""
    model = config.model
    for name in ("encoder_layers", "decoder_layers"):
        value = getattr(model, name)
        if value > len(weights):
            raise _not_of_this_model(f"model.{name}={value}, with {len(weights)} tensors")

    # A head is at least one row of some matrix.
    largest = max((max(tensor.shape, default=0) for tensor in weights.values()), default=0)
    for site in ATTENTION_SITES[model.architecture]:
        for layer in range(model.layers_of(site)):
            heads = model.heads_of(site, layer)
            if heads > largest:
                raise _not_of_this_model(
                    f"model.{site}_heads={heads}, with tensors up to {largest} wide"
                )


def _not_of_this_model(reason: str) -> ConfigError:
    return ConfigError(f"these weights are not of the model that the config describes: {reason}")


def _check_generation(config: Config, vocabulary_size: int) -> None:
    """Check that memory can hold the hypotheses of one document."""
    generation = config.generation
    cost_per_token = cost(
        config.model,
        vocabulary_size=vocabulary_size,
        max_positions=config.max_positions,
        document_tokens=1,
        summary_tokens=1,
    )
    for key in WIDTH_KEYS[generation.strategy]:
        width = getattr(generation, key)
        slots = width * generation.max_tokens
        cache = cost_per_token.cache_bytes_per_summary_token * slots
        logits = FLOAT_BYTES * width * vocabulary_size
        # Each hypothesis has a bias on all slots, see DecoderState.
        bias = FLOAT_BYTES * width * slots
        _check_memory(
            cache + logits + bias,
            f"generation.{key}={width} and generation.max_tokens={generation.max_tokens}",
        )


def _check_memory(needed: int, keys: str) -> None:
    if not hasattr(os, "sysconf"):  # Windows
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ConfigError(
            f"{keys} need {needed / 1e9:,.0f} GB of memory; legal: what fits into the "
            f"{memory / 1e9:,.0f} GB of this machine"
        )
