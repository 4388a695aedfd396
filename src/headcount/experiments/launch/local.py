"""Trains the cells of a study on this machine. Each is trained once, however many launches there
are; an interrupted one is resumed.

A training is a process ``headcount train``. Files beside its run folder record its state:
FOLDER.log is what it printed, FOLDER.failed its exit status if it failed, and FOLDER.lock is
locked while it is trained. The launcher takes this lock and the training inherits it, so that it
is held as long as either of them lives.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console

from headcount.experiments.cell import Cell
from headcount.experiments.launch.status_table import State, StatusTable
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile
from headcount.watchdog import STOP_SIGNALS

POLL_INTERVAL = 0.5  # seconds


@dataclass(frozen=True, kw_only=True)
class Training:
    """A cell that this launch is training.

    Attributes:
        cell: what is trained.
        process: the command.
        lock: descriptor of the cell's lock.
        environment: of the process: its part of the machine.
    """

    cell: Cell
    process: subprocess.Popen[bytes]
    lock: int
    environment: Mapping[str, str]


def start_training(cell: Cell, group: str, environment: Mapping[str, str]) -> Training | State:
    """Start or resume a cell's training.

    Args:
        cell: what to train.
        group: of its W&B run.
        environment: of the process.

    Returns:
        The training; or the state of a cell that is finished, has failed, or is trained by
        another launch.
    """
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(_state_file(cell, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return "elsewhere"

    # Another launch may just have finished it.
    state = read_state(cell)
    if state != "waiting":
        os.close(lock)
        return state

    # SLURM sends SIGUSR2 to all processes of a job. It is meant for the launcher: the training is
    # started with it blocked.
    earlier_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        cell.write_config(group)
        with cell.log.open("ab") as log:
            process = subprocess.Popen(
                cell.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Nothing that the training starts imports from the current folder.
                env={**environment, "PYTHONSAFEPATH": "1"},
                # Ctrl-C at the terminal reaches the launcher only, which forwards it.
                start_new_session=True,
                pass_fds=[lock],
            )
    except BaseException:
        os.close(lock)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier_mask)
    return Training(cell=cell, process=process, lock=lock, environment=environment)


def finish_training(training: Training) -> State:
    """Wait until a training has ended, and record a failure."""
    cell = training.cell
    status = training.process.wait()

    # A training that was stopped by a signal is resumed by the next launch, unless the signal came
    # after its end. A signal of its own, as a segmentation fault, is a failure.
    signal_number = -status if status < 0 else status - 128
    is_interrupted = signal_number in (*STOP_SIGNALS, signal.SIGKILL)
    state = read_state(cell)
    if state == "waiting" and not is_interrupted:
        write_atomically(_state_file(cell, "failed"), f"{status}\n")
        state = "FAILED"
    os.close(training.lock)
    return "interrupted" if state == "waiting" else state


def read_state(cell: Cell) -> State:
    """Return the state of a cell that is not being trained."""
    if (cell.folder / RunFile.FINISHED).exists():
        return "finished"
    return "FAILED" if _state_file(cell, "failed").exists() else "waiting"


def forget_failure(cell: Cell) -> None:
    """Allow a failed cell to be trained again."""
    _state_file(cell, "failed").unlink(missing_ok=True)


def _state_file(cell: Cell, suffix: str) -> Path:
    return cell.folder.with_name(f"{cell.folder.name}.{suffix}")


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def divide_machine(workers: int) -> list[dict[str, str]]:
    """Return the environment of each of several trainings at a time, with its part of the cores,
    and of the GPUs if there are any.

    Args:
        workers: trainings at a time.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        gpus = [str(number) for number in range(torch.cuda.device_count())]
    else:
        gpus = visible.split(",")

    environments = []
    for worker in range(workers):
        # A number of threads that the user has set is kept.
        threads = max(1, count_cores() // workers)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        if torch.cuda.is_available():
            own_gpus = gpus[worker::workers] or [gpus[worker % len(gpus)]]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(own_gpus)
        environments.append(environment)
    return environments


class Launch:
    """Trains cells side by side until all have ended, and shows their progress.

    Args:
        cells: in the order in which they are started.
        group: the experiment, which groups the W&B runs.
        workers: trainings at a time.
        console: shows a live table in a terminal; otherwise a line for each change, and the table
            at the end.
    """

    def __init__(
        self, cells: Sequence[Cell], group: str, *, workers: int, console: Console
    ) -> None:
        self.cells = cells
        self.group = group
        self.table = StatusTable(cells, group, console)
        self.free_environments: list[Mapping[str, str]] = [*divide_machine(workers)]
        self.running: dict[str, Training] = {}
        self.received: list[int] = []  # signals
        self.terminated: set[str] = set()  # cells that were asked to stop

    def run(self) -> int:
        """Train every cell that is neither finished nor failed.

        Returns:
            An exit status: 0 if all cells are finished, 128 + the signal after one, otherwise 1.
        """
        with _collect_signals(self.received), self.table.live():
            try:
                while self._step():
                    time.sleep(POLL_INTERVAL)
            except BaseException:
                self._terminate_all()
                raise
        return 128 + self.received[0] if self.received else self.table.exit_status()

    def _step(self) -> bool:
        """Record what has ended and start what can be started; return whether anything is left to
        wait for."""
        if self.received:
            self._forward_signals()

        # What has ended leaves its part of the machine free.
        for name, training in list(self.running.items()):
            if training.process.poll() is not None:
                del self.running[name]
                self.free_environments.append(training.environment)
                self.table.update(training.cell, finish_training(training))

        # A cell that another launch trains is tried again: it may have been interrupted.
        for cell in self.cells:
            is_open = self.table.states[cell.name] in ("waiting", "elsewhere")
            if is_open and not self.received:
                self._try_to_start(cell)
        return bool(self.running) or (self.table.has_open_cells() and not self.received)

    def _try_to_start(self, cell: Cell) -> None:
        """Start a cell if a worker is free; otherwise see whether another launch finished it."""
        if not self.free_environments:
            if read_state(cell) == "finished":
                self.table.update(cell, "finished")
            return
        started = start_training(cell, self.group, self.free_environments[0])
        if isinstance(started, Training):
            self.free_environments.pop(0)
            self.running[cell.name] = started
            self.table.update(cell, "running")
        else:
            self.table.update(cell, started)

    def _terminate_all(self) -> None:
        """Stop all trainings, with a checkpoint each. None outlives a launcher that fails."""
        for training in self.running.values():
            with suppress(ProcessLookupError):
                training.process.terminate()
        for training in self.running.values():
            finish_training(training)

    def _forward_signals(self) -> None:
        """Ask the trainings to stop, with a checkpoint; kill them at a second signal."""
        for name, training in self.running.items():
            with suppress(ProcessLookupError):
                if len(self.received) > 1:
                    os.killpg(training.process.pid, signal.SIGKILL)
                elif name not in self.terminated:
                    training.process.terminate()
                    self.terminated.add(name)


@contextmanager
def _collect_signals(received: list[int]) -> Iterator[None]:
    """Append the signals that stop a run to a list, instead of ending the process.

    An ignored SIGHUP stays ignored, as `nohup` asks. A shell without job control ignores SIGINT
    for what it starts in the background; such a run still answers it.
    """

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    earlier_handlers = {}
    for number in STOP_SIGNALS:
        is_ignored = signal.getsignal(number) == signal.SIG_IGN
        if not (number == signal.SIGHUP and is_ignored):
            earlier_handlers[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in earlier_handlers.items():
            signal.signal(number, handler)
