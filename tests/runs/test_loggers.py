import csv
import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger

from headcount.commands.train import train
from headcount.errors import ConfigError
from headcount.runs.loggers import start_loggers
from tests.training.stopping import assert_same, stop_at

STEPS = ["trainer.log_every_n_steps=1", "evaluation.baselines=[]", "trainer.max_steps=6"]
NAMES = ["train/loss", "train/learning_rate", "validation/rougeL", "test/rouge1"]


def logged(folder: Path, name: str) -> list[tuple[int, float]]:
    """Return step and value of each row of ``metrics.csv`` that has a metric."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[name]]
    return [(int(row["step"]), pytest.approx(float(row[name]), rel=1e-5)) for row in rows]


def in_tensorboard(folder: Path, name: str) -> list[tuple[int, float]]:
    """Return step and value of each event that TensorBoard shows."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs headcount[tensorboard]",
    )
    events = reader.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.mark.parametrize("stop", [1, 5])
def test_tensorboard_is_exact_under_resume(small, stop: int, tmp_path: Path) -> None:
    """It shows what metrics.csv has, each step once, also if there was no checkpoint yet or it is
    that of step 4; and it changes nothing of the run."""
    pytest.importorskip("tensorboard", reason="needs headcount[tensorboard]")
    train(small(*STEPS, "run.folder=plain"))
    cut = small(*STEPS, "loggers.tensorboard=true", "run.folder=cut")
    stop_at(stop, cut)
    train(cut)
    assert_same(tmp_path / "plain", tmp_path / "cut")
    for name in NAMES:
        assert in_tensorboard(tmp_path / "cut", name) == logged(tmp_path / "cut", name), name
    assert "num_heads: 2" in (tmp_path / "cut" / "tensorboard" / "hparams.yaml").read_text()


class Rename(Callback):
    def __init__(self, old: Path, new: Path) -> None:
        self.old = old
        self.new = new

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 3 and self.old.exists():
            self.old.rename(self.new)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="follows by /proc, as on Linux")
def test_tensorboard_follows_a_renamed_folder(small, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs headcount[tensorboard]")
    old, new = tmp_path / "old", tmp_path / "new"
    config = small(*STEPS, "loggers.tensorboard=true", f"run.folder={old}")
    train(config, callbacks=[Rename(old, new)])
    assert not old.exists() and (new / "finished").exists()
    for name in NAMES:
        assert in_tensorboard(new, name) == logged(new, name), name


def test_mlflow_continues_its_run(small, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs headcount[mlflow]")
    from mlflow.tracking import MlflowClient

    config = small(*STEPS, "loggers.mlflow=true", "run.folder=runs/cut")
    stop_at(5, config)
    train(config)
    run_id = (tmp_path / "runs" / "cut" / "mlflow_id").read_text()
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    run = client.get_run(run_id)
    assert run.info.run_name == "cut" and run.info.status == "FINISHED"
    assert run.data.params["model/num_heads"] == "2"
    for name in NAMES:
        history = client.get_metric_history(run_id, name)
        # Steps after the checkpoint are logged twice, with the same value.
        shown = dict(sorted((each.step, each.value) for each in history))
        assert list(shown.items()) == logged(tmp_path / "runs" / "cut", name), name

    with pytest.raises(
        ConfigError, match=r"^loggers.mlflow_uri=odd:/x: MLflow cannot log there: "
    ):
        train(small(*STEPS, "loggers.mlflow=true", "loggers.mlflow_uri=odd:/x"))


def test_a_password_in_the_address_is_not_shown(small, tmp_path: Path) -> None:
    config = small("loggers.mlflow=true", "loggers.mlflow_uri='odd://me:p@ss@host:5000/x'")
    with (
        pytest.raises(
            ConfigError, match=r"^loggers.mlflow_uri=odd://\*\*\*@host:5000/x: "
        ) as error,
        start_loggers(config, tmp_path, {}, 0),
    ):
        pass
    assert "p@ss" not in str(error.value)


def test_a_damaged_id_of_mlflow_is_one_line(small, tmp_path: Path) -> None:
    (tmp_path / "mlflow_id").write_bytes(b"\xff")
    with (
        pytest.raises(ConfigError, match=r"mlflow_id: damaged \(UnicodeDecodeError"),
        start_loggers(small("loggers.mlflow=true"), tmp_path, {}, 0),
    ):
        pass


def test_a_logger_from_python(small, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "mine")
    train(small(*STEPS, "run.folder=run"), loggers=[logger])
    header, *rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert "train/loss" in header and "test/rouge1" in header and len(rows) >= 6


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_named_with_its_extra(
    name: str, small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.runs.loggers.find_spec", lambda module: None)
    message = rf"^loggers.{name}=True needs the package {name}; .* 'headcount\[{name}\]'$"
    with pytest.raises(ConfigError, match=message):
        train(small(f"loggers.{name}=true"))
    assert not os.path.exists("runs")


def test_loggers_and_callbacks_may_change_between_resumes(small, tmp_path: Path) -> None:
    stop_at(3, small(*STEPS, "run.folder=run"))
    train(small(*STEPS, "callbacks.gradient_norm=false", "run.folder=run"))
    assert (tmp_path / "run" / "finished").exists()
