"""A run that was cut goes on as if it had not been."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from headcount.commands import train as run
from headcount.commands.evaluate import evaluate
from headcount.commands.summarize import summarize
from headcount.config.load import load, to_yaml
from headcount.data.tokenizer import START
from headcount.errors import ConfigError
from headcount.training.callbacks.step_seeding import SeededSteps
from headcount.training.callbacks.weight_averaging import averaging
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer
from tests.training.stopping import assert_same, logged, stop_at, watched

EPOCH = 7  # batches; the test below checks it
# the others depend on the number of steps, in which these runs differ
STEADY = "optimizer.schedule=constant"


class Recorder(Callback):
    """Keeps what each training batch was made of."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any
    ) -> None:
        self.batches.append(batch.indices)


STAGES = (
    "stages=[{steps: 2,objective: infill},{steps: 3,objective: gap_sentences},{}]",
    "evaluation.unit=line",
    "optimizer.schedule=cosine",
    "optimizer.warmup_steps=1",
    "optimizer.name=muon",
    "optimizer.ema_decay=0.9",
    "trainer.gradient_clip_val=0.5",
)


def fit(
    small, folder: Path, steps: int, checkpoint: Path | None = None, *overrides: str
) -> tuple[Any, Any]:
    """Train, with a checkpoint at every step and a validation at every third.

    Return batches and weights.
    """
    config = small("model.dropout=0.2", STEADY, *overrides)
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, data.tokenizer)
    recorder, keep = (
        Recorder(),
        ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1),
    )
    trainer = pl.Trainer(
        max_steps=steps, max_epochs=-1, val_check_interval=3, check_val_every_n_epoch=None, num_sanity_val_steps=0,
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=[recorder, keep, SeededSteps(config.seed)],
        gradient_clip_val=config.trainer.get("gradient_clip_val"),
    )  # fmt: skip
    # Before the checkpoint, which holds the average after the step.
    trainer.callbacks[:0] = averaging(config, trainer)
    torch.manual_seed(0)
    trainer.fit(summarizer, data, ckpt_path=checkpoint, weights_only=True)
    if not config.stages:
        assert trainer.num_training_batches == EPOCH
    return recorder.batches, summarizer.state_dict()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_cut_at_every_step_of_two_epochs(small, optimizer: str, tmp_path: Path) -> None:
    """Batches and weights, dropout included, are those of the run that was not cut, whatever makes
    the batches."""
    steps = 2 * EPOCH + 2
    name = f"optimizer.name={optimizer}"
    batches, weights = fit(small, tmp_path / "whole", steps, None, name)
    assert len(batches) == steps and batches[:EPOCH] != batches[EPOCH : 2 * EPOCH]
    for cut in range(1, 2 * EPOCH + 1):
        workers = ["data.num_workers=1"] if cut == EPOCH + 2 else []
        checkpoint = tmp_path / "whole" / f"step={cut}.ckpt"
        rest, resumed = fit(small, tmp_path / f"cut{cut}", steps, checkpoint, name, *workers)
        assert rest == batches[cut:], cut
        assert all(torch.equal(resumed[name], weights[name]) for name in weights), cut


def test_cut_at_every_step_of_three_stages(small, tmp_path: Path) -> None:
    """The boundaries of the stages are among them; the schedule of each, the momentum and the
    averages of the weights continue."""
    steps = 8
    batches, weights = fit(small, tmp_path / "whole", steps, None, *STAGES)
    assert len(batches) == steps
    for cut in range(1, steps):
        checkpoint = tmp_path / "whole" / f"step={cut}.ckpt"
        rest, resumed = fit(small, tmp_path / f"cut{cut}", steps, checkpoint, *STAGES)
        assert rest == batches[cut:], cut
        assert all(torch.equal(resumed[name], weights[name]) for name in weights), cut


DROPOUT = (
    "model.dropout=0.2",
    "trainer.log_every_n_steps=1",
    "evaluation.validation_examples=4",
    "evaluation.baselines=[lead-1]",
)
MUON = "optimizer.name=muon", "trainer.gradient_clip_val=0.5"
EPOCHS = "trainer.max_steps=-1", "trainer.max_epochs=2"


@pytest.mark.parametrize(
    ("stop", "changes"),
    [
        # before there is a checkpoint
        (1, ["trainer.max_steps=9", "trainer.val_check_interval=2"]),
        (5, ["trainer.max_steps=9", "trainer.val_check_interval=2", "data.num_workers=1"]),
        (7, ["trainer.max_steps=9", "trainer.val_check_interval=7"]),  # the end of an epoch
        (10, ["trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.val_check_interval=1.0",
              "trainer.check_val_every_n_epoch=1"]),
        # In the middle of an epoch, under a budget of epochs: the position in the data must be
        # restored.
        (5, [*EPOCHS, "trainer.val_check_interval=2"]),
        (12, [*EPOCHS, "trainer.val_check_interval=4", "trainer.max_time=00:01:00:00"]),
        (5, [*EPOCHS, "trainer.val_check_interval=0.5", "trainer.check_val_every_n_epoch=1", "trainer.min_epochs=1"]),
        (5, ["trainer.max_time=00:01:00:00", "trainer.min_steps=3", "trainer.val_check_interval=2"]),
        (5, ["optimizer.ema_decay=0.9", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=4"]),
        (5, ["data.streaming=true", "data.shuffle_buffer=8", "trainer.val_check_interval=2"]),
        (5, [*MUON, "trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=4"]),
        (3, [*MUON, "trainer.precision=bf16-true", "optimizer.weight_decay=0.1"]),
        # In the first of two stages, and in the second one.
        (2, ["stages=[{steps: 4,objective: gap_sentences},{}]", "evaluation.unit=line", "trainer.val_check_interval=1"]),
        (5, ["stages=[{steps: 3,objective: infill},{learning_rate_factor: 0.5}]", "data.num_workers=1",
             "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=4"]),
        (5, ["data.streaming=true", "data.shuffle_buffer=8", "stages=[{steps: 3,objective: gap_sentences},{}]"]),
        (5, ["data.bpe_dropout=0.3", "trainer.val_check_interval=2"]),
        (5, ["data.streaming=true", "data.shuffle_buffer=8", "data.bpe_dropout=0.3", "trainer.val_check_interval=2"]),
        (5, ["heads.gates=l0", "optimizer.ema_decay=0.9", "trainer.val_check_interval=2"]),
        (3, [*MUON, "heads.gates=top_k", "heads.keep=3", "trainer.val_check_interval=2"]),
    ],
)  # fmt: skip
def test_the_same_command_resumes_to_the_same_result(
    small, stop: int, changes: list[str], tmp_path: Path
) -> None:
    whole, cut = (
        small("trainer.max_steps=6", *DROPOUT, *changes, f"run.folder={name}")
        for name in ("whole", "cut")
    )
    run.train(whole)
    stop_at(stop, cut)
    assert not (tmp_path / "cut" / "finished").exists()
    run.train(cut)
    assert_same(tmp_path / "whole", tmp_path / "cut")


class MarkedSteps(Callback):
    """Keeps for each batch its optimizer step, and whether its documents have marks."""

    def __init__(self) -> None:
        self.found: list[tuple[int, bool]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any
    ) -> None:
        mark = pl_module.token_ids[START]
        self.found.append((trainer.global_step, mark in batch.document_ids))


@pytest.mark.parametrize(("batches", "changes"), [(13, []), (14, ["data.streaming=true"])])
def test_a_stage_begins_at_its_step(small, batches: int, changes: list[str]) -> None:
    """In the second epoch, and where the last step of the first one has a batch less."""
    marked = MarkedSteps()
    with watched(marked):
        run.train(
            small(
                "stages=[{steps: 5,objective: infill},{}]",
                "trainer.max_steps=7",
                "trainer.accumulate_grad_batches=2",
                "trainer.val_check_interval=100",
                *changes,
                *DROPOUT,
            )
        )
    assert {step for step, _ in marked.found} == set(range(7))
    assert all(has_mark == (step < 5) for step, has_mark in marked.found)
    assert len(marked.found) == batches


def test_a_lost_position_in_the_data_is_noticed(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the test above.

    With a restore that is broken on purpose, the comparison fails.
    """
    changes = ["trainer.max_steps=6", "trainer.val_check_interval=2", *DROPOUT]
    run.train(small(*changes, "run.folder=whole"))
    cut = small(*changes, "run.folder=cut")
    stop_at(5, cut)
    monkeypatch.setattr("headcount.data.loader.TrainingLoader.load_state_dict", lambda *_: None)
    run.train(cut)
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "whole", tmp_path / "cut")


def test_stopped_after_the_training(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (small(*DROPOUT, f"run.folder={name}") for name in ("whole", "cut"))
    run.train(whole)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(
            run,
            "log_means",
            lambda loggers, *_: (
                [each.log_metrics({"test/rouge1": 1}, 4) for each in loggers] + [1 // 0]
            ),
        )
        run.train(cut)
    assert len(logged(tmp_path / "cut")) == len(logged(tmp_path / "whole"))
    run.train(cut)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_killed_and_resumed(small, tmp_path: Path) -> None:
    """A process that is killed leaves its lock, its torn files and its half-made checkpoint
    behind."""
    more = (
        *DROPOUT,
        "trainer.max_steps=60",
        "trainer.val_check_interval=20",
        "evaluation.validation_examples=1",
    )
    config = small(*more, "run.folder=cut")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    command = [sys.executable, "-m", "headcount", "train", str(tmp_path / "config.yaml")]
    one_thread = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
    }  # as here: sums depend on it in their last bit
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=one_thread)
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    with pytest.raises(ConfigError, match="^cut: another process is using this folder"):
        run.train(small(*more, "run.folder=cut"))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for folder in ("cut", "whole"):
        run.train(small(*more, f"run.folder={folder}"))
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_is_left_alone(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for changes in ([], ["run.folder=here"]):
        run.train(small(*changes))
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        capsys.readouterr()
        run.train(small(*changes, "tracking.group=another", "data.num_workers=1"))
        assert re.fullmatch(
            r"(.*run-1|here): this run is finished; --fresh starts another\n",
            capsys.readouterr().out,
        )
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_best_checkpoint_that_was_deleted_after_the_training_is_named(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last weights do not take its place in silence."""
    config = load([str(finished_run / "config.yaml")], [f"run.folder={finished_run}"])
    best = finished_run / "checkpoints" / "best.ckpt"
    best.unlink()
    run.train(config)
    line = f"{finished_run}: this run is finished without {best}, which evaluate and summarize"
    assert capsys.readouterr().out == f"{line} need; --fresh starts another\n"
    for command in (
        lambda: evaluate(finished_run, config),
        lambda: summarize(finished_run, config, "in.txt"),
    ):
        with pytest.raises(
            ConfigError, match=r"^[^\n]*best.ckpt: missing from a finished run; leg"
        ):
            command()

    # It was stopped after its last step, before its summaries were complete.
    (finished_run / "finished").unlink()
    with pytest.raises(
        ConfigError, match=r"best.ckpt: missing after the end of the training; leg"
    ):
        run.train(config)
    assert not best.exists()


def test_a_run_that_another_process_has_just_started_or_finished(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is looked at again once it is held."""
    run.train(small("run.folder=here"))
    find, unseen = run.find_run, [True]
    monkeypatch.setattr(run, "find_run", lambda *of: None if unseen.pop() else find(*of))
    monkeypatch.setattr(run, "_train", lambda *_, **__: pytest.fail("trained again"))
    unseen[:] = [False, True]
    run.train(small("run.folder=here"))
    assert capsys.readouterr().out.endswith("here: this run is finished; --fresh starts another\n")
    unseen[:] = [False, True]
    with pytest.raises(
        ConfigError, match="^run.folder=here: the run in it was started with seed=0"
    ):
        run.train(small("run.folder=here", "seed=1"))


def test_a_run_is_found_while_its_data_is_prepared(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_train", lambda *_, **__: run.train(small()))
    with pytest.raises(ConfigError, match="run-1: another process is using this folder"):
        run.train(small())


def test_fresh_begins_another(small, tmp_path: Path) -> None:
    for changes in ([], ["run.folder=here"]):
        stop_at(3, small(*changes))
        run.train(small(*changes), fresh=True)
    assert [(p.name, (p / "finished").exists()) for p in sorted((tmp_path / "runs").iterdir())] == [
        ("run-1", False), ("run-2", True)
    ]  # fmt: skip
    assert (tmp_path / "here" / "finished").exists()
    assert (tmp_path / "here.old-1" / "checkpoints" / "last.ckpt").exists()


def test_fresh_keeps_a_run_in_its_place_if_another_cannot_start(small, tmp_path: Path) -> None:
    config = tmp_path / "here" / "config.yaml"
    config.parent.mkdir()
    config.write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="nowhere"):
        run.train(small("data.path=nowhere.jsonl", "run.folder=here"), fresh=True)
    assert config.read_text() == "seed: 1\n" and not (tmp_path / "here.old-1").exists()


def test_another_config_gets_another_folder_or_none(small, tmp_path: Path) -> None:
    stop_at(1, small())
    stop_at(1, small("seed=1"))
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["run-1", "run-2"]
    run.train(small())
    assert (tmp_path / "runs" / "run-1" / "finished").exists()
    message = r"^run.folder=runs/run-1: the run in it was started with [^\n]*model.num_heads=2, seed=0; legal: [^\n]*--fresh$"
    with pytest.raises(ConfigError, match=message):
        run.train(small("run.folder=runs/run-1", "model.num_heads=4", "seed=1"))
    with pytest.raises(ConfigError, match="^run.folder=data: not a run folder, .*.jsonl is in it"):
        run.train(small("run.folder=data"))


def test_what_cannot_be_had_leaves_no_folder(small, tmp_path: Path) -> None:
    for changes in (["data.path=nowhere.jsonl"], ["data.path=nowhere.jsonl", "run.folder=here"]):
        with pytest.raises(ConfigError, match="nowhere"):
            run.train(small(*changes))
    assert not list((tmp_path / "runs").iterdir()) and not (tmp_path / "here").exists()
