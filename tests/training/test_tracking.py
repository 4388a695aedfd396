import time
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.loggers import WandbLogger

from headcount.config import TrackingConfig
from headcount.training.metrics import MetricsFile
from headcount.training.tracking import offline_run, track

PLAIN = {"model": {"num_heads": 4}, "seed": 0}


def test_without_a_key_a_run_is_offline_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with track(TrackingConfig(group="study", tags=["heads4"]), tmp_path, PLAIN) as loggers:
        assert [type(logger) for logger in loggers] == [MetricsFile, WandbLogger]
        run = loggers[1].experiment
        assert (run.offline, run.group, run.tags, run.name) == (True, "study", ("heads4",), tmp_path.name)
        assert dict(run.config) == PLAIN
        loggers[1].log_metrics({"train/loss": 1.0}, 3)
    said = capsys.readouterr()
    assert said.out == "W&B: no key is configured (wandb login); this run is tracked offline\n" and not said.err
    waiting = offline_run(tmp_path)
    assert waiting is not None and list(waiting.glob("*.wandb"))


def test_a_bad_key_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    with track(TrackingConfig(), tmp_path, PLAIN):
        pass
    said = capsys.readouterr().out
    assert said.startswith("W&B: the key cannot be used") and said.count("\n") == 1
    assert offline_run(tmp_path)


def test_no_server_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("headcount.training.tracking.INIT_TIMEOUT", 2)
    before = time.monotonic()
    with track(TrackingConfig(mode="online"), tmp_path, PLAIN):
        pass
    assert time.monotonic() - before < 30
    said = capsys.readouterr().out
    assert said.startswith("W&B: cannot reach it") and said.count("\n") == 1
    assert offline_run(tmp_path)


@pytest.mark.parametrize("by_environment", [False, True])
def test_disabled(by_environment: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_environment:
        monkeypatch.setenv("WANDB_MODE", "disabled")
    with track(TrackingConfig(mode="auto" if by_environment else "disabled"), tmp_path, PLAIN) as loggers:
        assert [type(logger) for logger in loggers] == [MetricsFile]
    assert not (tmp_path / "wandb").exists()


def test_one_process_can_follow_runs_one_after_another(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), track(TrackingConfig(mode="offline"), tmp_path / "a", PLAIN):
        _ = 1 / 0
    assert wandb.run is None
    with track(TrackingConfig(mode="offline"), tmp_path / "b", PLAIN):
        pass
    assert offline_run(tmp_path / "a") and offline_run(tmp_path / "b")
