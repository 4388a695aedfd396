"""Trains the cells of a study as one SLURM job array, through submitit, which requeues a job that
is preempted.

A job has one requeuer only: the training does not see that it runs under SLURM, so that Lightning
leaves the signals to submitit.
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
from headcount.experiments.launch.local import (
    Training,
    divide_machine,
    finish_training,
    read_state,
    start_training,
)
from headcount.experiments.launch.status_table import State, StatusTable
from headcount.terminal import print_on

POLL_INTERVAL = 2.0  # seconds
TIME_LIMIT = 60  # minutes, unless an option sets it
STRUCTURED_OPTIONS = ("setup", "srun_args", "additional_parameters")  # of submitit
MAX_TIMEOUTS = 100  # requeues of a job that reaches its time limit


class CellJob:
    """A job that trains a cell. When it is preempted, the training stops with a checkpoint and the
    job is requeued.

    Args:
        cell: what to train.
        group: of its W&B run.
    """

    def __init__(self, cell: Cell, group: str) -> None:
        self.cell = cell
        self.group = group
        self.training: Training | None = None

    def __call__(self) -> State:
        """Train in a process that does not see SLURM; return the state of the cell."""
        [environment] = divide_machine(1)
        without_slurm = {
            name: value
            for name, value in environment.items()
            if not name.startswith(("SLURM_", "SUBMITIT_"))
        }
        while True:
            started = start_training(self.cell, self.group, without_slurm)
            if started != "elsewhere":
                break
            time.sleep(POLL_INTERVAL)
        if not isinstance(started, Training):
            return started

        # Between two polls submitit may call checkpoint().
        self.training = started
        while started.process.poll() is None:
            time.sleep(0.2)
        return finish_training(started)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Stop the training and return the requeued job, which resumes it."""
        if self.training and self.training.process.returncode is None:
            process = self.training.process
            with suppress(ProcessLookupError):
                process.terminate()
            # poll() may be interrupted by this call, so the exit status is left for it.
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(CellJob(self.cell, self.group))


def launch_on_slurm(
    cells: Sequence[Cell],
    group: str,
    *,
    workers: int | None,
    options: Sequence[str],
    console: Console,
) -> int:
    """Submit the open cells as a job array, and show their progress until all have ended.

    Args:
        cells: what to train.
        group: the experiment.
        workers: jobs at a time; None: as many as SLURM runs.
        options: KEY=VALUE each, with submitit's names: partition, time, gpus_per_node, ...
        console: where to show it.

    Returns:
        An exit status: 0 if all cells are finished. The jobs continue after Ctrl-C or SIGTERM.

    Raises:
        ConfigError: there is no SLURM here, or no such option.
    """
    # Cells that are finished or have failed are shown, and not submitted.
    table = StatusTable(cells, group, console)
    for cell in cells:
        table.update(cell, read_state(cell))
    waiting = [cell for cell in cells if table.states[cell.name] == "waiting"]
    if not waiting:
        console.print(table.render())
        return table.exit_status()

    jobs = _submit(waiting, group, workers, options)
    array = jobs[0].job_id.split("_")[0]
    print_on(console, f"SLURM job {array}: scancel {array} ends it; the same command resumes")
    submitted = time.time()

    # The jobs write no state to this process: ask SLURM, and read the run folders.
    try:
        with table.live():
            while table.has_open_cells():
                for cell, job in zip(waiting, jobs, strict=True):
                    if table.states[cell.name] in ("waiting", "running"):
                        table.update(cell, _read_job_state(cell, job, submitted))
                time.sleep(POLL_INTERVAL)
    except KeyboardInterrupt:
        print_on(console, f"SLURM job {array} continues without this table")
        return 128 + signal.SIGINT
    return table.exit_status()


def _submit(
    cells: Sequence[Cell], group: str, workers: int | None, options: Sequence[str]
) -> list[submitit.Job[State]]:
    parameters: dict[str, Any] = {"time": TIME_LIMIT, "job_name": group}
    for option in options:
        name, equals, value = option.partition("=")
        if not name or not equals:
            raise ConfigError(f"--slurm {option}: legal: KEY=VALUE, as in --slurm partition=gpu")
        parameters[name] = _parse_option(name, value)
    if workers:
        parameters["array_parallelism"] = workers

    logs = cells[0].folder.parent / "submitit"
    try:
        executor = submitit.SlurmExecutor(logs, max_num_timeout=MAX_TIMEOUTS)
        executor.update_parameters(**parameters)
        with executor.batch():
            return [executor.submit(CellJob(cell, group)) for cell in cells]
    except (RuntimeError, ValueError, submitit.core.utils.FailedJobError) as error:
        raise ConfigError(f"--where slurm: {' '.join(str(error).split())}") from None


def _parse_option(name: str, text: str) -> Any:
    """Return the value of an option: YAML where submitit takes a list or a mapping; otherwise a
    plain number, a boolean, or text.

    As YAML, the time 1:30:00 would be a number in base 60, and the account 0123 another number.
    """
    if name in STRUCTURED_OPTIONS:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(
                f"--slurm {name}={text}: no YAML; legal: as in --slurm 'setup=[module load cuda]'"
            ) from None
    if text in ("true", "false"):
        return text == "true"
    is_number = text.isascii() and text.isdecimal() and str(int(text)) == text
    return int(text) if is_number else text


def _read_job_state(cell: Cell, job: submitit.Job[State], submitted: float) -> State:
    # The job is asked first: a cell may end between the two.
    is_done = job.done()
    state = read_state(cell)
    if state != "waiting":
        return state
    if is_done:
        return "interrupted"
    has_started = cell.log.exists() and cell.log.stat().st_mtime >= submitted
    return "running" if has_started else "waiting"
