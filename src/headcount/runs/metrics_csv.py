"""``metrics.csv``: the logged metrics of a run, one row per logged step.

A row is written to the operating system before training continues, so that a killed process loses
none. The file is flushed to disk with every checkpoint.
"""

import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from headcount.runs.files import put_aside, unwritable_as_run_error, write_atomically
from headcount.runs.folder import RunFile, current_folder


class MetricsFile(Logger):
    """Appends to the ``metrics.csv`` of a run.

    A new metric adds a column to all rows.

    Args:
        folder: the run folder, whose earlier rows are kept.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.columns = read_rows(self.path)[0]

    @property
    def path(self) -> Path:
        """Path of the file; a user may have renamed the folder."""
        return current_folder(self.folder) / RunFile.METRICS

    @property
    def name(self) -> str | None:
        """None: a name would be part of paths, and the run folder is the only one."""
        return None

    @property
    def version(self) -> int | str | None:
        """None: a run folder has only one version."""
        return None

    def log_hyperparams(self, *_: Any) -> None:
        """Do nothing: the config is in ``config.yaml``."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
        path = self.path
        row = {"step": step, **metrics}
        new_columns = row.keys() - set(self.columns)
        if new_columns:
            self.columns = sorted([*self.columns, *new_columns])
            _write_rows(path, self.columns, read_rows(path)[1])
        with unwritable_as_run_error(path), path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def save(self) -> None:
        """Flush the rows to disk."""
        path = self.path
        if path.exists():
            with unwritable_as_run_error(path), path.open("rb") as file:
                os.fsync(file.fileno())


def truncate_metrics(folder: Path, step: int) -> None:
    """Drop the rows that were logged at a step or later; the resumed run logs them again.

    A file that was saved by a spreadsheet can be read, too: with another separator, decimal
    commas, a byte-order mark, or steps like ``1.0``. A file that is not a table of steps is put
    aside.

    Args:
        folder: the run folder.
        step: step of the checkpoint that the run resumes from.
    """
    path = folder / RunFile.METRICS
    if not path.exists():
        return
    try:
        columns, rows = read_rows(path)
        kept = []
        for row in rows:
            logged_at = float(row["step"])
            if not logged_at.is_integer() or len(row) != len(columns):
                raise ValueError(f"{row['step']} is not a step")
            if logged_at < step:
                kept.append({**row, "step": str(int(logged_at))})
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        put_aside(path, f"damaged ({type(error).__name__}: {error})")
        return
    _write_rows(path, columns, kept)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the rows of the file. A missing file has none, and an incomplete last line is ignored.

    Returns:
        The names of the columns, and each row as a dictionary by these names.

    Raises:
        ValueError: the file is not text.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    text = text.removeprefix("\ufeff")
    text = text[: text.rfind("\n") + 1]

    # Spreadsheets of many languages separate by semicolons and write decimal commas.
    header = text.partition("\n")[0]
    separator = next((each for each in (";", "\t") if each in header and "," not in header), ",")
    table = csv.DictReader(io.StringIO(text), delimiter=separator)
    rows = list(table)
    if separator != ",":
        for row in rows:
            row.update({name: _with_point(cell) for name, cell in row.items()})
    return list(table.fieldnames or []), rows


def _with_point(cell: Any) -> Any:
    """Replace the decimal comma of a number by a point; anything else is returned unchanged."""
    is_number = isinstance(cell, str) and re.fullmatch(r"-?\d+,\d+([eE][-+]?\d+)?", cell)
    return cell.replace(",", ".") if is_number else cell


def _write_rows(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, text.getvalue())
