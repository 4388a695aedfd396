"""Arrow files: written chunk by chunk, read through a memory map.

A table may be larger than memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from headcount.errors import ConfigError

CHUNK = 1000  # rows


def write_table(path: Path, schema: pa.Schema, chunks: Iterable[pa.RecordBatch]) -> None:
    """Write a table. At most one chunk of it is in memory."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for chunk in chunks:
            writer.write_batch(chunk)


def read_table(path: Path) -> pa.Table:
    """Open a table. Its pages are read from disk when they are used.

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
    """A column of a table as a sequence of Python objects, which are made when they are used.

    Args:
        values: the column.
    """

    def __init__(self, values: pa.ChunkedArray) -> None:
        self.values = values

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        """Return the value of a row, or a list of those of several rows."""
        if isinstance(row, slice):
            return self.values[row].to_pylist()
        return self.values[row].as_py()

    def __iter__(self) -> Iterator[Any]:
        """Yield the values. One chunk of the table is in memory at a time."""
        for chunk in self.values.chunks:
            yield from chunk.to_pylist()
