"""Training pairs as they come from a source, for a set larger than memory or disk.

A stream has no end: its source is read again and again. Of the pairs that wait in a buffer the
next one is drawn at random, so that the order is the more random the larger the buffer.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from headcount.data.arrow_table import CHUNK
from headcount.data.batches import Batch, Layout
from headcount.data.loader import check_made_of
from headcount.data.sources import Source
from headcount.data.tokens import encode, views
from headcount.errors import ConfigError
from headcount.terminal import print_line
from headcount.watchdog import ignore_stop_signals

# The number of batches of an epoch, for Lightning, which would otherwise fetch one batch ahead to
# see whether the epoch ends.
ENDLESS = 2**31 - 1
Example = tuple[
    int, str, str
]  # a number that no other pair of the source has, document and summary


@dataclass(frozen=True, kw_only=True)
class Stream(IterableDataset[Batch]):
    """The batches of one process, without end.

    Attributes:
        source: the training split.
        tokenizer: from ``headcount.data.tokenizer``.
        layout: how batches are laid out.
        budget: most tokens of a batch.
        buffer: pairs among which the next one is drawn.
        seed: of the draws.
        process: which process this is.
        processes: how many there are.
    """

    source: Source
    tokenizer: Tokenizer
    layout: Layout
    budget: int
    buffer: int
    seed: int
    process: int = 0
    processes: int = 1

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this process, or of this worker of it."""
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        part, parts = self.process * workers + number, self.processes * workers
        examples = self._shuffled(part, parts)
        batch: list[tuple[int, Any, Any]] = []
        room = self.budget
        while chunk := list(islice(examples, CHUNK)):
            rows, documents, summaries = zip(*chunk, strict=True)
            ids = (views(encode(self.tokenizer, texts)) for texts in (documents, summaries))
            for example in zip(rows, *ids, strict=True):
                room -= self.layout.tokens(*example[1:])
                if room < 0:
                    yield self.layout.batch(*zip(*batch, strict=True))
                    batch, room = [], self.budget - self.layout.tokens(*example[1:])
                batch.append(example)

    def _shuffled(self, part: int, parts: int) -> Iterator[Example]:
        random = np.random.default_rng([self.seed, part])
        # With more workers than rows some of them have nothing to do. Only the first one of a
        # process must find a pair.
        first = (worker := get_worker_info()) is None or worker.id == 0
        endless = self._again_and_again(part, parts, required=first)
        waiting = list(islice(endless, self.buffer))
        for example in endless:
            place = random.integers(len(waiting))
            yield waiting[place]
            waiting[place] = example

    def _again_and_again(self, part: int, parts: int, *, required: bool) -> Iterator[Example]:
        for turn in count():
            number = 0
            for example in read_pairs(self.source, part, parts, say=turn == 0, required=required):
                number += 1
                yield example
            if not number:
                return


def read_pairs(
    source: Source, part: int = 0, parts: int = 1, *, say: bool = True, required: bool = True
) -> Iterator[Example]:
    """Yield a part of the pairs once, in the order of the source, and say how many rows had none.

    Args:
        source: the training split.
        part: which part of it.
        parts: into how many it is divided.
        say: print how many rows were dropped.
        required: whether a part without any pair is an error.

    Raises:
        ConfigError: there is no pair, or a row cannot be read.
    """
    columns, rows, pairs = source.columns(), 0, 0
    for place, cells in source.rows(columns.names(), part, parts):
        try:
            document, references, _ = columns.pair(cells)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        if document and references:
            pairs += 1
            yield rows * parts + part, document, references[0]
        rows += 1
    if not pairs and required:
        raise ConfigError(
            f"data.path={source.config.path}: no row of {source.split}, part {part + 1} of "
            f"{parts}, is a pair"
        )
    if pairs < rows and say:
        print_line(
            f"{source.split}: dropped {rows - pairs} of {rows} streamed rows: document or "
            "summary empty or null"
        )


class StreamLoader:
    """The batches of a stream, which can go on from any of them.

    Those before are read again and left out.
    """

    def __init__(
        self, stream: Stream, *, made_of: Mapping[str, Any], num_workers: int = 0
    ) -> None:
        """Take the stream.

        Args:
            stream: the batches of this process.
            made_of: what they depend on, by name; a state that was made of anything else is
                refused.
            num_workers: processes that make batches ahead.
        """
        self.stream, self.num_workers = stream, num_workers
        self.made_of = {**made_of, "processes": stream.processes, "data.num_workers": num_workers}
        self.done, self.skip = 0, 0

    def __len__(self) -> int:
        """Return a number of batches that no training reaches."""
        return ENDLESS

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that were not handed out before."""
        self.done, self.skip = self.skip, 0
        try:
            for batch in islice(self._loader(), self.done, None):
                self.done += 1
                yield batch
        except ConfigError as error:  # from a worker it comes with that one's traceback
            raise ConfigError(
                str(error).splitlines()[-1].removeprefix("headcount.errors.ConfigError: ")
            ) from None

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.stream,
            batch_size=None,
            num_workers=self.num_workers,
            multiprocessing_context="fork" if self.num_workers else None,
            worker_init_fn=_become_worker,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the stream."""
        return {"batches": self.skip or self.done, "made_of": dict(self.made_of)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a place.

        Raises:
            ConfigError: the state belongs to another order.
        """
        check_made_of(state["made_of"], self.made_of)
        self.skip = state["batches"]


def _become_worker(worker: int) -> None:
    ignore_stop_signals()  # here, because torch sets handlers of its own before
    os.environ["TOKENIZERS_PARALLELISM"] = (
        "false"  # threads do not survive a fork; workers are parallel themselves
    )
