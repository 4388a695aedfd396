"""Results on their way: rows as they are made, a file of JSON lines a process, which a later start
goes on from.

The lines of a batch are handed to the system before the next batch begins, so a killed process
loses no batch that it has finished. A last line that was not written to its end is dropped.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headcount.errors import ConfigError
from headcount.runs.files import name_unwritable, write_atomically


class PartialPredictions:
    """Those of a known number of rows that there are, in a folder of their own until they are
    complete."""

    def __init__(self, folder: Path, count: int, process: int) -> None:
        """Take the folder, how many rows there will be, and which process this is."""
        self.folder, self.own = folder, folder / f"{process}.jsonl"
        self.done = np.zeros(count, dtype=bool)
        self.files: list[Path] = []
        # of each row its file's number and where its line begins
        self.places = np.zeros((2, count), np.int64)

    def claim(self, made_of: Mapping[str, Any]) -> None:
        """Make the folder for rows made of something, and drop those in it that were made of
        anything else.

        Raises:
            ConfigError: the folder cannot be made.
        """
        stamp, text = self.folder / "made_of.json", json.dumps(made_of, indent=2)
        try:
            if not (stamp.is_file() and stamp.read_text(encoding="utf-8") == text):
                # the folder stays: there may be a lock in it
                for path in self.folder.glob("*.jsonl"):
                    path.unlink()
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(stamp, text)
        except OSError as error:
            raise ConfigError(f"{self.folder}: cannot be written: {error.strerror}") from None

    def read(self) -> None:
        """Look which rows there are, those of all processes."""
        self.files = sorted(self.folder.glob("*.jsonl"))
        for number, path in enumerate(self.files):
            begin = 0
            with path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    row = json.loads(line)["row"]
                    self.done[row], self.places[:, row] = True, (number, begin)
                    begin += len(line)
            if path == self.own:
                os.truncate(path, begin)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of a batch, each with its number as ``row``, but those that are there."""
        rows = [row for row in rows if not self.done[row["row"]]]
        with name_unwritable(self.own), self.own.open("ab") as file:
            file.write(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
            )
        self.done[[row["row"] for row in rows]] = True

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows by their numbers, as ``read`` found them."""
        files = [path.open("rb") for path in self.files]
        try:
            for row in self.done.nonzero()[0]:
                number, begin = self.places[:, row]
                files[number].seek(begin)
                yield json.loads(files[number].readline())
        finally:
            for file in files:
                file.close()

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
