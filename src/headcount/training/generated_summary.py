"""Summaries of a batch of documents, of which some may be empty and some come in windows."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headcount.data.batches import Batch
from headcount.generation.hypothesis import Hypothesis

Generate = Callable[[Batch], list[list[Hypothesis]]]
TextOf = Callable[[Hypothesis], str]


@dataclass  # Lightning looks into predictions, and cannot look into a frozen dataclass
class GeneratedSummary:
    """A generated summary.

    Attributes:
        row: index of the example in its split.
        summary: the text.
        truncated: whether it stopped at the maximum length.
        score: of the hypothesis.
    """

    row: int
    summary: str
    truncated: bool
    score: float


def summarize_batch(
    batch: Batch, generate: Generate, text_of: TextOf, *, batch_size: int
) -> list[list[GeneratedSummary]]:
    """Return the summaries of each document of a batch, the best first.

    If a document comes in windows, the best summaries of its windows are joined and their scores
    added, likewise the second best ones, and so on. A document without tokens has one empty
    summary.

    Args:
        batch: the documents; windows of one document share its index.
        generate: returns the hypotheses of each example of a batch, the best first.
        text_of: returns the text of a hypothesis.
        batch_size: number of windows that are generated together at most.
    """
    # A batch of windows can be much larger than generation.batch_size.
    has_windows = len(batch.indices) > len(set(batch.indices))
    pieces = batch.pieces(batch_size) if has_windows else [batch]
    hypotheses = []
    for piece in pieces:
        hypotheses.extend(_generate_nonempty(piece, generate))

    # Bring the windows of each document together.
    windows_by_row: dict[int, list[list[Hypothesis]]] = {}
    for row, of_window in zip(batch.indices, hypotheses, strict=True):
        windows_by_row.setdefault(row, []).append(of_window)
    return [_join_windows(row, windows, text_of) for row, windows in windows_by_row.items()]


def _generate_nonempty(batch: Batch, generate: Generate) -> list[list[Hypothesis]]:
    """Generate summaries, but an empty one where the end token is all there is to read."""
    nonempty = [i for i, length in enumerate(batch.document_lengths) if length > 1]
    if len(nonempty) == len(batch.indices):
        return generate(batch)

    hypotheses = [[Hypothesis(tokens=[], score=0.0, finished=True)] for _ in batch.indices]
    if nonempty:
        for i, generated in zip(nonempty, generate(batch.select(nonempty)), strict=True):
            hypotheses[i] = generated
    return hypotheses


def _join_windows(
    row: int, windows: list[list[Hypothesis]], text_of: TextOf
) -> list[GeneratedSummary]:
    """Return the summaries of a document, from the hypotheses of each of its windows."""
    summaries = []
    for parts in zip(*windows, strict=False):
        texts = [text_of(part) for part in parts]
        summaries.append(
            GeneratedSummary(
                row=row,
                summary=" ".join(filter(None, texts)),
                truncated=not all(part.finished for part in parts),
                score=sum(part.score for part in parts),
            )
        )
    return summaries


def document_seeds(batch: Batch, seed: int) -> list[int]:
    """Return a seed for each document, which depends on the run's seed and the document alone."""
    seeds = []
    for document_ids in batch.document_ids.cpu().split(batch.document_lengths):
        content = zlib.crc32(document_ids.numpy().tobytes())
        mixed = np.random.SeedSequence([seed, content])
        seeds.append(int(mixed.generate_state(1, np.uint64)[0]))
    return seeds
