"""Training and generation on several processes.

Each process runs the same command on its share of the data. Only the first one prints.
"""

import json
import os
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from headcount.config.load import as_dict
from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.training.lightning_private import copies_this_process, use_rank_of
from headcount.watchdog import end_with_parent

# Environment variable: the process id of the first process, which has started this one.
FIRST_PROCESS = "HEADCOUNT_FIRST_PROCESS"


def silence_other_ranks(trainer: pl.Trainer) -> None:
    """Let only the first process of a run print, and end the others when it ends."""
    use_rank_of(trainer)
    first = os.environ.pop(FIRST_PROCESS, None)
    if first is not None:
        end_with_parent(int(first))
    if trainer.global_rank:
        sys.stdout = open(os.devnull, "w", errors="backslashreplace")  # noqa: SIM115  it stays open to the end


def check_strategy(trainer: pl.Trainer) -> None:
    """Check that the processes of a strategy run the command from its beginning.

    Raises:
        ConfigError: they start as copies of this process.
    """
    if copies_this_process(trainer):
        raise ConfigError(
            "trainer.strategy: its processes would not run this command from its beginning; "
            "legal: ddp"
        )


def start_other_ranks(
    trainer: pl.Trainer, folder: Path | None, *, arguments: Sequence[str] | None = None
) -> Path:
    """Start the other processes of a run, unless a launcher has started them, and return the
    folder of the first process on all of them.

    Args:
        trainer: its strategy knows how many processes there are, and how they are started.
        folder: the folder of the first process; None on the others.
        arguments: arguments of the command for the other processes; None: those of this process.
    """
    launcher = trainer.strategy.launcher
    if trainer.world_size > 1 and launcher is not None:
        # Lightning starts the others with sys.argv.
        own = sys.argv
        os.environ[FIRST_PROCESS] = str(os.getpid())
        sys.argv = [own[0], *(own[1:] if arguments is None else arguments)]
        try:
            launcher.launch(trainer.strategy.setup_environment)
        finally:
            sys.argv = own
            del os.environ[FIRST_PROCESS]
    elif trainer.world_size > 1:
        trainer.strategy.setup_environment()

    shared = trainer.strategy.broadcast(folder)
    assert shared is not None
    return shared


def check_same_config(trainer: pl.Trainer, config: Config) -> None:
    """Check that the processes of a run have read the same config.

    Raises:
        ConfigError: they have not: a file was edited between the starts of two of them.
    """
    texts = gather(trainer, [json.dumps(as_dict(config), sort_keys=True)])
    if len(set(texts)) > 1:
        raise ConfigError(
            "the processes of this run have read different configs: a file was edited while they "
            "started; legal: the same command again"
        )


def gather(trainer: pl.Trainer, mine: list[Any]) -> list[Any]:
    """Return the lists of all processes as one, in the order of their ranks."""
    parts = [mine] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(parts, mine)
    return list(chain.from_iterable(parts))
