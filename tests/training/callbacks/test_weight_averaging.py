"""A moving average of the weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback

from headcount.commands import train as run
from headcount.errors import ConfigError
from headcount.runs.checkpoint import load_checkpoint
from headcount.training.callbacks.weight_averaging import averaging
from headcount.training.module import Summarizer
from tests.training.stopping import watched

STEPS = 6


class Recorder(Callback):
    """Keeps the weights after each step, and those that are there in a validation."""

    def __init__(self) -> None:
        self.trained: list[Any] = []
        self.validated: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.trained.append(copied(pl_module))

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.validated.append(copied(pl_module))


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_a_run_validates_and_writes_by_the_average(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        Summarizer,
        "plot_attention",
        lambda self, *_, **__: drawn.append(copied(self)) or Figure((1, 1)),
    )
    with watched(recorder := Recorder()):
        run.train(small("optimizer.ema_decay=0.4", f"trainer.max_steps={STEPS}", "run.folder=averaged",
                         "trainer.val_check_interval=4", "tracking.mode=offline"))  # fmt: skip
    validation_picture, test_picture = drawn[-2:]
    with watched(alone := Recorder()):
        run.train(
            small(f"trainer.max_steps={STEPS}", "run.folder=alone", "trainer.val_check_interval=4")
        )
    last, best = (
        load_checkpoint(Path("averaged"), "last"),
        load_checkpoint(Path("averaged"), "best"),
    )
    for name, mean in recorder.trained[0].items():
        assert all(
            torch.equal(a[name], b[name])
            for a, b in zip(recorder.trained, alone.trained, strict=True)
        )
        for updates, step in enumerate(recorder.trained[1:], 1):
            kept = min(0.4, (1 + updates) / (10 + updates))
            mean = kept * mean + (1 - kept) * step[name]
            if updates == 3:
                torch.testing.assert_close(best["state_dict"][name], mean)
        torch.testing.assert_close(last["state_dict"][name], mean)
        for found in (recorder.validated[-1], validation_picture, test_picture):
            assert torch.equal(found[name], best["state_dict"][name])
        assert torch.equal(last["current_model_state"][name], alone.trained[-1][name])


def test_what_it_does_not_go_with(small) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^optimizer.ema_decay=0.9 does not go with trainer.precision=bf16-true;",
    ):
        run.train(small("optimizer.ema_decay=0.9", "trainer.precision=bf16-true"))
    sharded: Any = SimpleNamespace(precision="bf16-mixed", strategy="fsdp")
    with pytest.raises(
        ConfigError, match=r"^optimizer.ema_decay=0.9 does not go with weights that .*; legal: "
    ):
        averaging(small("optimizer.ema_decay=0.9"), sharded)
