"""Many examples are shared out to processes, one for each core."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

SHARE = 2000  # examples that a process takes at a time

Result = TypeVar("Result")


def map_examples(function: Callable[..., Result], *columns: Sequence[Any]) -> list[Result]:
    """Return ``function(*example)`` for each example, in order.

    Args:
        function: picklable, as its columns are; it runs in this process where there are too few examples to share.
        columns: the arguments, a sequence of one for each example; all are of one length.
    """
    assert len(set(map(len, columns))) == 1
    if len(columns[0]) < 3 * SHARE:
        return list(map(function, *columns))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # a fork of a process with torch may hang
        return list(pool.map(function, *columns, chunksize=SHARE))
