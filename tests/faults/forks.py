"""Runs in processes of their own, forked from one that has imported everything.

A case costs no import of torch.
"""

import io
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback

from headcount.commands import train as run
from headcount.config.load import load
from headcount.training.module import Summarizer
from tests.conftest import SMALL
from tests.training.stopping import watched

STEPS = 14  # two epochs
CHANGES = [
    "model.dropout=0.2",
    "trainer.log_every_n_steps=1",
    "trainer.max_steps=14",
    "trainer.val_check_interval=3",
    "evaluation.validation_examples=2",
    "evaluation.baselines=[lead-1]",
    "data.path=data",
    "data.cache_dir=cache",
]
PLACES = [
    "on_train_batch_start",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_batch_end",
]


class Do(Callback):
    """Does something at a step, at the first of its hooks that is called there."""

    def __init__(self, step: int, place: str, what: Callable[[], object]) -> None:
        self.step, self.what, self.done = step, what, False
        setattr(self, place, self._do)

    def _do(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.done:
            self.done = True
            self.what()


def kill(number: int) -> None:
    """Send this very process a signal."""
    os.kill(os.getpid(), number)


def overrides(folder: str, *changes: str) -> list[str]:
    return [*SMALL, *CHANGES, f"run.folder={folder}", *changes]


def train(arguments: list[str], *callbacks: Callback) -> None:
    """Train in this process, as a command would, in silence."""
    torch.set_num_threads(1)
    # half of a small run
    Summarizer.plot_attention = lambda *_, **__: Figure(figsize=(1, 1))
    with redirect_stdout(io.StringIO()), watched(*callbacks):
        run.train(load([], arguments))


def _at(arguments: list[str], step: int, place: str, number: int) -> None:
    train(arguments, Do(step, place, lambda: kill(number)))


def at_first(arguments: list[str], step: int, place: str, number: int) -> None:
    """Train until a signal comes to the first process alone."""
    train(
        arguments,
        *([] if int(os.environ["LOCAL_RANK"]) else [Do(step, place, lambda: kill(number))]),
    )


def _one_of_two(rank: int, port: int, target: Callable[..., None], *arguments: Any) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0", LOCAL_RANK=str(rank)
    )
    target(*arguments)


class Forks:
    """Starts processes that have everything imported.

    They are forked from a server in which nothing was ever trained: torch's threads would not
    outlive that.
    """

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            ["headcount.commands.train", "matplotlib.figure", "pytest"]
        )

    def start(self, target: Callable[..., None], *arguments: Any) -> Any:
        process = self.context.Process(target=target, args=arguments)
        process.start()
        return process

    def run(self, target: Callable[..., None], *arguments: Any, processes: int = 1) -> list[int]:
        """Run to the end; return the exit codes, which are negative for a signal."""
        if processes == 1:
            started = [self.start(target, *arguments)]
        else:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            started = [
                self.start(_one_of_two, rank, port, target, *arguments)
                for rank in range(processes)
            ]
        for process in started:
            process.join(120)
        assert all(process.exitcode is not None for process in started), "it hangs"
        return [process.exitcode for process in started]

    def train(self, folder: str | Path, *changes: str, processes: int = 1) -> None:
        """Train to the end."""
        arguments = overrides(str(folder), *changes)
        assert self.run(train, arguments, processes=processes) == [0] * processes

    def stop(
        self,
        folder: str | Path,
        step: int,
        place: str,
        number: int,
        *changes: str,
        processes: int = 1,
    ) -> list[int]:
        """Train until a signal comes at a step; return the exit codes."""
        return self.run(
            _at, overrides(str(folder), *changes), step, place, number, processes=processes
        )


KILLED = -signal.SIGKILL
