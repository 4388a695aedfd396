import errno
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import wandb

from headcount.commands.evaluate import evaluate
from headcount.commands.heads import analyse_heads
from headcount.commands.train import train
from headcount.config.load import load, to_yaml
from headcount.config.sections.tracking import TrackingConfig
from headcount.runs import wandb_tracking as tracking
from headcount.runs.loggers import start_loggers
from headcount.runs.wandb_tracking import Tracker, log_page, sync_command, track
from tests.runs.wandb_records import OfflineRun, offline_runs
from tests.training.stopping import stop_at
from tests.training.wandb_server import KEY, WandbServer, serving

PLAIN = {"model": {"num_heads": 4}, "seed": 0}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for W&B's own process also on a machine that is busy with other tests."""
    monkeypatch.setattr(tracking, "INIT_TIMEOUT", 120)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Serve, to a process that has not yet asked for another server, and be patient for a second
    only."""
    wandb.teardown()
    server = WandbServer()
    for name, seconds in {"INIT_TIMEOUT": 2, "PATIENCE": 1, "FINISH_TIMEOUT": 1}.items():
        monkeypatch.setattr(tracking, name, seconds)
    # which it reads of the environment once
    monkeypatch.setattr("wandb.apis.public.Api._HTTP_TIMEOUT", 2)
    with serving(server):
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server
    wandb.teardown()


def log(logger: object, *steps: int) -> None:
    assert isinstance(logger, Tracker)
    for step in steps:
        logger.log_metrics({"train/loss": 1 / (1 + step)}, step)
        if step % 2:
            logger.log_table("samples", columns=["summary"], data=[["a"]])


def send(folder: Path, server: WandbServer) -> None:
    """Send what waits, with the command that a run names."""
    command = sync_command(folder)
    assert command is not None
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and sync_command(folder) is None, done.stderr


def logged(server: WandbServer, folder: Path) -> list[int]:
    """Return the training steps at which a server has a loss, and check that no row is there
    twice."""
    rows = server.rows[(folder / "wandb_id").read_text()]
    assert len({row["_step"] for row in rows}) == len(rows)
    return sorted(row["trainer/global_step"] for row in rows if "train/loss" in row)


def test_an_id_that_is_none_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "wandb_id").write_text("../../elsewhere")
    with track(TrackingConfig(mode="offline"), tmp_path, PLAIN):
        pass
    assert re.fullmatch(r"[\da-f]{8}", (tmp_path / "wandb_id").read_text())
    assert list(tmp_path.glob("wandb/offline-run-*"))


def test_a_password_in_an_address_is_not_logged(tmp_path: Path) -> None:
    config = {
        "loggers": {"mlflow_uri": "https://ada:se@cret@host:5000/x"},
        "data": {"path": "a@b"},
    }
    with track(TrackingConfig(mode="offline"), tmp_path, config):
        pass
    [run] = offline_runs(tmp_path)
    assert run.config["loggers"] == {"mlflow_uri": "https://***@host:5000/x"}
    assert run.config["data"] == {"path": "a@b"}
    assert config["loggers"]["mlflow_uri"].startswith("https://ada:")


def test_an_offline_run_is_not_asked_for_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B would warn that it has none."""
    warned: list[str] = []
    monkeypatch.setattr("wandb.termwarn", lambda text, **_: warned.append(text))
    training = tmp_path / "training"
    training.mkdir()
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    offline = TrackingConfig(mode="offline")
    with track(offline, training, PLAIN) as loggers:
        log(loggers[0], 3)
    with track(offline, evaluation, PLAIN, job_type="evaluation", trainings=[training]) as loggers:
        links = loggers[0].experiment.config["trainings"]
        assert [link.keys() for link in links] == [{"folder", "id"}]
    assert not [text for text in warned if "URL" in text]


def test_without_a_key_a_run_is_offline_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with track(TrackingConfig(group="study", tags=["heads4"]), tmp_path, PLAIN) as loggers:
        assert [type(logger) for logger in loggers] == [Tracker]
        run = loggers[0].experiment
        assert (run.offline, run.group, run.tags, run.name) == (
            True,
            "study",
            ("heads4",),
            tmp_path.name,
        )
        assert dict(run.config) == PLAIN
        log(loggers[0], 3)
    output = capsys.readouterr()
    assert (
        output.out == "W&B: no key is configured (wandb login); this run is tracked offline\n"
        and not output.err
    )
    assert sync_command(tmp_path) == f"wandb sync --include-online {tmp_path / 'wandb'}"


def test_the_command_that_sends_a_run_is_quoted_for_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "my [draft]"
    with track(TrackingConfig(mode="offline"), folder, PLAIN):
        pass
    assert sync_command(folder) == f"wandb sync --include-online '{folder / 'wandb'}'"


def test_online_everything_is_sent_and_a_resumed_run_continues(
    server: WandbServer, tmp_path: Path
) -> None:
    """The second process logs steps 2 and 3 again, as one does that goes on from a checkpoint."""
    for steps in ([0, 1, 2, 3], [2, 3, 4, 5]):
        with track(TrackingConfig(project="heads", group="study"), tmp_path, PLAIN) as loggers:
            log(loggers[0], *steps)
    [(identifier, run)] = server.runs.items()
    assert identifier == (tmp_path / "wandb_id").read_text() and sync_command(tmp_path) is None
    assert (run["project"], run["groupName"], run["displayName"]) == (
        "heads",
        "study",
        tmp_path.name,
    )
    assert set(logged(server, tmp_path)) == {0, 1, 2, 3, 4, 5} and server.tables


def test_offline_and_resumed_all_is_sent_later_as_one_run(
    server: WandbServer, tmp_path: Path
) -> None:
    for steps in ([0, 1], [2, 3]):
        with track(TrackingConfig(mode="offline"), tmp_path, PLAIN) as loggers:
            log(loggers[0], *steps)
    assert not server.runs
    send(tmp_path, server)
    assert (
        len(server.runs) == 1
        and logged(server, tmp_path) == [0, 1, 2, 3]
        and len(server.tables) == 2
    )


@pytest.mark.parametrize("status", [503, 401])
def test_a_server_that_fails_costs_seconds_and_nothing_that_is_logged(
    status: int, server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with track(TrackingConfig(), tmp_path, PLAIN) as loggers:
        log(loggers[0], 0, 2)
        server.status, began = status, time.monotonic()
        log(loggers[0], 3, 4, 5, 6)
    assert time.monotonic() - began < 10
    output = capsys.readouterr().out
    assert output.startswith("W&B: ") and output.count("\n") == 1
    server.status = 200
    send(tmp_path, server)
    assert logged(server, tmp_path) == [0, 2, 3, 4, 5, 6]


def test_what_an_agent_of_a_sweep_sets_wins(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUN_ID", "PROJECT", "ENTITY", "SWEEP_ID"):
        monkeypatch.setenv(f"WANDB_{name}", f"agents-{name}")
    wandb.teardown()  # which is what reads some of these
    with track(TrackingConfig(project="ours"), tmp_path, PLAIN) as loggers:
        log(loggers[0], 0)
    [(identifier, run)] = server.runs.items()
    assert (identifier, run["project"], run["entity"]) == (
        "agents-RUN_ID",
        "agents-PROJECT",
        "agents-ENTITY",
    )


@pytest.mark.parametrize("key", ["too-short", "nobodys-" * 5])
def test_a_bad_key_does_not_stop_a_run(
    key: str,
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    server.status = 401
    with track(TrackingConfig(), tmp_path, PLAIN) as loggers:
        log(loggers[0], 1)
    output = capsys.readouterr().out
    assert (
        output.startswith("W&B: ")
        and output.endswith("this run is tracked offline\n")
        and output.count("\n") == 1
    )
    assert sync_command(tmp_path)


def test_no_server_does_not_stop_a_run(
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    before = time.monotonic()
    with track(TrackingConfig(mode="online"), tmp_path, PLAIN) as loggers:
        log(loggers[0], 1)
    assert time.monotonic() - before < 30
    output = capsys.readouterr().out
    assert output.startswith("W&B: ") and output.count("\n") == 1
    assert sync_command(tmp_path)


def test_a_wandb_folder_that_cannot_be_written_does_not_stop_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wandb").write_text("in the way")
    with track(TrackingConfig(mode="offline"), tmp_path, PLAIN) as loggers:
        assert not loggers
    output = capsys.readouterr().out
    assert "wandb cannot be written (" in output and output.count("\n") == 1


def test_a_page_is_logged_as_it_is_and_never_stops_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "attention.html"
    page.write_text("<!doctype html><p>page</p>")
    with track(TrackingConfig(mode="offline"), tmp_path, PLAIN) as loggers:
        log(loggers[0], 3)
        log_page(loggers, page)
        [logged] = tmp_path.glob("wandb/offline-run-*/files/media/html/attention_*.html")
        assert logged.read_text() == page.read_text()
        log_page(loggers, tmp_path / "not-there.html")
    output = capsys.readouterr().out
    assert output.startswith("W&B: ") and output.count("\n") == 1
    wandb.teardown()


def test_an_image_that_cannot_be_made_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(image: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "image.png"))

    monkeypatch.setattr("wandb.Image", make)
    with track(TrackingConfig(mode="offline"), tmp_path, PLAIN) as loggers:
        assert isinstance(loggers[0], Tracker)
        loggers[0].log_image("validation/cross_attention", [None])
        log(loggers[0], 3)
        assert loggers[0].mode == "offline"
    output = capsys.readouterr().out
    assert output.startswith("W&B: validation/cross_attention is not logged there ([Errno 28] No")
    assert output.count("\n") == 1


def test_a_login_that_fails_without_a_message_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("wandb.login", fail)
    with track(TrackingConfig(), tmp_path, PLAIN) as loggers:
        assert isinstance(loggers[0], Tracker) and loggers[0].mode == "offline"
    assert "the key cannot be used (TimeoutError); " in capsys.readouterr().out


def test_a_process_of_wandb_that_dies_does_not_stop_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb.teardown()
    with track(TrackingConfig(mode="offline"), tmp_path, PLAIN) as loggers:
        log(loggers[0], 0)
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        [core] = [
            pid for pid in children if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        os.kill(int(core), 9)
        log(loggers[0], *range(1, 20))
    output = capsys.readouterr().out
    assert output.startswith("W&B: ") and output.count("\n") == 1
    with suppress(ConnectionError):  # the dead process may have reset the connection
        wandb.teardown()


@pytest.mark.parametrize("by_environment", [False, True])
def test_disabled(by_environment: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_environment:
        monkeypatch.setenv("WANDB_MODE", "disabled")
    with track(
        TrackingConfig(mode="auto" if by_environment else "disabled"), tmp_path, PLAIN
    ) as loggers:
        assert not loggers
    assert not (tmp_path / "wandb").exists()


def test_one_process_can_follow_runs_one_after_another(tmp_path: Path) -> None:
    """Each leaves what it logged in its own folder, and the environment as it was."""
    before = dict(os.environ)
    with (
        pytest.raises(ZeroDivisionError),
        track(TrackingConfig(mode="offline"), tmp_path / "a", PLAIN),
    ):
        _ = 1 / 0
    assert wandb.run is None
    with track(TrackingConfig(), tmp_path / "b", PLAIN) as loggers:
        log(loggers[0], 1)
    assert dict(os.environ) == before
    assert all(list((tmp_path / name).glob("wandb/offline-run-*/*.wandb")) for name in ("a", "b"))
    assert list((tmp_path / "b").rglob("wandb/data/artifacts/staging/*"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_PROJECT", "a/b"),
        ("WANDB_ENTITY", "a b/c"),
        ("WANDB_RUN_ID", "a/b c"),
        ("WANDB_NAME", "x" * 300),
    ],
)
def test_names_that_wandb_rejects_never_stop_a_run(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are left in a shell, and W&B rejects some even when it is disabled."""
    monkeypatch.setenv(name, value)
    config = load([], ["tracking.mode=offline"])
    with start_loggers(config, tmp_path, {}, 0) as loggers:
        for logger in loggers:
            logger.log_metrics({"train/loss": 1.0}, step=0)
            logger.save()
    assert "train/loss" in (tmp_path / "metrics.csv").read_text()


def test_a_run_id_in_a_shell_does_not_merge_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an agent's, which sets the id of the sweep, too."""
    monkeypatch.setenv("WANDB_RUN_ID", "same")
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        with tracking.track(TrackingConfig(mode="offline"), folder, {}):
            found.append((folder / "wandb_id").read_text())
    assert len({*found, "same"}) == 3
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    with tracking.track(TrackingConfig(mode="offline"), tmp_path, {}):
        assert (tmp_path / "wandb_id").read_text() == "same"


def test_wandb_disabled_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DISABLED", "true")
    with tracking.track(TrackingConfig(), tmp_path, {}) as loggers:
        assert not loggers and not (tmp_path / "wandb").exists()


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """W&B's settings file of the current folder, as ``wandb offline`` writes it."""
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tracking, "INIT_TIMEOUT", 2)
    (tmp_path / "wandb").mkdir()
    yield tmp_path / "wandb" / "settings"
    wandb.teardown()


@pytest.mark.parametrize(("mode", "loggers"), [("offline", 1), ("dryrun", 1), ("disabled", 0)])
def test_modes_from_the_variables_of_wandb_are_honoured(
    mode: str, loggers: int, settings_file: Path, tmp_path: Path, capsys
) -> None:
    settings_file.write_text(f"[default]\nmode = {mode}\n")
    with track(TrackingConfig(), tmp_path / "run", PLAIN) as started:
        assert len(started) == loggers
        if loggers:
            assert isinstance(started[0], Tracker) and started[0].mode == "offline"
    assert "no key" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [b"garbage", b"\xff\xfe", b"[default]\nmode = nonsense\n", b"[default]\nproject = a/b\n"],
)
def test_no_settings_file_of_wandb_stops_a_run(
    content: bytes, settings_file: Path, tmp_path: Path
) -> None:
    settings_file.write_bytes(content)
    with start_loggers(load([], []), tmp_path / "run", {}, 0) as started:
        for logger in started:
            logger.log_metrics({"train/loss": 1.0}, 1)
    assert "1.0" in (tmp_path / "run" / "metrics.csv").read_text()


def steps_of(run: OfflineRun, key: str) -> list[int]:
    return [row["trainer/global_step"] for row in run.rows if key in row]


def test_what_a_training_its_evaluation_and_its_heads_log(small, tmp_path: Path) -> None:
    """Read record by record. The training is cut and resumed: both parts are one W&B run."""
    config = small(
        "tracking.mode=offline", "tracking.group=study", "tracking.artifacts=best",
        "trainer.log_every_n_steps=1", "trainer.max_steps=6", "optimizer.name=muon",
        "evaluation.baselines=[lead-1]", "heads.documents=4", "heads.points=2",
        "heads.random_orders=1", f"run.folder={tmp_path / 'run'}",
    )  # fmt: skip
    stop_at(5, config)
    train(config)
    first, second = offline_runs(tmp_path / "run")
    assert first.started.run_id == second.started.run_id
    assert (second.started.run_group, second.started.display_name) == ("study", "run")

    # The config has the size of the model, and what W&B keeps of each metric.
    assert second.config["model"]["num_heads"] == 2
    assert second.config["parameters"] > second.config["embedding_parameters"] > 0
    assert second.config["training_flops_per_token"] > 2 * second.config["parameters"]
    assert {"max", "last"} <= second.metrics["validation/rougeL"]
    assert {"min", "last"} <= second.metrics["validation/loss"]

    # The x-axis is the training step, also of the part that is logged again.
    logged = ["train/learning_rate", "train/muon_learning_rate", "train/gradient_norm"]
    for name in ("train/loss", "train/tokens", *logged):
        assert steps_of(first, name) == [0, 1, 2, 3, 4], name
        assert steps_of(second, name) == [4, 5], name
    tokens = [
        row["train/tokens"] for row in (*first.rows[:4], *second.rows) if "train/tokens" in row
    ]
    assert tokens == sorted(tokens)
    assert steps_of(second, "test/rouge1") == [6]

    # The end of the run: tables, costs and the artifact.
    [table] = [row for row in second.rows if "test/summaries/nrows" in row]
    assert table["test/summaries/nrows"] == 12 and table["test/summaries/ncols"] > 4
    assert {"test/signature", "costs/training_flops", "costs/decode_ms_per_summary"} <= set(
        second.summary
    )
    assert second.artifacts[f"model-{second.started.run_id}"] == "model"

    # Runs of their own, which link to the training.
    overrides = ["heads.split=validation"]
    evaluate(tmp_path / "run", config)
    analyse_heads(tmp_path / "run", load([str(tmp_path / "run" / "config.yaml")], overrides))
    for name, kind, key in (
        ("evaluation-1", "evaluation", "test/rouge1"),
        ("heads-1", "heads", "heads/nrows"),
    ):
        [run] = offline_runs(tmp_path / "run" / name)
        assert (run.started.job_type, run.started.run_group) == (kind, "study")
        assert run.started.display_name == f"run/{name}"
        assert run.started.run_id != first.started.run_id
        assert run.config["trainings"] == [{"folder": "run", "id": first.started.run_id}]
        assert any(key in row for row in run.rows)
    wandb.teardown()


def test_a_training_keeps_its_name_and_its_evaluation_may_have_one(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that of several runs, whose config is the first one's."""
    path = finished_run / "config.yaml"
    path.write_text(to_yaml(load([str(path)], ["tracking.name=training"])))
    names = []

    @contextmanager
    def note_name(settings: TrackingConfig, *_: object, **__: object) -> Iterator[list[Tracker]]:
        names.append(settings.name)
        yield []

    monkeypatch.setattr("headcount.commands.evaluate.track", note_name)
    evaluate(finished_run, load([str(path)], ["tracking.name=mine"]))
    evaluate(finished_run, load([str(path)], []), others=[finished_run])
    assert names == ["mine", None]


def test_no_artifact_unless_it_is_asked_for(small, tmp_path: Path) -> None:
    train(small("tracking.mode=offline", "evaluation.baselines=[]", "run.folder=run"))
    [run] = offline_runs(tmp_path / "run")
    assert "model" not in run.artifacts.values() and run.rows
    wandb.teardown()
