"""The launcher, with a stand-in for a training that starts in no time.

The real one is in test_study.py.
"""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid
from headcount.experiments.launch import local as launch
from headcount.experiments.launch import status_table as board
from headcount.experiments.launch.local import (
    Launch,
    Training,
    divide_machine,
    finish_training,
    forget_failure,
    read_state,
    start_training,
)
from headcount.experiments.launch.status_table import read_progress
from tests.experiments.test_grid import write

TRAINING = """
import os, signal, sys, time
from pathlib import Path

def stop(number, frame):
    print("stopped", flush=True)
    os._exit(143)

signal.signal(signal.SIGTERM, stop)
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
with open("begun", "a") as file:
    file.write(folder.name.rsplit("-", 1)[0] + "\\n")
if "num_heads=1" in folder.name and Path("broken").exists():
    sys.exit("this cell is broken")
while Path("hold").exists():
    time.sleep(0.01)
(folder / "finished").write_text("{}")
"""


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Four cells."""
    (tmp_path / "a.yaml").write_text("trainer: {max_steps: 8, accelerator: cpu}\n")
    (tmp_path / "training.py").write_text(TRAINING)
    monkeypatch.setattr(launch, "POLL_INTERVAL", 0.01)
    monkeypatch.setattr(
        Cell, "command", lambda cell: [sys.executable, "-S", "training.py", str(cell.folder)]
    )
    return make_cells(load_grid(write(tmp_path / "study")))


def run(cells: list[Cell], workers: int = 2) -> tuple[int, str]:
    printed = io.StringIO()
    status = Launch(
        cells, "study", workers=workers, console=Console(file=printed, width=200)
    ).run()
    return status, printed.getvalue()


def run_beside(cells: list[Cell]) -> multiprocessing.Process:
    """A launcher in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(run(cells)[0]))
    process.start()
    return process


def begun() -> Counter[str]:
    return Counter(Path("begun").read_text().split()) if Path("begun").exists() else Counter()


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    for _ in range(int(seconds * 100)):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError


def test_every_cell_is_trained_once_and_again_never(cells: list[Cell]) -> None:
    status, printed = run(cells)
    assert (
        status == 0
        and "study: 4 of 4 cells finished" in printed
        and printed.count(": finished\n") == 4
    )
    assert begun() == {cell.name: 1 for cell in cells}
    assert run(cells)[0] == 0 and begun() == {cell.name: 1 for cell in cells}


def test_a_failed_cell_is_named_with_its_log_and_the_others_finish(cells: list[Cell]) -> None:
    Path("broken").touch()
    status, printed = run(cells)
    states = {cell.name: read_state(cell) for cell in cells}
    assert status == 1 and Counter(states.values()) == {"FAILED": 2, "finished": 2}
    for cell in cells[:2]:
        assert f"{cell.name}: FAILED, see {cell.log}" in printed and states[cell.name] == "FAILED"
        assert cell.log.read_text() == "this cell is broken\n"
        assert any(
            "FAILED" in line and cell.log.name in line
            for line in printed.splitlines()
            if "│" in line
        )
    Path("broken").unlink()
    assert run(cells)[0] == 1 and begun()[cells[0].name] == 1  # not without being asked
    forget_failure(cells[0])
    assert run(cells)[0] == 1
    assert [read_state(cell) for cell in cells] == ["finished", "FAILED", "finished", "finished"]


def test_two_launches_at_once_share_the_cells(cells: list[Cell]) -> None:
    Path("hold").touch()
    others = [run_beside(cells), run_beside(cells)]
    wait_until(lambda: begun().total() == 4)
    Path("hold").unlink()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0] and begun() == {
        cell.name: 1 for cell in cells
    }


def test_a_killed_launcher_leaves_its_trainings_to_the_next_one(cells: list[Cell]) -> None:
    Path("hold").touch()
    first = run_beside(cells)
    wait_until(lambda: begun().total() == 2)
    first.kill()
    first.join()
    second = run_beside(cells)
    wait_until(
        lambda: begun().total() == 4
    )  # the two that nobody has; those that go on are waited for
    Path("hold").unlink()
    second.join()
    assert second.exitcode == 0 and begun() == {cell.name: 1 for cell in cells}


def test_a_killed_training_is_resumed(cells: list[Cell]) -> None:
    Path("hold").touch()
    first = Launch(cells[:1], "study", workers=1, console=Console(file=io.StringIO()))
    assert first._step()
    os.kill(first.running[cells[0].name].process.pid, signal.SIGKILL)
    wait_until(lambda: not first._step())
    assert first.table.states[cells[0].name] == "interrupted" and read_state(cells[0]) == "waiting"
    Path("hold").unlink()
    assert run(cells)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on(number: signal.Signals, cells: list[Cell]) -> None:
    Path("hold").touch()
    first = run_beside(cells)
    wait_until(lambda: begun().total() == 2)
    assert first.pid
    os.kill(first.pid, number)
    first.join()
    assert first.exitcode == 128 + number and begun().total() == 2
    assert [cell.log.read_text() if cell.log.exists() else "" for cell in cells] == [
        "stopped\n"
    ] * 2 + [""] * 2
    Path("hold").unlink()
    assert run(cells)[0] == 0 and begun().total() == 6


def test_a_launcher_that_fails_leaves_no_training(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the log of a cell cannot be opened because its name is too long."""
    Path("hold").touch()
    started: list[launch.Training] = []
    start = launch.start_training

    def fail_at_the_second(*arguments: object) -> object:
        if started:
            wait_until(lambda: begun().total() == 1)
            raise OSError(36, "File name too long")
        started.append(start(*arguments))
        return started[0]

    monkeypatch.setattr(launch, "start_training", fail_at_the_second)
    with pytest.raises(OSError, match="File name too long"):
        run(cells)
    assert started[0].process.poll() == 143
    with pytest.raises(OSError):  # its lock is closed, so that the next launch resumes the cell
        os.fstat(started[0].lock)


def test_a_signal_after_the_end_leaves_a_training_finished(cells: list[Cell]) -> None:
    process = subprocess.Popen(["sh", "-c", "kill -TERM $$"])
    lock = os.open("lock", os.O_RDWR | os.O_CREAT)
    cells[0].folder.mkdir(parents=True)
    (cells[0].folder / "finished").touch()
    training = Training(cell=cells[0], process=process, lock=lock, environment={})
    assert finish_training(training) == "finished"


def test_a_training_that_cannot_start_leaves_no_lock(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(subprocess, "Popen", fail)
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    with pytest.raises(OSError, match="no memory"):
        start_training(cells[0], "study", {})
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    if before:
        assert set(os.listdir("/proc/self/fd")) == before


def test_progress_is_read_while_it_is_written(cells: list[Cell]) -> None:
    cell = cells[0]
    assert read_progress(cell) == (0, None)
    cell.folder.mkdir(parents=True)
    (cell.folder / "metrics.csv").write_text(
        "step,validation/rougeL,train/loss\n3,,2.5\n4,12.5,\n5,11.5,\n6,1"
    )
    assert read_progress(cell) == (7, 12.5)


def test_workers_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert [share["OMP_NUM_THREADS"] for share in divide_machine(3)] == ["2", "2", "2"]
    assert (
        "CUDA_VISIBLE_DEVICES" not in divide_machine(1)[0] or "CUDA_VISIBLE_DEVICES" in os.environ
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert [share["CUDA_VISIBLE_DEVICES"] for share in divide_machine(2)] == ["4,7", "5"]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in divide_machine(4)] == ["4", "5", "7", "4"]


def test_a_board_tells_step_best_score_and_time_left(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: now[0])
    shown = board.StatusTable(cells, "study", Console(file=io.StringIO()))
    cell = cells[1]
    cell.folder.mkdir(parents=True)
    metrics = "step,validation/rougeL\n1,20\n"
    (cell.folder / "metrics.csv").write_text(metrics)
    shown.update(cell, "running")
    (cell.folder / "metrics.csv").write_text(f"{metrics}3,15\n")
    now[0] += 60
    printed = Console(file=io.StringIO(), width=200)
    printed.print(shown.render())
    row = next(line for line in printed.file.getvalue().splitlines() if cell.name in line)
    assert [part.strip() for part in row.split("│")[2:6]] == [
        "running",
        "4 / 8",
        "20.00",
        "0:02:00",
    ]
