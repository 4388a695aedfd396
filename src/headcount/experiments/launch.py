"""Trains the cells of a study on this machine: each once, whoever else launches it; what was interrupted goes on.

A training is ``headcount train`` in a process of its own. What is known of it stands beside its run folder: FOLDER.log
is what it printed, FOLDER.failed its exit status if it failed, and FOLDER.lock is held by who trains it. The launcher
takes that lock and the training inherits it, so that it stays held for as long as either lives.
"""

import csv
import fcntl
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Literal

import torch
from rich.console import Console
from rich.live import Live
from rich.table import Table

from headcount.experiments.cells import Cell
from headcount.training.folder import FINISHED, write_whole

State = Literal["waiting", "running", "elsewhere", "finished", "interrupted", "FAILED"]
OPEN: tuple[State, ...] = ("waiting", "running", "elsewhere")
POLL = 0.5  # seconds between two looks at what the trainings do


@dataclass(frozen=True, kw_only=True)
class Training:
    """A cell that is being trained by this launch.

    Attributes:
        cell: what is trained.
        process: the command.
        lock: descriptor of the cell's lock.
        begun: when, by ``time.monotonic``.
        first_step: that it goes on from.
    """

    cell: Cell
    process: subprocess.Popen[bytes]
    lock: int
    begun: float
    first_step: int


def begin(cell: Cell, group: str, environment: Mapping[str, str]) -> Training | State:
    """Start a cell's training, or go on with it, unless it is finished, failed before, or is trained elsewhere.

    Args:
        cell: what to train.
        group: what its W&B run belongs to.
        environment: of the process.
    """
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(_beside(cell, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return "elsewhere"
    if (state := look(cell)) != "waiting":  # another launch may just have ended it
        os.close(lock)
        return state
    first_step, _ = read_progress(cell)
    with cell.log.open("ab") as log:
        process = subprocess.Popen(
            cell.command(group),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C at the terminal is the launcher's, which passes it on
            pass_fds=[lock],
        )
    return Training(cell=cell, process=process, lock=lock, begun=time.monotonic(), first_step=first_step)


def end(training: Training) -> State:
    """Wait for a training to end; note it if it failed."""
    cell, status = training.cell, training.process.wait()
    interrupted = status < 0 or status in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    if not interrupted and not (cell.folder / FINISHED).exists():
        write_whole(_beside(cell, "failed"), f"{status}\n")
    os.close(training.lock)
    return "interrupted" if interrupted else look(cell)


def look(cell: Cell) -> State:
    """Return what became of a cell that nobody trains."""
    if (cell.folder / FINISHED).exists():
        return "finished"
    return "FAILED" if _beside(cell, "failed").exists() else "waiting"


def forget_failure(cell: Cell) -> None:
    """Let a failed cell be trained again."""
    _beside(cell, "failed").unlink(missing_ok=True)


def read_progress(cell: Cell) -> tuple[int, float | None]:
    """Return the last step that ``metrics.csv`` tells of, and the best validation score."""
    step, best = 0, None
    with suppress(FileNotFoundError), (cell.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            with suppress(ValueError, KeyError, TypeError):  # a row that is just being written
                step = max(step, int(row["step"]) + 1)
                best = max(float(row[f"validation/{cell.config.evaluation.select_by}"]), best or 0.0)
    most = cell.config.trainer["max_steps"]
    return (min(step, most) if most > 0 else step), best


def _beside(cell: Cell, what: str) -> Path:
    return cell.folder.with_name(f"{cell.folder.name}.{what}")


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_machine(workers: int) -> list[dict[str, str]]:
    """Return the environments of trainings side by side: each has its share of the cores, and of GPUs if there are any.

    Args:
        workers: trainings at a time.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = list(map(str, range(torch.cuda.device_count()))) if visible is None else visible.split(",")
    shares = []
    for worker in range(workers):
        share = {"OMP_NUM_THREADS": str(max(1, count_cores() // workers)), **os.environ}  # the user's own number stays
        if torch.cuda.is_available():
            share["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[worker::workers] or [gpus[worker % len(gpus)]])
        shares.append(share)
    return shares


class Launch:
    """Trains cells side by side until none is open, and shows how they do."""

    def __init__(self, cells: list[Cell], group: str, *, workers: int, console: Console) -> None:
        """Take what to train.

        Args:
            cells: in the order in which they are begun.
            group: the experiment, which W&B groups them by.
            workers: trainings at a time.
            console: where to show it: a live table in a terminal, otherwise a line for each change, and the table at
                the end.
        """
        self.cells, self.group, self.console = cells, group, console
        self.shares = share_machine(workers)  # those that no training has
        self.running: dict[str, tuple[Training, dict[str, str]]] = {}
        self.states: dict[str, State] = {cell.name: "waiting" for cell in cells}
        self.signal = 0

    def run(self) -> int:
        """Train what is open.

        Returns:
            An exit status: 0 where all cells are finished, 128 + the signal where one came, otherwise 1.
        """
        with self._pass_signals_on(), Live(console=self.console, get_renderable=self.table, refresh_per_second=1):
            while self._step():
                time.sleep(POLL)
        if self.signal:
            return 128 + self.signal
        return int(any(state != "finished" for state in self.states.values()))

    def table(self) -> Table:
        """Return the state, progress, best validation score and time left of every cell."""
        score = self.cells[0].config.evaluation.select_by
        numbers = Counter(self.states.values())
        shown = Table(title=f"{self.group}: {numbers['finished']} of {len(self.cells)} cells finished")
        for column in ("cell", "state", "step", f"best {score}", "time left", "log"):
            shown.add_column(column, overflow="fold")
        for cell in self.cells:
            state, (step, best) = self.states[cell.name], read_progress(cell)
            steps = f"{step:,} / {cell.config.trainer['max_steps']:,}"
            log = str(cell.log) if state in ("FAILED", "interrupted") else ""
            shown.add_row(
                cell.name, state, steps, "" if best is None else f"{best:.2f}", self._time_left(cell, step), log
            )
        return shown

    def _step(self) -> bool:
        """Take note of what ended, begin what can be begun; return whether anything is still open."""
        for name, (training, share) in list(self.running.items()):
            if training.process.poll() is not None:
                del self.running[name]
                self.shares.append(share)
                self._tell(training.cell, end(training))
        for cell in self.cells:
            if self.signal or self.states[cell.name] not in ("waiting", "elsewhere"):
                continue
            if self.shares:
                begun = begin(cell, self.group, self.shares[0])
                if isinstance(begun, Training):
                    self.running[cell.name] = begun, self.shares.pop(0)
                self._tell(cell, "running" if isinstance(begun, Training) else begun)
            elif look(cell) == "finished":
                self._tell(cell, "finished")
        return bool(self.running) or (not self.signal and any(state in OPEN for state in self.states.values()))

    def _tell(self, cell: Cell, state: State) -> None:
        if state == self.states[cell.name]:
            return
        self.states[cell.name] = state
        if not self.console.is_terminal:
            log = f", see {cell.log}" if state in ("FAILED", "interrupted") else ""
            line = f"{time.strftime('%H:%M:%S')} {cell.name}: {state}{log}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def _time_left(self, cell: Cell, step: int) -> str:
        if cell.name not in self.running:
            return ""
        training, _ = self.running[cell.name]
        done, left = step - training.first_step, cell.config.trainer["max_steps"] - step
        if done <= 0 or left < 0:
            return ""
        return str(timedelta(seconds=round((time.monotonic() - training.begun) / done * left)))

    @contextmanager
    def _pass_signals_on(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on to the trainings, which end with a checkpoint; a second one kills them."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            for training, _ in self.running.values():
                with suppress(ProcessLookupError):
                    if self.signal:
                        os.killpg(training.process.pid, signal.SIGKILL)
                    else:
                        training.process.terminate()
            self.signal = number

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
