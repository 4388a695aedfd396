"""Training pairs as they come from a source, for a set that is larger than memory or disk.

A stream has no end: its source is read again and again. The next pair is drawn at random from a
buffer of waiting pairs, so the order is the more random the larger the buffer.
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
from headcount.data.batches import Batch
from headcount.data.loader import WorkerLoader, check_order_settings, init_worker
from headcount.data.sentences import SplitUnits, find_sentences
from headcount.data.sources import Source
from headcount.data.tokens import Ids, encode, split_by_text
from headcount.data.training_examples import NOT_NEEDED, Example, ExampleMaker, Plan
from headcount.errors import ConfigError
from headcount.terminal import print_line

# The number of batches of an epoch. Without a number, Lightning fetches one batch ahead to see
# whether the epoch ends.
ENDLESS = 2**31 - 1

Pair = tuple[int, str, str]  # a number that no other pair of the source has, document, summary


@dataclass(frozen=True)
class WorkerError:
    """What a worker yields in place of a ConfigError.

    torch would raise the text of the worker's traceback.
    """

    message: str


@dataclass(frozen=True, kw_only=True)
class Stream(IterableDataset[Batch | WorkerError]):
    """The batches of one process, without end.

    Attributes:
        source: the training split.
        tokenizer: from ``headcount.data.tokenizer``.
        maker: makes the examples, with the layout in which they are cut and closed.
        budget: maximum number of tokens of a batch.
        buffer: number of pairs from which the next one is drawn.
        plan: the objectives.
        split_units: finds sentences, or lines; needed for gap sentences.
        process: which process this is.
        processes: number of processes.
    """

    source: Source
    tokenizer: Tokenizer
    maker: ExampleMaker
    budget: int
    buffer: int
    plan: Plan = Plan()
    split_units: SplitUnits | None = None
    process: int = 0
    processes: int = 1

    def __iter__(self) -> Iterator[Batch | WorkerError]:
        """Yield the batches of this process, or of the worker of it that calls this.

        Raises:
            ConfigError: a row cannot be read. A worker yields a WorkerError instead.
        """
        try:
            yield from self._batches()
        except ConfigError as error:
            if get_worker_info() is None:
                raise
            yield WorkerError(str(error))

    def _batches(self) -> Iterator[Batch]:
        """Yield the batches of this worker of this process."""
        # The part of the stream that this worker reads.
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        number = worker.id if worker else 0
        examples = self._shuffled(self.process * workers + number, self.processes * workers)

        # An example that does not fit into a batch begins the next one, whose objective may be
        # another one: it is made again.
        indices: list[int] = []
        documents: list[Ids] = []
        summaries: list[Ids] = []
        room = self.budget
        position = number  # of the batch among those of all workers, which take turns
        layout = self.maker.layout

        for turn, example in self._encoded(examples):
            document, summary = self.maker.make(example, self.plan.objective(position), turn)
            tokens = layout.num_tokens(document, summary)
            if tokens > room:
                yield layout.batch(indices, documents, summaries)
                indices = []
                documents = []
                summaries = []
                room = self.budget
                position += workers
                document, summary = self.maker.make(example, self.plan.objective(position), turn)
                tokens = layout.num_tokens(document, summary)

            indices.append(example.number)
            documents.append(document)
            summaries.append(summary)
            room -= tokens

    def _encoded(self, pairs: Iterator[tuple[int, Pair]]) -> Iterator[tuple[int, Example]]:
        """Encode pairs, ``CHUNK`` at a time; yield each with its turn."""
        while chunk := list(islice(pairs, CHUNK)):
            # A library call for many texts is faster than one for each.
            texts = [document for _, (_, document, _) in chunk]
            documents = split_by_text(encode(self.tokenizer, texts))
            summary_texts = [summary for _, (_, _, summary) in chunk]
            summaries = split_by_text(encode(self.tokenizer, summary_texts))

            # Only the objective of gap sentences needs to know where sentences are.
            sentences = [NOT_NEEDED] * len(chunk)
            if self.plan.uses("gap_sentences"):
                assert self.split_units is not None
                sentences = find_sentences(texts, self.tokenizer, self.split_units)

            for row, (turn, (number, document, summary)) in enumerate(chunk):
                yield (
                    turn,
                    Example(
                        number=number,
                        document=documents[row],
                        summary=summaries[row],
                        texts=(document, summary),
                        sentences=sentences[row],
                    ),
                )

    def _shuffled(self, part: int, parts: int) -> Iterator[tuple[int, Pair]]:
        random = np.random.default_rng([self.maker.seed, part])
        examples = self._repeated(part, parts)
        waiting = list(islice(examples, self.buffer))
        for example in examples:
            drawn = random.integers(len(waiting))
            yield waiting[drawn]
            waiting[drawn] = example

    def _repeated(self, part: int, parts: int) -> Iterator[tuple[int, Pair]]:
        """Yield a part of the pairs again and again, each with the number of the turn; nothing if
        it has none."""
        # With more workers than rows some of them have nothing to do. Only the first worker of a
        # process must find a pair.
        worker = get_worker_info()
        is_first = worker is None or worker.id == 0
        for turn in count():
            is_empty = True
            for example in read_pairs(
                self.source, part, parts, report=turn == 0, required=is_first
            ):
                is_empty = False
                yield turn, example
            if is_empty:
                return


def read_pairs(
    source: Source, part: int = 0, parts: int = 1, *, report: bool = True, required: bool = True
) -> Iterator[Pair]:
    """Yield a part of the pairs once, in the order of the source.

    Args:
        source: the training split.
        part: which part of it.
        parts: into how many it is divided.
        report: print how many rows were dropped.
        required: whether a part without any pair is an error.

    Raises:
        ConfigError: there is no pair, or a row cannot be read.
    """
    # Rows are numbered over all parts.
    columns = source.columns()
    rows = 0
    pairs = 0
    for place, row in source.rows(columns.names(), part, parts):
        try:
            document, references, _ = columns.pair(row)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        if document and references:
            pairs += 1
            yield rows * parts + part, document, references[0]
        rows += 1

    # What is only known at the end.
    if not pairs and required:
        raise ConfigError(
            f"data.path={source.config.path}: no row of {source.split}, part {part + 1} of "
            f"{parts}, is a pair"
        )
    if pairs < rows and report:
        print_line(
            f"{source.split}: dropped {rows - pairs} of {rows} streamed rows: document or "
            "summary empty or null"
        )


class StreamLoader:
    """The batches of a stream. It resumes at any of them: those before are read and left out.

    Args:
        stream: the batches of this process.
        order_settings: what the order depends on, by name; a state with other values is rejected.
        num_workers: number of processes that prepare batches ahead; 0: none.
    """

    def __init__(
        self, stream: Stream, *, order_settings: Mapping[str, Any], num_workers: int = 0
    ) -> None:
        self.stream = stream
        self.num_workers = num_workers
        self.order_settings = {
            **order_settings,
            "processes": stream.processes,
            "data.num_workers": num_workers,
        }
        self.done = 0  # batches that were handed out
        self.skip = 0  # batches that the next iteration leaves out

    def __len__(self) -> int:
        """Return a number of batches that no training reaches."""
        return ENDLESS

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that were not handed out before.

        Raises:
            ConfigError: a row cannot be read.
        """
        self.done = self.skip
        self.skip = 0
        for position, batch in enumerate(self._batch_loader()):
            if isinstance(batch, WorkerError):
                raise ConfigError(batch.message)
            if position >= self.done:
                self.done += 1
                yield batch

    def _batch_loader(self) -> DataLoader[Any]:
        return WorkerLoader(
            self.stream,
            batch_size=None,
            num_workers=self.num_workers,
            multiprocessing_context="fork" if self.num_workers else None,
            worker_init_fn=_init_worker,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream."""
        return {"batches": self.skip or self.done, "order_settings": dict(self.order_settings)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume at a position.

        Raises:
            ConfigError: the state belongs to another order.
        """
        check_order_settings(state, self.order_settings)
        self.skip = state["batches"]


def _init_worker(worker: int) -> None:
    init_worker(worker)
    # Threads of the library do not survive a fork. The workers run in parallel themselves.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
