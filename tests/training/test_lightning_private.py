"""What we rely on in Lightning's private parts.

A new version that behaves differently fails here.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities import rank_zero
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import Callback

from headcount.commands.evaluate import evaluate
from headcount.config.load import load, to_yaml
from headcount.training.lightning_private import (
    ShardingOnCPU,
    copies_this_process,
    is_accumulating,
    use_rank_of,
    validation_follows,
)
from headcount.training.trainer import make_trainer
from tests.training.stopping import weights


class Tiny(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        return self.layer(batch).mean()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watch(Callback):
    """Notes after each batch what the functions say, and after which batches a validation came."""

    def __init__(self) -> None:
        self.batches = 0
        self.announced: list[int] = []
        self.validated: list[int] = []
        self.accumulating: list[int] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.batches += 1
        if validation_follows(trainer):
            self.announced.append(self.batches)
        if is_accumulating(trainer):
            self.accumulating.append(self.batches)

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.validated.append(self.batches)


def fit(**arguments: Any) -> Watch:
    watch = Watch()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        num_sanity_val_steps=0,
        callbacks=[watch],
        **quiet,
        **arguments,
    )
    data = [torch.ones(2) for _ in range(7)]
    trainer.fit(Tiny(), torch.utils.data.DataLoader(data), torch.utils.data.DataLoader(data[:1]))
    return watch


@pytest.mark.parametrize(
    "arguments",
    [{"val_check_interval": 3}, {"val_check_interval": 1.0}, {"val_check_interval": 0.5}],
)
def test_a_validation_is_announced(arguments: dict[str, Any]) -> None:
    watch = fit(**arguments)
    assert watch.announced == watch.validated != []


def test_accumulation_is_seen() -> None:
    assert fit(accumulate_grad_batches=3).accumulating == [
        1,
        2,
        4,
        5,
        8,
        9,
        11,
        12,
    ]  # an epoch's last batch ends a step


@pytest.mark.parametrize(("strategy", "copies"), [("ddp_spawn", True), ("ddp", False)])
def test_strategies_that_copy(strategy: str, copies: bool) -> None:
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False)
    assert copies_this_process(trainer) is copies


def test_the_trainers_rank_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning believes another launcher's variables when it is imported."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.delattr(rank_zero_only, "rank")
    importlib.reload(rank_zero)
    assert rank_zero_only.rank == 3
    use_rank_of(pl.Trainer(accelerator="cpu", devices=1, logger=False))
    assert rank_zero_only.rank == 0


SHARDED = ["trainer.accelerator=cpu", "trainer.strategy=fsdp", "trainer.devices=2"]


def test_sharding_without_gpus_is_ours(small) -> None:
    trainer = make_trainer(small(*SHARDED), loggers=[], callbacks=[])
    assert isinstance(trainer.strategy, ShardingOnCPU)


@pytest.mark.slow
def test_a_sharded_training_on_a_cpu_gives_the_weights_of_ddp(small, tmp_path: Path) -> None:
    """Its checkpoint is whole: one process evaluates it, with the same scores."""
    for strategy in ("fsdp", "ddp"):
        changes = [f"trainer.strategy={strategy}", f"run.folder={tmp_path / strategy}"]
        config = small(*SHARDED, *changes, "model.dropout=0", "evaluation.baselines=[]")
        file = tmp_path / f"{strategy}.yaml"
        file.write_text(to_yaml(config))
        # A command of its own: the second rank is started with its arguments.
        subprocess.run([sys.executable, "-m", "headcount", "train", str(file)], check=True)
    sharded = weights(tmp_path / "fsdp")
    whole = weights(tmp_path / "ddp")
    assert sharded.keys() == whole.keys()
    for name, weight in whole.items():
        assert torch.allclose(sharded[name], weight, atol=1e-5), name

    one = load(
        [str(tmp_path / "fsdp" / "config.yaml")], ["trainer.strategy=auto", "trainer.devices=1"]
    )
    evaluate(tmp_path / "fsdp", one)
    scores = [
        json.loads((tmp_path / "fsdp" / name / "scores.json").read_text())["systems"]["model"]
        for name in (".", "evaluation-1")
    ]
    assert scores[0]["rouge1"]["mean"] == pytest.approx(scores[1]["rouge1"]["mean"], abs=1e-6)
