"""The settings that users of Lightning and its templates know for finding faults.

``limit_*_batches``, ``overfit_batches`` and ``fast_dev_run`` are also in test_data_module.py and
test_train.py, accumulation in test_resume.py.
"""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, DeviceStatsMonitor
from pytorch_lightning.demos.boring_classes import BoringModel

import headcount
from headcount.commands.train import train
from headcount.training.module import Summarizer
from headcount.training.trainer import make_trainer

EVERY_STEP = ["trainer.log_every_n_steps=1"]
SHORT = ["trainer.max_steps=2", "evaluation.baselines=[]", "evaluation.validation_examples=2"]


class Recorder(Callback):
    """Keeps the rows of each training and each validation batch."""

    def __init__(self) -> None:
        self.trained: list[list[int]] = []
        self.validated: list[list[int]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, *_: Any
    ) -> None:
        self.trained.append(batch.indices)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, *_: Any
    ) -> None:
        self.validated.append(batch.indices)


@pytest.mark.parametrize("profiler", ["simple", "advanced"])
def test_the_profile_is_printed(profiler: str, small, caplog: pytest.LogCaptureFixture) -> None:
    """Lightning logs it, on standard error; we do not silence that."""
    train(small(*SHORT, f"trainer.profiler={profiler}"))
    assert "FIT Profiler Report" in caplog.text and "run_training_batch" in caplog.text
    assert "Summarizer.optimizer_step" in caplog.text


def test_the_trace_of_torchs_profiler_is_in_the_run_folder(small, tmp_path: Path) -> None:
    """Without a folder Lightning writes none, and only warns."""
    config = small(*SHORT, "trainer.profiler=pytorch", "trainer.val_check_interval=1")
    trainer = make_trainer(config, loggers=[], callbacks=[], folder=tmp_path / "run")
    trainer.fit(BoringModel())
    traces = list((tmp_path / "run" / "profiler").glob("*.pt.trace.json"))
    assert traces and "traceEvents" in traces[0].read_text()


def test_a_fast_run_has_the_callbacks_of_the_config(
    small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So one that fails is found in the first second."""
    pytest.importorskip("psutil", reason="needs headcount[device-stats]")
    trainers = []

    def remember(self: pl.Trainer, *_: Any, **__: Any) -> None:
        trainers.append(self)

    recorder = Recorder()
    monkeypatch.setattr(pl.Trainer, "predict", remember)
    wanted = ["learning_rate", "gradient_norm", "device_stats"]
    overrides = [f"callbacks.{name}=true" for name in wanted]
    train(small("trainer.fast_dev_run=true", *EVERY_STEP, *overrides), callbacks=[recorder])
    assert recorder.trained
    logged = trainers[0].callback_metrics
    assert {"train/learning_rate", "train/gradient_norm"} <= set(logged)
    assert any(isinstance(each, DeviceStatsMonitor) for each in trainers[0].callbacks)


def test_the_layers_are_printed(small, capsys: pytest.CaptureFixture[str]) -> None:
    """With FLOPs, of the module's example batch."""
    train(small("trainer.fast_dev_run=true", "trainer.enable_model_summary=true"))
    printed = capsys.readouterr().out
    assert "Total params: " in printed and "FLOPs" in printed


def test_an_anomaly_is_named_by_its_operation(small, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Summarizer.training_step

    def step_with_nan(self: Summarizer, batch: Any, index: int) -> torch.Tensor:
        loss = step(self, batch, index)
        return loss + torch.sqrt(0 * loss)  # its gradient is 0 * infinity

    monkeypatch.setattr(Summarizer, "training_step", step_with_nan)
    with pytest.raises(RuntimeError, match="MulBackward0' returned nan"):
        train(small(*SHORT, "trainer.detect_anomaly=true"))


def test_a_part_of_each_epoch_and_a_part_of_the_validation(small) -> None:
    recorder = Recorder()
    epochs = ["trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1"]
    limits = [
        "trainer.limit_train_batches=0.5",
        "trainer.limit_val_batches=2",
        "generation.batch_size=2",
    ]
    config = small(*epochs, *limits, "trainer.val_check_interval=1.0", "evaluation.baselines=[]")
    train(config, callbacks=[recorder])
    assert len(recorder.trained) == 2 * 3  # of seven batches
    assert [len(rows) for rows in recorder.validated] == [2] * 4
    assert recorder.validated[:2] == recorder.validated[2:]


def test_overfitting_repeats_the_same_batches(small) -> None:
    recorder = Recorder()
    train(small(*SHORT, "trainer.max_steps=6", "trainer.overfit_batches=2"), callbacks=[recorder])
    assert recorder.trained == 3 * recorder.trained[:2]
    assert recorder.trained[0] != recorder.trained[1]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_a_compiled_model_computes_the_same(backend: str, small) -> None:
    """As docs/lightning.md compiles it. Its checkpoints have the names of any other."""
    data = headcount.build_data(small("model.dropout=0"))
    plain = headcount.build_module(data.config, data)
    plain.configure_model()
    compiled = headcount.build_module(data.config, data)
    compiled.configure_model()
    compiled.load_state_dict(plain.state_dict())
    compiled.model.compile(backend=backend, dynamic=True)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for rows in ([0, 1, 2], [3, 4], [5, 6, 7, 8]):
        batch = data.splits["train"].batch(rows)
        losses = []
        for module in (plain, compiled):
            output, targets = module.forward_batch(batch)
            losses.append(output.loss(targets))
        torch.testing.assert_close(losses[0], losses[1])
