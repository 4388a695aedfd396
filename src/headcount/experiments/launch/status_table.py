"""What is to be seen of a study while it runs.

The state, progress and best score of every cell.
"""

import csv
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

from headcount.experiments.cell import Cell
from headcount.runs.folder import RunFile
from headcount.terminal import say

State = Literal["waiting", "running", "elsewhere", "finished", "interrupted", "FAILED"]
OPEN: tuple[State, ...] = ("waiting", "running", "elsewhere")


class Board:
    """The states of all cells.

    In a terminal a live table; else a line for each change, and the table at the end.
    """

    def __init__(self, cells: list[Cell], title: str, console: Console) -> None:
        """Take what to show, and where."""
        self.cells, self.title, self.console = cells, title, console
        self.states: dict[str, State] = {cell.name: "waiting" for cell in cells}
        self.begun: dict[
            str, tuple[float, int]
        ] = {}  # when a cell was first seen to run, and its step then

    def shown(self) -> Live:
        """Return the context in which the table is shown."""
        return Live(console=self.console, get_renderable=self.table, refresh_per_second=1)

    def tell(self, cell: Cell, state: State) -> None:
        """Take note of a cell's state."""
        if state == self.states[cell.name]:
            return
        self.states[cell.name] = state
        self.begun.pop(cell.name, None)
        if state in ("running", "elsewhere"):
            self.begun[cell.name] = time.monotonic(), read_progress(cell)[0]
        if not self.console.is_terminal:
            line = f"{time.strftime('%H:%M:%S')} {cell.name}: {state}"
            if _log(cell, state):
                line += ", see "
            say(self.console, f"{line}{_log(cell, state)}")

    def is_open(self) -> bool:
        """Return whether anything may still be trained."""
        return any(state in OPEN for state in self.states.values())

    def status(self) -> int:
        """Return an exit status: 0 where all cells are finished."""
        return int(any(state != "finished" for state in self.states.values()))

    def table(self) -> Table:
        """Return the state, progress, best validation score and time left of every cell."""
        score = self.cells[0].config.evaluation.select_by
        finished = Counter(self.states.values())["finished"]
        shown = Table(title=f"{self.title}: {finished} of {len(self.cells)} cells finished")
        for column in ("cell", "state", "step", f"best {score}", "time left", "log"):
            shown.add_column(column, overflow="fold")
        for cell in self.cells:
            state, (step, best), most = (
                self.states[cell.name],
                read_progress(cell),
                cell.config.trainer["max_steps"],
            )
            shown.add_row(
                cell.name,
                state,
                f"{step:,} / {most:,}" if most >= 0 else f"{step:,}",
                "" if best is None else f"{best:.2f}",
                self._time_left(cell, step, most),
                _log(cell, state),
            )
        return shown

    def _time_left(self, cell: Cell, step: int, most: int) -> str:
        begun, first = self.begun.get(cell.name, (0.0, step))
        if step <= first or step > most:
            return ""
        return str(
            timedelta(seconds=round((time.monotonic() - begun) / (step - first) * (most - step)))
        )


def _log(cell: Cell, state: State) -> str:
    return str(cell.log) if state in ("FAILED", "interrupted") else ""


def read_progress(cell: Cell) -> tuple[int, float | None]:
    """Return the last step that ``metrics.csv`` tells of, and the best validation score."""
    step, best = 0, None
    with (
        suppress(OSError),
        (cell.folder / RunFile.METRICS).open(encoding="utf-8", newline="") as file,
    ):
        for row in csv.DictReader(file):
            with suppress(ValueError, KeyError, TypeError):  # a row that is just being written
                step = max(step, int(row["step"]) + 1)
                best = max(
                    float(row[f"validation/{cell.config.evaluation.select_by}"]), best or 0.0
                )
    most = cell.config.trainer["max_steps"]
    return (min(step, most) if most > 0 else step), best
