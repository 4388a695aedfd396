"""Fine-tuning: the weights of an earlier run, from which a training starts."""

import hashlib
import json
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from headcount.config.load import as_dict, flatten, from_dict
from headcount.config.paths import user_path
from headcount.config.schema import Config
from headcount.config.sections.model import ModelConfig
from headcount.config.sections.model_attention import ATTENTION_SITES
from headcount.data.sources import carving_difference
from headcount.data.tokenizer import load_tokenizer, vocabulary_size
from headcount.data.tokens import fingerprint
from headcount.errors import ConfigError
from headcount.model.build import build_model
from headcount.runs.checkpoint import load_checkpoint
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile
from headcount.terminal import print_line
from headcount.training.module import GATE_SCORES

PREFIX = "model."  # of the model's weights in a checkpoint of the Summarizer
# Keys of the model that change its training, and not what its weights compute.
ONLY_IN_TRAINING = ("start_from", "dropout", "attention_dropout", "layer_dropout", "coverage")
HEAD_KEYS = (
    "num_heads",
    "encoder_heads",
    "decoder_heads",
    "cross_heads",
    "head_dim",
    "num_kv_heads",
    "encoder_kv_heads",
    "decoder_kv_heads",
    "cross_kv_heads",
)


def read_initial_weights(config: Config, tokenizer: Tokenizer) -> dict[str, Tensor] | None:
    """Return the best weights of the run that ``model.start_from`` names.

    Args:
        config: of the run that starts.
        tokenizer: its tokenizer.

    Returns:
        The weights of the model by name, on the CPU; None if the model starts from random ones.

    Raises:
        ConfigError: there is no such run, it has another tokenizer or another model, or it has
            trained on examples that this run holds out.
    """
    if config.model.start_from is None:
        return None
    source = user_path("model.start_from", config.model.start_from)
    try:
        checkpoint = load_checkpoint(source, "best")
        source_tokenizer = load_tokenizer(source / RunFile.TOKENIZER)
    except ConfigError as error:
        raise ConfigError(
            f"model.start_from={config.model.start_from}: {error}; legal: a run folder or an "
            "export"
        ) from None

    # What the weights cannot be used with.
    if fingerprint(source_tokenizer) != fingerprint(tokenizer):
        raise ConfigError(
            f"model.start_from={config.model.start_from}: that run has another tokenizer; legal: "
            f"tokenizer.path={source / RunFile.TOKENIZER}"
        )
    if GATE_SCORES in checkpoint["state_dict"]:
        raise ConfigError(
            f"model.start_from={config.model.start_from}: that run has learned gates on its "
            f"heads; legal: what headcount prune {shlex.quote(str(source))} DIR --by gates writes"
        )

    check_model(checkpoint, source, config)
    check_carving(checkpoint, source, config)
    weights = {
        name.removeprefix(PREFIX): tensor for name, tensor in checkpoint["state_dict"].items()
    }
    _check_shapes(weights, checkpoint["config"], config, tokenizer)
    print_line(
        f"the weights are those of {source} at step {checkpoint['global_step']:,} "
        f"(model.start_from)"
    )
    return weights


def record_initial_weights(
    folder: Path, config: Config, weights: dict[str, Tensor] | None
) -> None:
    """Write which weights a run starts from, or check that they are those that it started from.

    Until a run has a checkpoint, the same command reads the weights again, and the run that they
    are of may have been trained again meanwhile.

    Args:
        folder: the run folder.
        config: of the run.
        weights: from ``read_initial_weights``.

    Raises:
        ConfigError: the run was started from other weights.
    """
    if weights is None:
        return

    # The run may have started before.
    sha256 = _digest(weights)
    record = folder / RunFile.INITIAL_WEIGHTS
    if record.exists():
        try:
            then = json.loads(record.read_text(encoding="utf-8"))["sha256"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ConfigError(
                f"{record}: not the record of the weights that the run wrote; legal: the file as "
                "it was, or --fresh"
            ) from None
        if then != sha256:
            raise ConfigError(
                f"model.start_from={config.model.start_from}: its weights have the SHA-256 "
                f"{sha256}, and {folder} was started from others; legal: {then}, or "
                "--fresh"
            )

    # It starts now, or again from the same weights.
    content = {"start_from": config.model.start_from, "sha256": sha256}
    write_atomically(record, json.dumps(content, indent=2))


def _digest(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names and values. A run and its export have the same."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


# What weights mean


def check_model(checkpoint: dict[str, Any], source: Path, config: Config) -> None:
    """Reject weights of another model, also where all shapes are equal.

    Four heads of width 8 have the shapes of eight heads of width 4.

    Args:
        checkpoint: of the run that a training starts from.
        source: where it is.
        config: of the training.

    Raises:
        ConfigError: a key that changes what the weights compute differs.
    """
    try:
        then = from_dict(checkpoint["config"], str(source)).model
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"model.start_from={config.model.start_from}: its checkpoint has no config; legal: a "
            "run folder or an export"
        ) from None
    now = config.model
    differing = []
    for name in _differing_keys(then, now):
        differing.append(
            f"model.{name}={_shown(getattr(then, name))} there and "
            f"{_shown(getattr(now, name))} here"
        )
    if differing:
        raise ConfigError(
            f"model.start_from={config.model.start_from}: that run has another model, "
            f"{', '.join(differing)}; legal: its settings"
        )


def check_carving(checkpoint: dict[str, Any], source: Path, config: Config) -> None:
    """Reject weights that were trained on examples of this run's carved splits.

    Args:
        checkpoint: of the run that a training starts from.
        source: where it is.
        config: of the training.

    Raises:
        ConfigError: that run carved the same training split in another way.
    """
    then = from_dict(checkpoint["config"], str(source)).data
    difference = carving_difference(config.data, then)
    if difference is not None:
        raise ConfigError(
            f"model.start_from={config.model.start_from}: {difference.key}={difference.there} "
            f"there and {difference.here} here, so that examples which are carved out of the "
            "training split here may be among those that it has learned from; legal: "
            f"{difference.key}={difference.there}"
        )


def _differing_keys(then: ModelConfig, now: ModelConfig) -> list[str]:
    """Return the keys in which two models differ in what their weights compute."""
    has_same_heads = _heads(then) == _heads(now)
    differing = []
    for field in fields(ModelConfig):
        name = field.name
        if name in ONLY_IN_TRAINING or getattr(then, name) == getattr(now, name):
            continue
        # Heads are compared block by block: several values of these keys mean the same.
        if name in HEAD_KEYS and (has_same_heads or _follows(name, then) and _follows(name, now)):
            continue
        differing.append(name)
    return differing


def _heads(model: ModelConfig) -> list[tuple[str, int, int, int, int]]:
    """Return site, layer, heads, key-value heads and their width of each attention block."""
    blocks = []
    for site in ATTENTION_SITES[model.architecture]:
        for layer in range(model.layers_of(site)):
            heads = model.heads_of(site, layer)
            kv_heads = model.kv_heads_of(site, layer)
            blocks.append((site, layer, heads, kv_heads, model.head_dim_of(site, layer)))
    return blocks


def _follows(name: str, model: ModelConfig) -> bool:
    """Return whether a key of one site has the value of the key of all sites."""
    general = "num_kv_heads" if name.endswith("_kv_heads") else "num_heads"
    is_of_site = name not in ("num_heads", "num_kv_heads", "head_dim")
    return is_of_site and bool(getattr(model, name) == getattr(model, general))


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _check_shapes(
    weights: dict[str, Tensor], source_config: dict[str, Any], config: Config, tokenizer: Tokenizer
) -> None:
    """Reject weights of other names or shapes, such as those of more positions."""
    with torch.device("meta"):
        model = build_model(
            config.model,
            vocabulary_size=vocabulary_size(tokenizer),
            max_positions=config.max_positions,
        )
    needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found == needed:
        return

    # The lengths, on which the number of learned positions depends, explain them better than a
    # weight's name does.
    then = flatten(source_config)
    now = flatten(as_dict(config))
    differing = []
    for name in now:
        if name.startswith("data.max_") and name in then and then[name] != now[name]:
            differing.append(f"{name}={then[name]}")
    [first, *_] = sorted(
        name for name in needed.keys() | found.keys() if needed.get(name) != found.get(name)
    )
    raise ConfigError(
        f"model.start_from={config.model.start_from}: that run has other shapes, {first} is "
        f"{_shape(found.get(first))} there and {_shape(needed.get(first))} here; legal: its "
        f"settings, {', '.join(differing) or 'none differs'}"
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else " x ".join(map(str, shape))
