"""Trains the cells of a study as one SLURM job array, through submitit, which requeues a job that
is pre-empted.

Two requeuers on one job are one too many: a training does not see that it runs under SLURM, so
that Lightning leaves the signals to submitit.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import submitit
import yaml
from rich.console import Console

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.launch.local import Training, begin, end, look, share_machine
from headcount.experiments.launch.status_table import Board, State
from headcount.terminal import say

POLL = 2.0  # seconds between two looks at the jobs
HOUR = 60  # time limit in minutes, unless an option says otherwise
REQUEUES = 100  # times that a job may reach it and go on


class CellJob:
    """What a job does.

    Train a cell; when it has to make room, let the training end with a checkpoint and come back.
    """

    def __init__(self, cell: Cell, group: str) -> None:
        """Take the cell, and what its W&B run belongs to."""
        self.cell, self.group = cell, group
        self.training: Training | None = None

    def __call__(self) -> State:
        """Train, in a process that knows nothing of SLURM; return what became of the cell."""
        share = share_machine(1)[0].items()
        own = {
            name: value for name, value in share if not name.startswith(("SLURM_", "SUBMITIT_"))
        }
        while (begun := begin(self.cell, self.group, own)) == "elsewhere":
            time.sleep(POLL)
        if not isinstance(begun, Training):
            return begun
        self.training = begun
        while begun.process.poll() is None:
            time.sleep(0.2)  # checkpoint() comes in between
        return end(begun)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """End the training, and return what the requeued job does.

        The same, from its checkpoint.
        """
        if self.training and self.training.process.returncode is None:
            with suppress(ProcessLookupError):
                self.training.process.terminate()
            with suppress(ChildProcessError):
                os.waitid(
                    os.P_PID, self.training.process.pid, os.WEXITED | os.WNOWAIT
                )  # poll() may be interrupted
        return submitit.helpers.DelayedSubmission(CellJob(self.cell, self.group))


def launch_on_slurm(
    cells: list[Cell], group: str, *, workers: int | None, options: Sequence[str], console: Console
) -> int:
    """Submit what is not finished as a job array, and show how the jobs do until all have ended.

    Args:
        cells: what to train.
        group: the experiment.
        workers: jobs at a time; None: as many as SLURM lets run.
        options: KEY=VALUE each, as submitit names SLURM's: partition, time, gpus_per_node, ...
        console: where to show it.

    Returns:
        An exit status: 0 where all cells are finished. At Ctrl-C or SIGTERM the jobs go on.

    Raises:
        ConfigError: there is no SLURM here, or no such option.
    """
    board = Board(cells, group, console)
    for cell in cells:
        board.tell(cell, look(cell))
    todo = [cell for cell in cells if board.states[cell.name] == "waiting"]
    jobs = dict(
        zip((cell.name for cell in todo), _submit(todo, group, workers, options), strict=True)
    )
    if not jobs:
        console.print(board.table())
        return board.status()
    array = next(iter(jobs.values())).job_id.split("_")[0]
    say(console, f"SLURM job {array}: scancel {array} ends it; the same command resumes")
    submitted = time.time()
    try:
        with board.shown():
            while board.is_open():
                for cell in todo:
                    if board.states[cell.name] in ("waiting", "running"):
                        board.tell(cell, _look_at(cell, jobs[cell.name], submitted))
                time.sleep(POLL)
    except KeyboardInterrupt:
        say(console, f"SLURM job {array} continues without this table")
        return 128 + signal.SIGINT
    return board.status()


def _submit(
    cells: list[Cell], group: str, workers: int | None, options: Sequence[str]
) -> list[submitit.Job[State]]:
    if not cells:
        return []
    given: dict[str, Any] = {"time": HOUR, "job_name": group}
    for option in options:
        name, _, value = option.partition("=")
        given[name] = yaml.safe_load(value)
    if workers:
        given["array_parallelism"] = workers
    try:
        executor = submitit.SlurmExecutor(
            cells[0].folder.parent / "submitit", max_num_timeout=REQUEUES
        )
        executor.update_parameters(**given)
        with executor.batch():
            return [executor.submit(CellJob(cell, group)) for cell in cells]
    except (RuntimeError, ValueError, submitit.core.utils.FailedJobError) as error:
        raise ConfigError(f"--where slurm: {' '.join(str(error).split())}") from None


def _look_at(cell: Cell, job: submitit.Job[State], submitted: float) -> State:
    done = job.done()
    if (state := look(cell)) != "waiting" or done:
        return "interrupted" if state == "waiting" else state
    return "running" if cell.log.exists() and cell.log.stat().st_mtime >= submitted else "waiting"
