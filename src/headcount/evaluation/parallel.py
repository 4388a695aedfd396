"""Scores many examples on all cores."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from headcount.watchdog import worker_pool

CHUNK = 2000  # examples that a process takes at a time

Result = TypeVar("Result")


def map_examples(function: Callable[..., Result], *columns: Sequence[Any]) -> list[Result]:
    """Return ``function(*example)`` for each example, in order.

    Args:
        function: picklable, and so are the columns; for few examples it runs in this process.
        columns: the arguments, a sequence of one for each example; all have one length.
    """
    assert len(set(map(len, columns))) == 1
    if len(columns[0]) < 3 * CHUNK:
        return list(map(function, *columns))
    with worker_pool() as pool:
        return list(pool.map(function, *columns, chunksize=CHUNK))
