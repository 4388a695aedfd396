import csv
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, DeviceStatsMonitor

from headcount.commands.train import train
from headcount.errors import ConfigError
from headcount.training.callbacks.monitors import monitors
from tests.training.stopping import assert_same, stop_at, weights

EACH = ["trainer.log_every_n_steps=1", "evaluation.baselines=[]", "model.dropout=0.2"]


def rows_of(folder: Path, column: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


class Norms(Callback):
    """The norm of the gradient, computed another way."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        squares = [float(each.grad.double().square().sum()) for each in pl_module.parameters()]
        self.found.append(math.sqrt(sum(squares)))


def test_learning_rate_and_gradient_norm_are_logged(small, tmp_path: Path) -> None:
    norms = Norms()
    muon = ["optimizer.name=muon", "optimizer.muon_learning_rate=0.02", "optimizer.warmup_steps=2"]
    clipped = ["trainer.gradient_clip_val=0.1", "optimizer.schedule=constant"]
    train(small(*EACH, *muon, *clipped, "run.folder=run"), callbacks=[norms])
    assert rows_of(tmp_path / "run", "train/gradient_norm") == pytest.approx(norms.found, rel=1e-4)
    assert min(norms.found) > 0.1  # it is the norm before clipping
    rates = [0.001 / 3, 0.002 / 3, 0.001, 0.001]
    assert rows_of(tmp_path / "run", "train/learning_rate") == pytest.approx(rates)
    rates = [20 * rate for rate in rates]
    assert rows_of(tmp_path / "run", "train/muon_learning_rate") == pytest.approx(rates)


def test_with_learned_gates_the_learning_rate_is_that_of_the_weights(
    small, tmp_path: Path
) -> None:
    gates = ["heads.gates=l0", "heads.gates_learning_rate=0.5"]
    constant = ["optimizer.schedule=constant", "optimizer.warmup_steps=0"]
    train(small(*EACH, *gates, *constant, "optimizer.learning_rate=0.002", "run.folder=run"))
    assert rows_of(tmp_path / "run", "train/learning_rate") == pytest.approx([0.002] * 4)


def test_they_change_no_weight_and_are_exact_under_resume(small, tmp_path: Path) -> None:
    """With load of the CPU, too, of which every value is another."""
    steps = [*EACH, "trainer.max_steps=6", "trainer.accumulate_grad_batches=2"]
    off = ["callbacks.learning_rate=false", "callbacks.gradient_norm=false"]
    train(small(*steps, *off, "run.folder=off"))
    train(small(*steps, "run.folder=whole"))
    first, second = weights(tmp_path / "off"), weights(tmp_path / "whole")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not rows_of(tmp_path / "off", "train/gradient_norm")

    cut = small(*steps, "run.folder=cut")
    stop_at(3, cut)
    train(cut)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_device_stats(small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil", reason="needs headcount[device-stats]")
    on = "callbacks.device_stats=true"
    train(small(*EACH, "run.folder=plain"))
    stop_at(3, small(*EACH, on, "run.folder=run"))
    train(small(*EACH, on, "run.folder=run"))
    column = "DeviceStatsMonitor.on_train_batch_end/cpu_percent"
    assert len(rows_of(tmp_path / "run", column)) == 4
    for column in ("train/loss", "train/gradient_norm", "validation/loss"):
        assert rows_of(tmp_path / "run", column) == rows_of(tmp_path / "plain", column)

    monkeypatch.setattr("headcount.runs.loggers.find_spec", lambda name: None)
    message = r"^callbacks.device_stats=True needs .* pip install 'headcount\[device-stats\]'$"
    with pytest.raises(ConfigError, match=message):
        train(small(on, "seed=7"))


def test_only_the_first_rank_has_device_stats(small) -> None:
    """Lightning rejects them on a rank without loggers."""
    config = small("callbacks.device_stats=true")
    assert any(
        isinstance(each, DeviceStatsMonitor) for each in monitors(config, is_first_rank=True)
    )
    names = [type(each).__name__ for each in monitors(config, is_first_rank=False)]
    assert names == ["LearningRate", "GradientNorm"]


def test_callbacks_from_python_keep_their_state(small, tmp_path: Path) -> None:
    class Counter(Callback):
        steps = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.steps += 1

        def state_dict(self) -> dict[str, Any]:
            return {"steps": self.steps}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.steps = state_dict["steps"]

    stop_at(3, small("run.folder=run"), Counter())
    counter = Counter()
    assert train(small("run.folder=run"), callbacks=[counter]) == Path("run")
    assert counter.steps == 4
