import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer

from headcount.commands import evaluate as evaluation
from headcount.commands import train as run
from headcount.errors import ConfigError, RunError
from headcount.training.callbacks.checkpointing import Checkpoints
from headcount.training.module import Summarizer
from headcount.training.signals import Signals
from tests.training.stopping import assert_same, stop_at, watched

NINE = (
    "trainer.max_steps=9",
    "trainer.val_check_interval=3",
    "trainer.log_every_n_steps=1",
    "model.dropout=0.2",
    "evaluation.validation_examples=4",
    "evaluation.baselines=[lead-1]",
)


@pytest.fixture
def whole(small, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a run that nothing cut, trained once for all tests."""

    def trained(*changes: str) -> Path:
        folder = tmp_path_factory.getbasetemp() / f"whole{'-'.join(changes)}"
        if not (folder / "finished").exists():
            run.train(small(*NINE, *changes, f"run.folder={folder}"))
        return folder

    return trained


class Kill(Callback):
    """Sends a signal to its own process in the middle of a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


class Rename(Callback):
    """Renames the run folder in the middle of a step."""

    def __init__(self, step: int, old: Path, new: Path) -> None:
        self.step, self.old, self.new = step, old, new

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and self.old.exists():
            self.old.rename(self.new)


EACH, TWO = ["trainer.accumulate_grad_batches=1"], ["trainer.accumulate_grad_batches=2"]


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        (EACH, 0),
        (EACH, 4),
        (EACH, 5),  # a validation is due after it
        (EACH, 6),  # the last of an epoch
        (EACH, 8),  # the last of all
        (TWO, 1),  # a validation follows amid the next step
        (TWO, 2),
    ],
)
def test_a_signal_ends_a_run_at_a_boundary(
    small, whole, changes: list[str], step: int, tmp_path: Path
) -> None:
    number = signal.SIGINT if step % 2 else signal.SIGTERM
    config = small(*NINE, *changes, "run.folder=cut")
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit, watched(Kill(step, number)):
        run.train(config)
    assert exit.value.code == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert (
        torch.load(tmp_path / "cut" / "checkpoints" / "last.ckpt", weights_only=True)[
            "global_step"
        ]
        == step + 1
    )
    run.train(config)
    assert_same(whole(*changes), tmp_path / "cut")


@pytest.mark.parametrize("stop", [3, 4])
def test_a_step_of_several_batches_is_not_cut(small, whole, stop: int, tmp_path: Path) -> None:
    """A validation amid it is followed by a checkpoint at its end."""
    config = small(*NINE, *TWO, "run.folder=cut")
    stop_at(stop, config)
    run.train(config)
    assert_same(whole(*TWO), tmp_path / "cut")


class TimeIsUp(Callback):
    """Lets the time of a training be up after the first batch of the third step."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            [timer] = [each for each in trainer.callbacks if isinstance(each, Timer)]
            timer._offset = 10**9


def test_a_training_that_ends_amid_a_step_is_not_continued(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before its test summaries: the resumed run has only these left."""
    time_limit = "trainer.max_time=01:00:00:00", "trainer.val_check_interval=100"
    config = small(*NINE, *TWO, *time_limit, "run.folder=cut")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError), watched(TimeIsUp()):
        patch.setattr(run, "score_test", lambda *_: 1 // 0)
        run.train(config)

    watch = Watch()
    with watched(watch):
        run.train(config)
    assert watch.rows == []
    assert ended(tmp_path / "cut") == (2, 2, {"step": 2})


def test_a_signal_elsewhere_ends_a_run_at_once(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "score_test", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as exit:
        run.train(small("run.folder=here"))
    assert exit.value.code == 143 and not (tmp_path / "here" / "finished").exists()


class Watch(Callback):
    """Knows the examples of each step."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, *_: Any) -> None:
        self.rows.append(batch.indices)


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_loss_that_is_no_number_ends_a_run(
    bad: str, small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Summarizer.training_step

    def broken(self: Summarizer, batch: Any, index: int) -> torch.Tensor:
        return step(self, batch, index) * (float(bad) if self.trainer.global_step == 3 else 1)

    watch, message = (
        Watch(),
        r"^here: the loss of step 4 is not finite; not_finite.json in it names the \d+ examples",
    )
    with monkeypatch.context() as patch, watched(watch), pytest.raises(RunError, match=message):
        patch.setattr(Summarizer, "training_step", broken)
        run.train(small("run.folder=here", "trainer.max_steps=9"))
    told = json.loads((tmp_path / "here" / "not_finite.json").read_text())
    assert (
        told == {"step": 4, "ids": [f"train-{row}" for row in watch.rows[-1]]}
        and len(watch.rows) == 4
    )
    for name in ("last", "best"):
        checkpoint = torch.load(
            tmp_path / "here" / "checkpoints" / f"{name}.ckpt", weights_only=True
        )
        assert checkpoint["global_step"] == 2
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


class Poison(Callback):
    """Has the gradients of a step be no numbers, though its loss is one."""

    def __init__(self) -> None:
        self.left = 1

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any
    ) -> None:
        if trainer.global_step == 3 and self.left:
            self.left = 0
            for parameter in module.parameters():
                parameter.grad = torch.full_like(parameter, torch.nan)


@pytest.mark.parametrize(
    ("steps", "what"),
    [("trainer.max_steps=5", "validation loss"), ("trainer.max_steps=4", "norm of the weights")],
)
def test_weights_that_are_no_numbers_are_not_kept(
    steps: str, what: str, small, tmp_path: Path
) -> None:
    every = (
        [] if steps.endswith("5") else ["trainer.val_check_interval=3"]
    )  # no validation sees the last step
    config = small("run.folder=here", steps, *every)
    message = (
        rf"^here: the {what} of step 4 is not finite; the checkpoints were saved before[^\n]*$"
    )
    with watched(Poison()), pytest.raises(RunError, match=message):
        run.train(config)
    for name in ("last", "best"):
        checkpoint = torch.load(
            tmp_path / "here" / "checkpoints" / f"{name}.ckpt", weights_only=True
        )
        assert checkpoint["global_step"] == (3 if every else 2)
    (tmp_path / "here" / "not_finite.json").write_text("{}")
    run.train(config)
    assert (
        not (tmp_path / "here" / "not_finite.json").exists()
        and (tmp_path / "here" / "finished").exists()
    )


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_damaged_checkpoint_does_not_end_a_run(
    name: str, small, whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(*NINE, *EACH, "run.folder=cut")
    stop_at(8, config)
    path = tmp_path / "cut" / "checkpoints" / f"{name}.ckpt"
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    run.train(config)
    assert f"{name}.ckpt: damaged" in capsys.readouterr().out
    if name == "last":
        assert_same(whole(*EACH), tmp_path / "cut")
    else:
        assert json.loads((tmp_path / "cut" / "scores.json").read_text())["step"] == 9


def test_other_data_behind_the_same_config(small, tmp_path: Path) -> None:
    stop_at(3, small("run.folder=here"))
    rows = (tmp_path / "data" / "validation.jsonl").read_text()
    (tmp_path / "data" / "validation.jsonl").write_text(rows.replace("pear", "plum"))
    with pytest.raises(
        ConfigError, match=r"^data.path=.*: its validation split has the SHA-256 \w+, and here was"
    ):
        run.train(small("run.folder=here"))


def test_another_tokenizer_behind_the_same_config(small, tmp_path: Path) -> None:
    stop_at(3, small("run.folder=here"))
    path = tmp_path / "here" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["merges"].pop()  # the last pair is no longer joined
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(
        ConfigError,
        match="^tokenizer.path=null: the tokenizer is not that with which here was started",
    ):
        run.train(small("run.folder=here"))


def test_no_room(small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    message = r"^run.folder=here: 0.00 GB are free on its disk, 4 checkpoints of \d+,\d+ parameters need \d+.\d+ GB"
    with pytest.raises(ConfigError, match=message):
        run.train(small("run.folder=here", "model.embedding_size=64"))
    assert not (tmp_path / "here").exists()


def test_a_folder_that_cannot_be_written(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"^file/here: cannot be written as a run folder: Not a directory"
    ):
        run.train(small("run.folder=file/here"))

    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("headcount.runs.folder.TemporaryFile", refuse)
    with pytest.raises(
        ConfigError, match=r"^here: cannot be written as a run folder: Permission denied"
    ):
        run.train(small("run.folder=here"))


def test_a_disk_that_fills_up_is_one_line(small, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headcount.runs.metrics_csv.MetricsFile.log_metrics", full)
    with pytest.raises(
        RunError,
        match="^here: No space left on device; the same command resumes when there is room$",
    ):
        run.train(small("run.folder=here"))


PATIENT = (*NINE, "evaluation.patience=2", "trainer.val_check_interval=1")
SCORES = {1: 20, 2: 30, 3: 25, 4: 40, 5: 39, 6: 40, 7: 50, 8: 60, 9: 70}  # of each step


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the step decide the validation score, whatever the summaries are."""
    validation_step = Summarizer.validation_step

    def scored_step(self: Summarizer, batch: Any, index: int) -> None:
        score = SCORES[self.trainer.global_step] / 100
        self.epoch_scores.rouge = SimpleNamespace(score=lambda *_: [score] * 4)
        validation_step(self, batch, index)

    monkeypatch.setattr(Summarizer, "validation_step", scored_step)


def ended(folder: Path) -> tuple[int, int, dict[str, Any]]:
    steps = [
        torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]
        for name in ("best", "last")
    ]
    return steps[0], steps[1], json.loads((folder / "finished").read_text())


def test_patience_ends_a_training(
    small, scored: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Step 3 is one worse validation; 5 and 6 are two, for equal is not better.

    The checkpoint of step 6 is kept all the same, for its loss is lower.
    """
    run.train(small(*PATIENT, "run.folder=patient"))
    reason = (
        "no better validation/rougeL than 40.00 of step 4 in 2 validations (evaluation.patience)"
    )
    assert ended(tmp_path / "patient") == (6, 6, {"step": 6, "stopped_early": reason})
    assert f"step 6: {reason}; the training ends" in capsys.readouterr().out
    assert json.loads((tmp_path / "patient" / "scores.json").read_text())["step"] == 6
    run.train(small(*PATIENT, "evaluation.patience=3", "run.folder=more"))
    assert ended(tmp_path / "more") == (9, 9, {"step": 9})


def test_patience_waits_for_the_last_stage(small, scored: None, tmp_path: Path) -> None:
    """Steps 5 and 6 are two worse validations, of the first stage."""
    run.train(small(*PATIENT, "stages=[{steps: 7,objective: infill},{}]", "run.folder=patient"))
    assert ended(tmp_path / "patient")[2]["step"] > 6


@pytest.mark.parametrize("cut", [None, 4, 6])
def test_patience_compares_validations_of_the_last_stage(
    small, scored: None, cut: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 2 of the first stage has the best score of all, which is kept. The last stage improves
    up to step 6, also if it is cut there."""
    for step, score in {2: 90, 3: 30, 4: 31, 5: 32, 6: 33, 7: 32, 8: 32}.items():
        monkeypatch.setitem(SCORES, step, score)
    stages = "stages=[{steps: 2,objective: infill},{}]"
    config = small(*PATIENT, stages, "run.folder=patient")
    if cut is not None:
        stop_at(cut, config)
    run.train(config)
    reason = (
        "no better validation/rougeL than 33.00 of step 6 in 2 validations (evaluation.patience)"
    )
    assert ended(tmp_path / "patient") == (2, 8, {"step": 8, "stopped_early": reason})


@pytest.mark.parametrize(("patience_from", "stage_best"), [(0, (40.0, 4)), (4, None)])
def test_a_state_of_an_earlier_version_has_one_best_score(
    patience_from: int, stage_best: tuple[float, int] | None, whole
) -> None:
    checkpoints = Checkpoints(
        whole(), "validation/rougeL", Signals(), patience=2, patience_from=patience_from
    )
    state = {"best": (40.0, -1.0), "best_step": 4, "worse_validations": 1, "stopped_early": None}
    checkpoints.load_state_dict(state)
    assert checkpoints.best == 40.0 and checkpoints.worse_validations == 1
    assert checkpoints.stage_best == stage_best


@pytest.mark.parametrize("step", [3, 5])
def test_patience_is_exact_under_resume(small, scored: None, step: int, tmp_path: Path) -> None:
    run.train(small(*PATIENT, "run.folder=whole"))
    cut = small(*PATIENT, "run.folder=cut")
    stop_at(step, cut)
    run.train(cut)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_training_that_ended_early_is_not_continued(
    small, scored: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before its test summaries."""
    run.train(small(*PATIENT, "run.folder=whole"))
    cut = small(*PATIENT, "run.folder=cut")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(run, "score_test", lambda *_: 1 // 0)
        run.train(cut)
    with watched(Kill(6, signal.SIGTERM)):  # at a further step
        run.train(cut)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_min_steps_goes_before_patience(small, scored: None, tmp_path: Path) -> None:
    """Also where the run is cut in between; once it has stopped early it does not start again."""
    changes = *PATIENT, "trainer.min_steps=8"
    run.train(small(*changes, "run.folder=whole"))
    cut = small(*changes, "run.folder=cut")
    stop_at(7, cut)
    run.train(cut)
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert ended(tmp_path / "cut")[:2] == (8, 8)


def fix_scores(monkeypatch: pytest.MonkeyPatch, scores: dict[int, float]) -> None:
    """Replace what is logged as score of the validation after each step."""
    log_dict = Summarizer.log_dict

    def log(self: Summarizer, metrics: dict[str, torch.Tensor], **settings: Any) -> None:
        fixed = dict(metrics)
        if "validation/rougeL" in metrics:
            fixed["validation/rougeL"] = torch.tensor(scores[self.trainer.global_step])
        log_dict(self, fixed, **settings)

    monkeypatch.setattr(Summarizer, "log_dict", log)


def best_step(folder: Path) -> int:
    path = folder / "checkpoints" / "best.ckpt"
    return torch.load(path, weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("scores", "margin", "best", "stop"),
    [
        ({3: 0.0, 6: 0.0, 9: 0.0}, 0.0, 9, None),  # of equal ones the latest
        ({3: 2.0, 6: 1.2, 9: 0.5}, 0.0, 3, None),
        ({3: 2.0, 6: 1.2, 9: 0.5}, 1.0, 6, None),  # within the margin of the best, not of 1.2
        ({3: 2.0, 6: 1.2, 9: 0.5}, 1.0, 6, 7),
        ({3: 2.0, 6: 0.5, 9: 1.2}, 1.0, 9, 4),
    ],
)
def test_the_latest_validation_within_the_margin_is_selected(
    small,
    scores: dict[int, float],
    margin: float,
    best: int,
    stop: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if a run is stopped between validations."""
    fix_scores(monkeypatch, scores)
    config = small(*NINE, f"evaluation.selection_margin={margin}", "run.folder=here")
    if stop is not None:
        stop_at(stop, config)
    run.train(config)
    assert best_step(Path("here")) == best
    assert json.loads(Path("here/scores.json").read_text())["step"] == best


def test_a_run_folder_that_is_renamed_is_followed(
    small, whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with watched(Rename(4, old, new)):
        run.train(small(*NINE, f"run.folder={old}"))
    assert (
        f"{old}: the run folder was moved to {new}; the run continues" in capsys.readouterr().out
    )
    assert not old.exists()
    assert_same(whole(), new)


def test_a_signal_saves_in_the_renamed_folder(
    small, whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with pytest.raises(SystemExit) as ended, watched(Rename(4, old, new), Kill(4, signal.SIGTERM)):
        run.train(small(*NINE, f"run.folder={old}"))
    assert ended.value.code == 143 and not old.exists()
    assert f"the command with run.folder={new} resumes from there" in capsys.readouterr().out
    assert torch.load(new / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    run.train(small(*NINE, f"run.folder={new}"))
    assert_same(whole(), new)


def test_a_deleted_run_folder_ends_the_run_in_one_line(small, tmp_path: Path) -> None:
    class Delete(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            shutil.rmtree(tmp_path / "cut", ignore_errors=True)

    with pytest.raises(RunError, match=r"cut: it was deleted or moved away"), watched(Delete()):
        run.train(small(*NINE, f"run.folder={tmp_path / 'cut'}"))
    assert not (tmp_path / "cut").exists()


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_checkpoint_of_another_run_is_put_aside(
    name: str, small, whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its digest is right; the config in it is not that of the run."""
    cut, other = tmp_path / "cut", tmp_path / "other"
    stop_at(7, small(*NINE, f"run.folder={cut}"))
    run.train(small(*NINE, "trainer.max_steps=6", f"run.folder={other}"))
    for file in (f"{name}.ckpt", f"{name}.ckpt.sha256"):
        shutil.copy(other / "checkpoints" / file, cut / "checkpoints" / file)
    capsys.readouterr()
    run.train(small(*NINE, f"run.folder={cut}"))
    line = f"{name}.ckpt: a checkpoint of another run, with trainer.max_steps=6; it is put aside"
    assert line in capsys.readouterr().out
    if name == "last":
        assert_same(whole(), cut)


def test_a_run_that_only_has_to_write_needs_no_room(small, tmp_path: Path, monkeypatch) -> None:
    config = small(*NINE, f"run.folder={tmp_path / 'run'}")
    run.train(config)
    (tmp_path / "run" / "finished").unlink()
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("headcount.training.preconditions.shutil.disk_usage", lambda _: usage)
    (tmp_path / "run" / "checkpoints" / "previous.ckpt").unlink()
    run.train(config)
    assert (tmp_path / "run" / "finished").exists()
    with pytest.raises(ConfigError, match="are free on its disk"):
        run.train(small(*NINE, f"run.folder={tmp_path / 'new'}"))


def test_a_run_that_ended_by_its_patience_needs_no_room_either(
    small, scored: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its summaries are still to be written."""
    config = small(*PATIENT, "run.folder=run")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(run, "score_test", lambda *_: 1 // 0)
        run.train(config)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("headcount.training.preconditions.shutil.disk_usage", lambda _: usage)
    (tmp_path / "run" / "checkpoints" / "previous.ckpt").unlink()
    run.train(config)
    assert (tmp_path / "run" / "finished").exists()


def test_a_run_folder_that_is_renamed_while_the_summaries_are_written(
    small, whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is followed, as in training; a second time, too."""
    expected = whole()
    places = [tmp_path / name for name in ("first", "second", "third")]
    generate = evaluation.generate_rows

    def generate_and_rename(*arguments: Any) -> Iterator[Any]:
        for rows in generate(*arguments):
            places[1].rename(places[2])
            yield rows

    monkeypatch.setattr(evaluation, "generate_rows", generate_and_rename)
    with watched(Rename(4, places[0], places[1])):
        run.train(small(*NINE, f"run.folder={places[0]}"))
    assert [place.exists() for place in places] == [False, False, True]
    assert_same(expected, places[2])
    assert not (places[2] / "parts").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"3"])
def test_damaged_files_are_found_at_the_start(
    content: bytes, small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(*NINE, f"run.folder={tmp_path / 'cut'}")
    stop_at(7, config)
    (tmp_path / "cut" / "costs.json").write_bytes(content)
    run.train(config)
    output = capsys.readouterr().out
    assert "costs.json: damaged (" in output and output.index("damaged") < output.index(
        "resumes from"
    )
    costs = json.loads((tmp_path / "cut" / "costs.json").read_text())
    assert costs["training_tokens"] > 0 and costs["decode_ms_per_summary"] > 0

    (tmp_path / "cut" / "finished").unlink()
    (tmp_path / "cut" / "data.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^\S*data.json: not the record of the data"):
        run.train(config)
