"""The generated summaries of an interrupted command, from which it resumes.

Each process appends the rows of a batch to its own file of JSON lines before it starts the next
batch, so a killed process loses no finished batch. A line that cannot be read, as after a power
failure, is ignored, and its row is generated again.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from headcount.runs.files import unwritable_as_run_error, write_atomically
from headcount.runs.folder import RunFile


class PartialPredictions:
    """The rows that are generated so far, in a folder of JSON lines.

    Args:
        folder: the folder, which ``claim`` creates.
        count: number of rows of the complete result.
        process: rank of this process.

    Attributes:
        done: for each row whether it is generated, [count].
    """

    def __init__(self, folder: Path, count: int, process: int) -> None:
        self.folder = folder
        self.own = folder / f"{process}.jsonl"
        self.done = np.zeros(count, dtype=bool)
        self.files: list[Path] = []
        # Where each row is: the index of its file, and the byte at which its line begins.
        self.file_index = np.zeros(count, np.int64)
        self.offset = np.zeros(count, np.int64)

    def claim(self, provenance: Mapping[str, Any]) -> None:
        """Create the folder, and delete the rows in it that were generated with other settings.

        Args:
            provenance: everything that the rows depend on, such as the model and the documents.

        Raises:
            RunError: the folder cannot be written, or the disk is full.
        """
        stamp = self.folder / RunFile.PROVENANCE
        with unwritable_as_run_error(self.folder):
            if read_provenance(stamp) != provenance:
                # The folder itself is kept, because it may hold a lock.
                for path in self.folder.glob("*.jsonl"):
                    path.unlink()
            self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(stamp, json.dumps(provenance, indent=2))

    def read(self) -> None:
        """Find the finished rows of all processes."""
        self.files = sorted(self.folder.glob("*.jsonl"))
        for index, path in enumerate(self.files):
            offset = 0
            with path.open("rb") as lines:
                for line in lines:
                    # A last line without a line end was cut off when its process was killed.
                    if not line.endswith(b"\n"):
                        break
                    row = self._row_of(line)
                    if row is not None:
                        self.done[row] = True
                        self.file_index[row] = index
                        self.offset[row] = offset
                    offset += len(line)

            # Remove it from our own file, because the next row is appended there.
            if path == self.own:
                os.truncate(path, offset)

    def _row_of(self, line: bytes) -> int | None:
        """Return the number of the row in a line; None if the line is damaged or of other rows."""
        try:
            row = json.loads(line)["row"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return row if type(row) is int and 0 <= row < len(self.done) else None

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append those rows of a batch that are not done.

        Args:
            rows: each has its number as ``row``.

        Raises:
            RunError: the disk is full.
        """
        rows = [row for row in rows if not self.done[row["row"]]]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        with unwritable_as_run_error(self.own), self.own.open("ab") as file:
            file.write("".join(lines).encode())
        self.done[[row["row"] for row in rows]] = True

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows that the last ``read`` found, in order."""
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in self.files]
            for row in self.done.nonzero()[0]:
                file = files[self.file_index[row]]
                file.seek(self.offset[row])
                yield json.loads(file.readline())

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def read_provenance(stamp: Path) -> dict[str, Any] | None:
    """Read what rows or a finished file depend on; None if the file is missing or damaged."""
    try:
        provenance = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return provenance if isinstance(provenance, dict) else None
