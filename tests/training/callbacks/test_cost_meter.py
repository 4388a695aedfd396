import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from headcount.data.tokenizer import vocabulary_size
from headcount.model.cost import forward_flops
from headcount.training.callbacks.cost_meter import TrainingCosts, add_costs
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer


class Clock(Callback):
    """Time passes in steps, a second each, and in validation; counts what is trained on."""

    def __init__(self) -> None:
        self.now = 100
        self.lengths: list[tuple[int, int]] = []
        self.speed: float | None = None  # as logged at the last step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any
    ) -> None:
        self.lengths += zip(batch.document_lengths, batch.summary_lengths, strict=True)
        self.now += 1

    def on_validation_batch_start(self, *_: Any) -> None:
        self.now += 50

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.speed = trainer.callback_metrics["train/tokens_per_second"].item()


@pytest.fixture
def fit(small, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], Clock]]:
    """Train with a checkpoint at every step and a validation at every other; return the costs."""
    config = small("evaluation.validation_examples=2")

    def train(
        folder: Path, steps: int, checkpoint: Path | None = None
    ) -> tuple[dict[str, Any], Clock]:
        data = SummarizationDataModule(config)
        data.setup()
        folder.mkdir(exist_ok=True)
        clock, keep = (
            Clock(),
            ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1),
        )
        monkeypatch.setattr(
            "headcount.training.callbacks.cost_meter.time",
            SimpleNamespace(perf_counter=lambda: clock.now),
        )
        costs = TrainingCosts(folder, config, vocabulary_size(data.tokenizer))
        trainer = pl.Trainer(
            max_steps=steps, max_epochs=-1, val_check_interval=2, check_val_every_n_epoch=None, num_sanity_val_steps=1,
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, callbacks=[clock, costs, keep],
        )  # fmt: skip
        trainer.fit(
            Summarizer(config, data.tokenizer), data, ckpt_path=checkpoint, weights_only=True
        )
        return json.loads((folder / "costs.json").read_text()), clock

    return train


def test_a_training_counts_its_true_lengths_and_no_validation(small, fit, tmp_path: Path) -> None:
    model = small().model
    costs, clock = fit(tmp_path / "run", 4)
    assert costs["training_tokens"] == sum(map(sum, clock.lengths))
    forward = sum(
        forward_flops(model, 300, document, summary - 1) for document, summary in clock.lengths
    )
    assert costs["training_flops"] == 3 * forward
    assert clock.now > 200 and costs["training_seconds"] == 4
    assert costs["tokens_per_second"] == costs["training_tokens"] / 4
    assert clock.speed == pytest.approx(costs["tokens_per_second"])
    assert costs["kv_cache_bytes"] == 4 * 2 * 32 * (
        96 + 32
    )  # one layer's keys and values of both sides, in fp32
    [environment] = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["device"] == "cpu" and environment["processes"] == 1
    assert costs["device"] == "cpu" and 50e6 < costs["peak_memory_bytes"] < 50e9


def test_a_resumed_training_costs_what_an_uninterrupted_one_does(fit, tmp_path: Path) -> None:
    """Also one of which nothing is left to train."""
    whole, _ = fit(tmp_path / "whole", 4)
    fit(tmp_path / "cut", 3)
    for step in (2, 4):
        rest, clock = fit(tmp_path / "cut", 4, tmp_path / "cut" / f"step={step}.ckpt")
        assert bool(clock.lengths) == (step < 4)
        if clock.lengths:
            assert clock.speed == pytest.approx(whole["tokens_per_second"])
        assert {**rest, "peak_memory_bytes": 0} == {**whole, "peak_memory_bytes": 0}


@pytest.mark.parametrize("there", [{}, {"parameters": 7, "decode_ms_per_summary": 1.0}])
def test_costs_are_added_to_what_is_there(there: dict[str, float], tmp_path: Path) -> None:
    if there:
        add_costs(tmp_path, there)
    add_costs(tmp_path, {"decode_ms_per_summary": 2.5})
    assert json.loads((tmp_path / "costs.json").read_text()) == there | {
        "decode_ms_per_summary": 2.5
    }
    assert [path.name for path in tmp_path.iterdir()] == ["costs.json"]
