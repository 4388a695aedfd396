"""Stop a run at a step, and say whether two runs came to the same."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from headcount.commands import train as run


class Stopped(Exception):
    pass


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Stopped


@contextmanager
def watched(*callbacks: Callback) -> Iterator[None]:
    """Have further callbacks in whatever is trained."""
    made = run.make_trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            run,
            "make_trainer",
            lambda config, **ours: made(
                config, **{**ours, "callbacks": [*ours["callbacks"], *callbacks]}
            ),
        )
        yield


def stop_at(step: int, config: Any, *callbacks: Callback) -> None:
    """Train up to a step, at which the run ends as if by a fault."""
    with pytest.raises(Stopped), watched(StopAt(step)):
        run.train(config, callbacks=callbacks)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def logged(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run, without what tells the time."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k != "train/tokens_per_second"}
            for row in csv.DictReader(file)
        ]


def assert_same(one: Path, other: Path) -> None:
    """Hold two finished runs to be the same in weights, metrics and summaries."""
    assert (one / "finished").read_text() == (other / "finished").read_text()
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
    assert logged(one) == logged(other)
    for name in ("predictions.jsonl", "per_example_metrics.csv", "scores.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
