"""Trains the cells of a study on this machine: each once, whoever else launches it; what was
interrupted goes on.

A training is ``headcount train`` in a process of its own. What is known of it stands beside its
run folder: FOLDER.log is what it printed, FOLDER.failed its exit status if it failed, and
FOLDER.lock is held by who trains it. The launcher takes that lock and the training inherits it, so
that it stays held for as long as either lives.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console

from headcount.experiments.cell import Cell
from headcount.experiments.launch.status_table import Board, State
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile
from headcount.watchdog import STOP_SIGNALS

POLL = 0.5  # seconds between two looks at what the trainings do


@dataclass(frozen=True, kw_only=True)
class Training:
    """A cell that is being trained by this launch.

    Attributes:
        cell: what is trained.
        process: the command.
        lock: descriptor of the cell's lock.
    """

    cell: Cell
    process: subprocess.Popen[bytes]
    lock: int


def begin(cell: Cell, group: str, environment: Mapping[str, str]) -> Training | State:
    """Start a cell's training, or go on with it, unless it is finished, failed before, or is
    trained elsewhere.

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
    cell.write_config(group)
    mask = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGUSR2}
    )  # SLURM sends it to all, for the launcher
    with cell.log.open("ab") as log:
        process = subprocess.Popen(
            cell.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **environment,
                "PYTHONSAFEPATH": "1",
            },  # nothing that it starts imports from the current folder
            start_new_session=True,  # Ctrl-C at the terminal is the launcher's, which passes it on
            pass_fds=[lock],
        )
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return Training(cell=cell, process=process, lock=lock)


def end(training: Training) -> State:
    """Wait for a training to end; note it if it failed."""
    cell, status = training.cell, training.process.wait()
    ended_by = -status if status < 0 else status - 128
    interrupted = ended_by in (*STOP_SIGNALS, signal.SIGKILL)  # a crash of its own is a failure
    if not interrupted and not (cell.folder / RunFile.FINISHED).exists():
        write_atomically(_beside(cell, "failed"), f"{status}\n")
    os.close(training.lock)
    return "interrupted" if interrupted else look(cell)


def look(cell: Cell) -> State:
    """Return what became of a cell that nobody trains."""
    if (cell.folder / RunFile.FINISHED).exists():
        return "finished"
    return "FAILED" if _beside(cell, "failed").exists() else "waiting"


def forget_failure(cell: Cell) -> None:
    """Let a failed cell be trained again."""
    _beside(cell, "failed").unlink(missing_ok=True)


def _beside(cell: Cell, what: str) -> Path:
    return cell.folder.with_name(f"{cell.folder.name}.{what}")


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def share_machine(workers: int) -> list[dict[str, str]]:
    """Return the environments of trainings side by side: each has its share of the cores, and of
    GPUs if there are any.

    Args:
        workers: trainings at a time.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = (
        list(map(str, range(torch.cuda.device_count()))) if visible is None else visible.split(",")
    )
    shares = []
    for worker in range(workers):
        share = {
            "OMP_NUM_THREADS": str(max(1, count_cores() // workers)),
            **os.environ,
        }  # the user's own number stays
        if torch.cuda.is_available():
            share["CUDA_VISIBLE_DEVICES"] = ",".join(
                gpus[worker::workers] or [gpus[worker % len(gpus)]]
            )
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
            console: where to show it: a live table in a terminal, otherwise a line for each
                change, and the table at the end.
        """
        self.cells, self.group, self.board = cells, group, Board(cells, group, console)
        self.shares = share_machine(workers)  # those that no training has
        self.running: dict[str, tuple[Training, dict[str, str]]] = {}
        self.signals: list[int] = []  # that came
        self.told: set[str] = set()  # cells that the first one was passed on to

    def run(self) -> int:
        """Train what is open.

        Returns:
            An exit status: 0 where all cells are finished, 128 + the signal where one came,
            otherwise 1.
        """
        with _collecting(self.signals), self.board.shown():
            try:
                while self._step():
                    time.sleep(POLL)
            except BaseException:
                self._end_all()
                raise
        return 128 + self.signals[0] if self.signals else self.board.status()

    def _step(self) -> bool:
        """Take note of what ended, begin what can be begun.

        Return whether anything is still open.
        """
        if self.signals:
            self._pass_signals_on()
        for name, (training, share) in list(self.running.items()):
            if training.process.poll() is not None:
                del self.running[name]
                self.shares.append(share)
                self.board.tell(training.cell, end(training))
        for cell in self.cells:
            if self.signals or self.board.states[cell.name] not in ("waiting", "elsewhere"):
                continue
            if self.shares:
                begun = begin(cell, self.group, self.shares[0])
                if isinstance(begun, Training):
                    self.running[cell.name] = begun, self.shares.pop(0)
                self.board.tell(cell, "running" if isinstance(begun, Training) else begun)
            elif look(cell) == "finished":
                self.board.tell(cell, "finished")
        return bool(self.running) or (self.board.is_open() and not self.signals)

    def _end_all(self) -> None:
        """Let no training outlive a launcher that fails.

        Each ends with a checkpoint, for the next launch.
        """
        for training, _ in self.running.values():
            with suppress(ProcessLookupError):
                training.process.terminate()
        for training, _ in self.running.values():
            end(training)

    def _pass_signals_on(self) -> None:
        """Ask the trainings to end, which they do with a checkpoint.

        At a second signal kill them.
        """
        for name, (training, _) in self.running.items():
            with suppress(ProcessLookupError):
                if len(self.signals) > 1:
                    os.killpg(training.process.pid, signal.SIGKILL)
                elif name not in self.told:
                    training.process.terminate()
                    self.told.add(name)


@contextmanager
def _collecting(signals: list[int]) -> Iterator[None]:
    """Note the signals that stop a run instead of dying of them.

    An ignored SIGHUP stays ignored, as `nohup` asks. A shell without job control ignores SIGINT
    for what it starts in the background; such a run still answers it.
    """

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    stays_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    heard = [n for n in STOP_SIGNALS if not (n == signal.SIGHUP and stays_ignored)]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
