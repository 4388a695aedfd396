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
