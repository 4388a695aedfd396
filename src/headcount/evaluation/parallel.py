"""A map over examples that uses all cores."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from headcount.watchdog import worker_pool

CHUNK = 2000  # examples in a task of a worker process

Result = TypeVar("Result")


def map_examples(function: Callable[..., Result], *columns: Sequence[Any]) -> list[Result]:
    """Return ``function(*example)`` for each example, in order.

    Args:
        function: a picklable function.
        columns: for each argument its values of all examples, which are picklable.
    """
    assert len(set(map(len, columns))) == 1
    # Starting processes takes longer than scoring few examples.
    if len(columns[0]) < 3 * CHUNK:
        return list(map(function, *columns))
    with worker_pool() as pool:
        return list(pool.map(function, *columns, chunksize=CHUNK))
