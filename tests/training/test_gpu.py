"""Trainings on GPUs. ``make gpu-check`` runs these on a machine that has some."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from headcount.commands.evaluate import evaluate
from headcount.commands.train import train
from headcount.config.load import load, to_yaml
from headcount.training.module import Summarizer
from tests.training.stopping import assert_same, stop_at

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
GPU = ["trainer.accelerator=gpu", "trainer.log_every_n_steps=1", "evaluation.baselines=[]"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "bf16-true"])
def test_a_training(precision: str, optimizer: str, small, tmp_path: Path) -> None:
    changes = [f"trainer.precision={precision}", f"optimizer.name={optimizer}"]
    train(small(*GPU, *changes, "run.folder=run"))
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["examples"] == 12
    assert json.loads((tmp_path / "run" / "costs.json").read_text())["device"] != "cpu"


def test_resume_is_exact_in_deterministic_mode(small, tmp_path: Path) -> None:
    changes = [*GPU, "trainer.deterministic=true", "model.dropout=0.2", "trainer.max_steps=6"]
    train(small(*changes, "run.folder=whole"))
    cut = small(*changes, "run.folder=cut")
    stop_at(5, cut)
    train(cut)
    assert_same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_a_sharded_training_evaluates_on_one_process(small, tmp_path: Path) -> None:
    """FSDP on two GPUs; that on a CPU is in test_lightning_private.py."""
    folder = tmp_path / "run"
    sharded = [*GPU, "trainer.strategy=fsdp", "trainer.devices=2", f"run.folder={folder}"]
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(small(*sharded)))
    # A command of its own: the second rank is started with its arguments.
    command = [sys.executable, "-m", "headcount", "train", str(file)]
    subprocess.run(command, check=True)

    one = load([str(folder / "config.yaml")], ["trainer.strategy=auto", "trainer.devices=1"])
    evaluate(folder, one)
    scores = [
        json.loads((folder / name / "scores.json").read_text())["systems"]["model"]
        for name in (".", "evaluation-1")
    ]
    assert scores[0]["rouge1"]["mean"] == pytest.approx(scores[1]["rouge1"]["mean"], abs=1e-6)
    assert Summarizer.load_from_checkpoint(folder / "checkpoints" / "best.ckpt").token_ids
