"""Many examples are shared out to processes, one for each core."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from headcount.watchdog import worker_pool

SHARE = 2000  # examples that a process takes at a time

Result = TypeVar("Result")


def map_examples(function: Callable[..., Result], *columns: Sequence[Any]) -> list[Result]:
    """Return ``function(*example)`` for each example, in order.

    Args:
        function: picklable, as its columns are; it runs in this process where there are too few
            examples to share.
        columns: the arguments, a sequence of one for each example; all are of one length.
    """
    assert len(set(map(len, columns))) == 1
    if len(columns[0]) < 3 * SHARE:
        return list(map(function, *columns))
    with worker_pool() as pool:
        return list(pool.map(function, *columns, chunksize=SHARE))
