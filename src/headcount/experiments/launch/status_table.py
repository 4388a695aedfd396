"""The status of a study while it runs: state, progress and best score of every cell."""

import csv
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

from headcount.experiments.cell import Cell
from headcount.runs.folder import RunFile
from headcount.terminal import print_on

State = Literal["waiting", "running", "elsewhere", "finished", "interrupted", "FAILED"]
OPEN_STATES: tuple[State, ...] = ("waiting", "running", "elsewhere")


class StatusTable:
    """The states of all cells: a live table in a terminal; otherwise a line for each change, and
    the table at the end.

    Args:
        cells: what to show.
        title: of the table.
        console: where to show it.
    """

    def __init__(self, cells: Sequence[Cell], title: str, console: Console) -> None:
        self.cells = cells
        self.title = title
        self.console = console
        self.states: dict[str, State] = {cell.name: "waiting" for cell in cells}
        # When a cell was first seen running, and its step at that time.
        self.started: dict[str, tuple[float, int]] = {}

    def live(self) -> Live:
        """Return the context in which the table is shown."""
        return Live(console=self.console, get_renderable=self.render, refresh_per_second=1)

    def update(self, cell: Cell, state: State) -> None:
        """Set the state of a cell."""
        if state == self.states[cell.name]:
            return
        self.states[cell.name] = state
        self.started.pop(cell.name, None)
        if state in ("running", "elsewhere"):
            step, _ = read_progress(cell)
            self.started[cell.name] = (time.monotonic(), step)

        if not self.console.is_terminal:
            line = f"{time.strftime('%H:%M:%S')} {cell.name}: {state}"
            log = _log_to_read(cell, state)
            print_on(self.console, f"{line}, see {log}" if log else line)

    def has_open_cells(self) -> bool:
        """Return whether any cell may still be trained."""
        return any(state in OPEN_STATES for state in self.states.values())

    def exit_status(self) -> int:
        """Return 0 if all cells are finished, otherwise 1."""
        return int(any(state != "finished" for state in self.states.values()))

    def render(self) -> Table:
        """Return a table of state, progress, best validation score and time left."""
        score = self.cells[0].config.evaluation.select_by
        finished = Counter(self.states.values())["finished"]
        table = Table(title=f"{self.title}: {finished} of {len(self.cells)} cells finished")
        for column in ("cell", "state", "step", f"best {score}", "time left", "log"):
            table.add_column(column, overflow="fold")

        for cell in self.cells:
            state = self.states[cell.name]
            step, best = read_progress(cell)
            max_steps = cell.config.trainer["max_steps"]
            table.add_row(
                cell.name,
                state,
                f"{step:,} / {max_steps:,}" if max_steps >= 0 else f"{step:,}",
                "" if best is None else f"{best:.2f}",
                self._time_left(cell, step, max_steps),
                _log_to_read(cell, state),
            )
        return table

    def _time_left(self, cell: Cell, step: int, max_steps: int) -> str:
        start_time, start_step = self.started.get(cell.name, (0.0, step))
        if step <= start_step or step > max_steps:
            return ""
        seconds_per_step = (time.monotonic() - start_time) / (step - start_step)
        return str(timedelta(seconds=round(seconds_per_step * (max_steps - step))))


def _log_to_read(cell: Cell, state: State) -> str:
    return str(cell.log) if state in ("FAILED", "interrupted") else ""


def read_progress(cell: Cell) -> tuple[int, float | None]:
    """Return the number of steps in ``metrics.csv`` and the best validation score."""
    steps = 0
    best = None
    score = f"validation/{cell.config.evaluation.select_by}"
    metrics = cell.folder / RunFile.METRICS
    with suppress(OSError), metrics.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            # The last row may be incomplete: it is just being written.
            with suppress(ValueError, KeyError, TypeError):
                steps = max(steps, int(row["step"]) + 1)
                best = max(float(row[score]), best or 0.0)

    max_steps = cell.config.trainer["max_steps"]
    return (min(steps, max_steps) if max_steps > 0 else steps), best
