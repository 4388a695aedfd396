"""``metrics.csv``: what a run has logged, a row a step.

The system has each before the training goes on, so that a kill loses none; the disk has them at
every checkpoint.
"""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from headcount.runs.files import name_unwritable, write_atomically
from headcount.runs.folder import RunFile


class MetricsFile(Logger):
    """Appends to the ``metrics.csv`` of a run.

    A figure that is new gives all rows one more column.
    """

    def __init__(self, folder: Path) -> None:
        """Take the run folder; rows that are there stay."""
        super().__init__()
        self.path = folder / RunFile.METRICS
        self.columns = read_rows(self.path)[0]

    @property
    def name(self) -> str | None:
        """None: the folder says it."""
        return None

    @property
    def version(self) -> int | str | None:
        """None: a folder has one."""
        return None

    def log_hyperparams(self, *_: Any) -> None:
        """Do nothing: the config is in ``config.yaml``."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a row."""
        row = {"step": step, **metrics}
        if new := row.keys() - set(self.columns):
            self.columns = sorted([*self.columns, *new])
            _write_rows(self.path, self.columns, read_rows(self.path)[1])
        with name_unwritable(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def save(self) -> None:
        """Make sure that the rows outlast the machine, too."""
        if self.path.exists():
            with name_unwritable(self.path), self.path.open("rb") as file:
                os.fsync(file.fileno())


def cut_metrics(folder: Path, step: int) -> None:
    """Drop the rows of a run that were logged from a step on, which will be logged again."""
    path = folder / RunFile.METRICS
    if path.exists():
        columns, rows = read_rows(path)
        _write_rows(path, columns, [row for row in rows if int(row["step"]) < step])


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return columns and rows of a file, none where it is missing; a last line that was not
    written to its end is left.

    Returns:
        The names of the columns, and the rows by them.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    table = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    return list(table.fieldnames or []), list(table)


def _write_rows(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, text.getvalue())
