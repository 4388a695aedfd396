"""Generates the summaries of many documents: the one loop behind ``evaluate``, ``summarize`` and
the Python interface.

They differ in where their batches come from: ``headcount.data.loader.decoding_loader`` reads a
tokenized split, ``document_batches`` takes texts. The rest is the same. ``resume`` finds the
summaries of an interrupted command, ``move_to_device`` moves the model, ``generate_rows``
generates batch after batch, and ``summary_bar`` shows the progress.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from rich.console import Console

from headcount.config.schema import Config
from headcount.data.batches import Batch, EncodedPairs, by_length
from headcount.data.pairs import Pairs
from headcount.runs.partial_predictions import PartialPredictions
from headcount.training.callbacks.progress import progress_bar
from headcount.training.generated_summary import GeneratedSummary
from headcount.training.module import Summarizer


@dataclass(frozen=True, kw_only=True)
class GeneratedRow:
    """What is generated for a document.

    Attributes:
        row: index of the document.
        summaries: its summaries, the best first.
        milliseconds: time of its batch, divided by the documents in it.
    """

    row: int
    summaries: list[GeneratedSummary]
    milliseconds: float


def generate_rows(
    summarizer: Summarizer, batches: Iterable[Batch], trainer: pl.Trainer | None = None
) -> Iterator[list[GeneratedRow]]:
    """Generate the summaries of documents, and yield them a batch at a time.

    Args:
        summarizer: with trained weights, on its device.
        batches: the documents; their ``indices`` become the rows.
        trainer: its precision is used; None: that of the weights.
    """
    in_precision = (
        nullcontext if trainer is None else trainer.precision_plugin.predict_step_context
    )
    for batch in batches:
        started = time.perf_counter()
        with in_precision():
            generated = summarizer.summarize(batch)
        milliseconds = 1000 * (time.perf_counter() - started) / len(generated)
        yield [
            GeneratedRow(row=summaries[0].row, summaries=summaries, milliseconds=milliseconds)
            for summaries in generated
        ]


def move_to_gpu_if_any(summarizer: Summarizer) -> None:
    """Move a summarizer to the GPU, if there is one."""
    if torch.cuda.is_available():
        summarizer.to("cuda")


def move_to_device(summarizer: Summarizer, trainer: pl.Trainer) -> None:
    """Move a summarizer to the device and the precision of a trainer, for generation."""
    summarizer.to(trainer.strategy.root_device)
    trainer.precision_plugin.convert_module(summarizer)
    summarizer.eval()


def resume(
    trainer: pl.Trainer, folder: Path, count: int, provenance: Mapping[str, Any]
) -> PartialPredictions:
    """Find the rows that an interrupted command has generated, on all processes.

    Args:
        trainer: of this process.
        folder: of the partial predictions.
        count: number of rows when complete.
        provenance: what the rows depend on; rows that depend on anything else are deleted.
    """
    partial = PartialPredictions(folder, count, trainer.global_rank)
    if trainer.is_global_zero:
        partial.claim(provenance)
    trainer.strategy.barrier()
    partial.read()

    # All processes have read what is done before one of them adds to it.
    trainer.strategy.barrier()
    return partial


def encode_documents(summarizer: Summarizer, texts: Sequence[str]) -> EncodedPairs:
    """Tokenize documents that have no references."""
    return encode_pairs(summarizer, Pairs(ids=[], documents=texts, references=[[] for _ in texts]))


def encode_pairs(summarizer: Summarizer, pairs: Pairs) -> EncodedPairs:
    """Tokenize pairs as the model of a summarizer reads them."""
    return EncodedPairs.from_config(pairs, summarizer.tokenizer, summarizer.config.data)


def document_batches(
    summarizer: Summarizer, documents: EncodedPairs, done: NDArray | None = None
) -> Iterator[Batch]:
    """Yield documents in batches of similar length, the longest first.

    Args:
        summarizer: its config says how many documents are in a batch, and whether long ones are
            truncated or split.
        documents: from ``encode_documents``.
        done: for each document whether its summary exists; a batch of only such is left out.
    """
    generation = summarizer.config.generation
    in_windows = generation.long_documents == "split"
    for indices in by_length(documents, range(len(documents)), generation.batch_size):
        if done is None or not done[indices].all():
            yield documents.batch(indices, in_windows=in_windows)


@contextmanager
def summary_bar(
    console: Console, total: int | None, *, visible: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar of generated summaries.

    Args:
        console: where to draw.
        total: number of summaries to generate; None: unknown.
        visible: whether to draw at all.

    Yields:
        A function that advances the bar by a number of summaries.
    """
    started = time.perf_counter()
    written = 0
    with progress_bar(console) as progress:
        task = progress.add_task("writing summaries", total=total, note="", visible=visible)

        def advance(number: int) -> None:
            nonlocal written
            written += number
            rate = written / (time.perf_counter() - started)
            progress.update(task, completed=written, note=f"{rate:,.1f} summaries/s")

        yield advance


def describe_long_documents(config: Config, number: int, documents: int) -> str:
    """Return a message on documents that were longer than the model reads.

    An empty text if there were none.
    """
    if not number:
        return ""
    how = {"truncate": "cut at", "split": "read in windows of"}[config.generation.long_documents]
    tokens = config.data.max_document_tokens
    return f"{number:,} of {documents:,} documents were {how} {tokens:,} tokens"
