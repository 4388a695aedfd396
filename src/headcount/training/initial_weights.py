"""Fine-tuning: the weights of an earlier run, from which a training starts."""

import shlex

import torch
from tokenizers import Tokenizer
from torch import Tensor

from headcount.config.load import as_dict, flatten
from headcount.config.paths import user_path
from headcount.config.schema import Config
from headcount.data.tokenizer import load_tokenizer, vocabulary_size
from headcount.data.tokens import fingerprint
from headcount.errors import ConfigError
from headcount.model.build import build_model
from headcount.runs.checkpoint import load_checkpoint
from headcount.runs.folder import RunFile
from headcount.terminal import print_line
from headcount.training.module import GATE_SCORES

PREFIX = "model."  # of the model's weights in a checkpoint of the Summarizer


def read_initial_weights(config: Config, tokenizer: Tokenizer) -> dict[str, Tensor] | None:
    """Return the best weights of the run that ``model.start_from`` names.

    Args:
        config: of the run that starts.
        tokenizer: its tokenizer.

    Returns:
        The weights of the model by name, on the CPU; None if the model starts from random ones.

    Raises:
        ConfigError: there is no such run, or it has another tokenizer or other shapes.
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

    weights = {
        name.removeprefix(PREFIX): tensor for name, tensor in checkpoint["state_dict"].items()
    }
    _check_shapes(weights, checkpoint.get("config", {}), config, tokenizer)
    print_line(
        f"the weights are those of {source} at step {checkpoint['global_step']:,} "
        f"(model.start_from)"
    )
    return weights


def _check_shapes(
    weights: dict[str, Tensor],
    source_config: dict[str, object],
    config: Config,
    tokenizer: Tokenizer,
) -> None:
    """Reject weights of other names or shapes; the message names the keys that differ."""
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

    # The settings that differ explain the shapes better than a weight's name does.
    then = flatten(source_config)
    now = flatten(as_dict(config))
    differing = []
    for name in now:
        is_of_shapes = name.startswith(("model.", "data.max_")) and name != "model.start_from"
        if is_of_shapes and name in then and then[name] != now[name]:
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
