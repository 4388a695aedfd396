"""Several processes of one run: each runs the same command on its share of the data; the first speaks for all."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.rank_zero import _get_rank
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from headcount.config import ConfigError

logging.getLogger("lightning_fabric.utilities.distributed").setLevel(logging.WARNING)


def silence_all_but_the_first() -> None:
    """Drop what this process prints, unless it is the first."""
    if _get_rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  it stays open to the end


def check_strategy(trainer: pl.Trainer) -> None:
    """Refuse a strategy whose processes do not run the command from its beginning.

    Raises:
        ConfigError: it is one of those.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise ConfigError("trainer.strategy: its processes would not run this command from its beginning; legal: ddp")


def share(trainer: pl.Trainer, folder: Path | None) -> Path:
    """Start the other processes, unless something did, and give them the folder that the first process has."""
    launcher = trainer.strategy.launcher
    if trainer.world_size > 1 and launcher is not None:
        launcher.launch(trainer.strategy.setup_environment)
    elif trainer.world_size > 1:
        trainer.strategy.setup_environment()
    shared = trainer.strategy.broadcast(folder)
    assert shared is not None
    return shared


def gather(trainer: pl.Trainer, mine: list[Any]) -> list[Any]:
    """Return what each process has, end to end."""
    parts = [mine] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(parts, mine)
    return [item for part in parts for item in part]
