"""W&B that fails costs a run little, and nothing of what it logs."""

import csv
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from headcount.runs.wandb_tracking import sync_command
from tests.conftest import SMALL
from tests.training.wandb_server import KEY, WandbServer, serving

pytestmark = pytest.mark.faults
COMMON = [
    *SMALL,
    "data.path=data",
    "data.cache_dir=cache",
    "trainer.max_steps=12",
    "trainer.log_every_n_steps=1",
]
KEYS = {
    "no key": None,
    "a key that is too short": "short",
    "a key that nobody has": "nobodys-" * 5,
}
SERVERS = [
    "a closed port",
    "a server that never answers",
    "a server that dies",
    "a server that falls silent",
]
FAULTS = [*KEYS, *SERVERS, "a file in the way of its folder"]


def timed(
    folder: Path, environment: dict[str, str], meanwhile: Callable[[], object]
) -> tuple[float, str]:
    """Run the command that trains; return seconds and what it said."""
    arguments = [
        *COMMON,
        f"tracking.mode={'auto' if environment else 'disabled'}",
        f"run.folder={folder}",
    ]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "headcount", "train", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    meanwhile()
    output = process.communicate(timeout=400)[0]
    assert process.returncode == 0, output
    return time.monotonic() - began, output


def steps_of(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open() as file:
        return sorted(int(row["step"]) for row in csv.DictReader(file) if row["train/loss"])


def prepare(name: str, folder: Path, server: WandbServer) -> None:
    """Let happen what happens before the training."""
    if name == "a key that nobody has":
        server.status = 401
    if name == "a server that never answers":
        server.silent = True
    if name == "a file in the way of its folder":
        folder.mkdir()
        shutil.copy(Path("untracked") / "config.yaml", folder)
        (folder / "wandb").write_text("in the way")


def break_down(name: str, server: WandbServer) -> None:
    """Let happen what happens in the middle of the training."""
    if name in SERVERS[2:]:
        while not server.runs:
            time.sleep(0.05)
        server.status, server.silent = (503, False) if "dies" in name else (200, True)


def send(folder: Path, server: WandbServer) -> list[int]:
    """Send what waits; return the steps that the server knows then."""
    server.status, server.silent = 200, False
    command = sync_command(folder)
    assert command is not None
    login = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
    subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        env={**os.environ, **login},
        check=True,
        timeout=90,
        capture_output=True,
    )
    rows = server.rows[(folder / "wandb_id").read_text()]
    return sorted(row["trainer/global_step"] for row in rows if "train/loss" in row)


def test_wandb_fails(fault, some) -> None:
    """Each is a command of its own, timed beside one that is not tracked."""
    for _ in range(2):  # the first prepares the data
        shutil.rmtree("untracked", ignore_errors=True)
        untracked, _ = timed(Path("untracked"), {}, lambda: None)
    for name in some(FAULTS):
        server, folder = WandbServer(), Path(name.replace(" ", "-"))
        with serving(server):
            prepare(name, folder, server)
            url = "http://127.0.0.1:9" if name == "a closed port" else server.url
            key = KEYS.get(name, KEY)
            environment = {"WANDB_BASE_URL": url, **({"WANDB_API_KEY": key} if key else {})}
            seconds, message = timed(folder, environment, partial(break_down, name, server))
            assert seconds - untracked < 60, f"{seconds:.0f} s beside {untracked:.0f} s: {message}"
            assert sum(line.startswith("W&B: ") for line in message.splitlines()) == 1, message
            assert steps_of(folder) == list(range(12))
            kept = "is in metrics.csv"
            if name != FAULTS[-1]:
                assert send(folder, server) == steps_of(folder)
                kept = "is sent later, each row once"
            fault(
                f"W&B: {name}",
                f"exit 0, less than 60 s lost, one line; all that was logged {kept}",
            )
