"""Checkpoints of a run folder: ``best`` by validation, and ``last``."""

from pathlib import Path
from typing import Any

import torch

from headcount.config import ConfigError


def checkpoint_path(run: Path, name: str) -> Path:
    """Return where a checkpoint of a run is, ``best`` or ``last``; ConfigError where it is not."""
    path = run / "checkpoints" / f"{name}.ckpt"
    if not path.is_file():
        raise ConfigError(f"{run}: not a run folder with a checkpoint ({path} is missing)")
    return path


def load_checkpoint(run: Path, name: str) -> dict[str, Any]:
    """Load a checkpoint of a run to the CPU; ConfigError where it is missing or damaged."""
    path = checkpoint_path(run, name)
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise ConfigError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from None
    return content


def check_unchanged(run: Path, plain: dict[str, Any]) -> None:
    """Refuse a config that has another model, tokenizer or lengths than the run was trained with.

    Raises:
        ConfigError: it has; the key, its value and the run's.
    """
    trained = load_checkpoint(run, "best")["config"]
    lengths = "max_document_tokens", "max_summary_tokens"
    fixed = {"model": plain["model"], "tokenizer": plain["tokenizer"], "data": lengths}
    for section, names in fixed.items():
        for name in names:
            now, then = plain[section][name], trained[section][name]
            if now != then:
                raise ConfigError(f"{section}.{name}={now}: {run} was trained with another; legal: {then}")
