"""Arrow files, written chunk by chunk and read through a memory map.

A table may be larger than memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from headcount.errors import ConfigError

CHUNK = 1000  # rows


def write_table(path: Path, schema: pa.Schema, chunks: Iterable[pa.RecordBatch]) -> None:
    """Write a table; no more than one chunk of it is in memory."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for chunk in chunks:
            writer.write_batch(chunk)


def read_table(path: Path) -> pa.Table:
    """Open a table; the system reads from disk what is looked at.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(
            f"{path}: damaged ({error}); delete {path.parent} to have it made again"
        ) from None


class Column(Sequence[Any]):
    """A column of a table as a sequence: a cell becomes a Python object when it is asked for."""

    def __init__(self, cells: pa.ChunkedArray) -> None:
        """Take the column."""
        self.cells = cells

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.cells)

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        """Return a cell, or a list of some."""
        return self.cells[row].to_pylist() if isinstance(row, slice) else self.cells[row].as_py()

    def __iter__(self) -> Iterator[Any]:
        """Yield the cells, a chunk of the table in memory at a time."""
        for chunk in self.cells.chunks:
            yield from chunk.to_pylist()
