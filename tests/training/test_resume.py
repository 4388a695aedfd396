"""A run that was cut goes on as if it had not been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from headcount.compose import to_yaml
from headcount.data.module import SummarizationDataModule
from headcount.training import run
from headcount.training.seeding import SeededSteps
from headcount.training.summarizer import Summarizer

EPOCH = 7  # batches; the test below checks it
STEADY = "optimizer.schedule=constant"  # the others depend on the number of steps, in which these runs differ


class Recorder(Callback):
    """Keeps what each training batch was made of."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any) -> None:
        self.batches.append(batch.indices)


def fit(small, folder: Path, steps: int, checkpoint: Path | None = None, *overrides: str) -> tuple[Any, Any]:
    """Train, with a checkpoint at every step and a validation at every third; return batches and weights."""
    config, plain = small("model.dropout=0.2", STEADY, *overrides)
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, plain, data.tokenizer)
    recorder, keep = Recorder(), ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = pl.Trainer(
        max_steps=steps, max_epochs=-1, val_check_interval=3, check_val_every_n_epoch=None, num_sanity_val_steps=0,
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=[recorder, keep, SeededSteps(config.seed)],
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(summarizer, data, ckpt_path=checkpoint, weights_only=True)
    assert trainer.num_training_batches == EPOCH
    return recorder.batches, summarizer.state_dict()


def test_cut_at_every_step_of_two_epochs(small, tmp_path: Path) -> None:
    """Batches and weights, dropout included, are those of the run that was not cut, whatever makes the batches."""
    steps = 2 * EPOCH + 2
    batches, weights = fit(small, tmp_path / "whole", steps)
    assert len(batches) == steps and batches[:EPOCH] != batches[EPOCH : 2 * EPOCH]
    for cut in range(1, 2 * EPOCH + 1):
        workers = ["data.num_workers=1"] if cut == EPOCH + 2 else []
        rest, resumed = fit(small, tmp_path / f"cut{cut}", steps, tmp_path / "whole" / f"step={cut}.ckpt", *workers)
        assert rest == batches[cut:], cut
        assert all(torch.equal(resumed[name], weights[name]) for name in weights), cut


def test_killed_and_resumed(small, tmp_path: Path) -> None:
    config, plain = small(STEADY, "model.dropout=0.2", "trainer.max_steps=100000", "evaluation.validation_examples=1")
    (tmp_path / "config.yaml").write_text(to_yaml(plain))
    last = Path(config.run.directory) / "run-1" / "checkpoints" / "last.ckpt"
    command = [sys.executable, "-m", "headcount", "train", str(tmp_path / "config.yaml")]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here: sums depend on it in their last bit
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=one_thread)
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    step = torch.load(last, weights_only=True)["global_step"]
    more = [STEADY, "model.dropout=0.2", f"trainer.max_steps={step + 5}", "evaluation.validation_examples=1"]
    for number, resume in ((2, [f"run.resume={last.parents[1]}"]), (3, [])):
        run.train(*small(*more, "run.name=run", *resume))
        assert (last.parents[2] / f"run-{number}").is_dir()
    ends = [torch.load(last.parents[2] / f"run-{n}/checkpoints/last.ckpt", weights_only=True) for n in (2, 3)]
    assert all(torch.equal(ends[0]["state_dict"][name], value) for name, value in ends[1]["state_dict"].items())


def test_a_stream_goes_on_too(small, tmp_path: Path) -> None:
    more = "data.streaming=true", "data.shuffle_buffer=8", STEADY, "model.dropout=0.2", "trainer.val_check_interval=3"
    for changes in (["trainer.max_steps=9"], ["trainer.max_steps=3"], [f"run.resume={tmp_path / 'runs' / 'run-2'}"]):
        run.train(*small(*more, "trainer.max_steps=9", *changes))
    ends = [torch.load(tmp_path / f"runs/run-{n}/checkpoints/last.ckpt", weights_only=True) for n in (1, 3)]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 9
    assert all(torch.equal(ends[0]["state_dict"][name], value) for name, value in ends[1]["state_dict"].items())
