"""Generated summaries: of whole documents, and of long ones that come in windows."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from headcount.data.batches import Batch
from headcount.generation.hypothesis import Hypothesis


@dataclass  # Lightning looks into predictions, and cannot look into a frozen dataclass
class GeneratedSummary:
    """A generated summary.

    Attributes:
        row: index of the example in its split.
        summary: the text.
        truncated: whether it stopped at the maximum length.
        score: of the hypothesis, or the sum over those of its windows.
    """

    row: int
    summary: str
    truncated: bool
    score: float


def split_windows(batch: Batch, batch_size: int) -> list[Batch]:
    """Split a batch of which documents come in windows, since it can be much larger than others.

    Args:
        batch: the documents; windows of one document share its index.
        batch_size: number of windows that are generated together at most.
    """
    has_windows = len(batch.indices) > len(set(batch.indices))
    return list(batch.pieces(batch_size)) if has_windows else [batch]


def join_windows(
    rows: Sequence[int], hypotheses: Sequence[list[Hypothesis]], tokenizer: Tokenizer
) -> list[list[GeneratedSummary]]:
    """Return the summaries of each document, the best first.

    If a document comes in windows, the best summaries of its windows are joined and their scores
    added, likewise the second best ones, and so on.

    Args:
        rows: for each window the index of its document.
        hypotheses: of each window, the best first.
        tokenizer: of the model.
    """
    windows_by_row: dict[int, list[list[Hypothesis]]] = {}
    for row, of_window in zip(rows, hypotheses, strict=True):
        windows_by_row.setdefault(row, []).append(of_window)
    return [_join(row, windows, tokenizer) for row, windows in windows_by_row.items()]


def _join(
    row: int, windows: list[list[Hypothesis]], tokenizer: Tokenizer
) -> list[GeneratedSummary]:
    """Return the summaries of a document, from the hypotheses of each of its windows."""
    summaries = []
    for parts in zip(*windows, strict=False):
        texts = [text_of(part, tokenizer) for part in parts]
        summaries.append(
            GeneratedSummary(
                row=row,
                summary=" ".join(filter(None, texts)),
                truncated=not all(part.finished for part in parts),
                score=sum(part.score for part in parts),
            )
        )
    return summaries


def text_of(hypothesis: Hypothesis, tokenizer: Tokenizer) -> str:
    """Return a summary as one line."""
    return " ".join(tokenizer.decode(hypothesis.tokens).split())


def document_seeds(batch: Batch, seed: int) -> list[int]:
    """Return a seed for each document, which depends on the run's seed and the document alone."""
    seeds = []
    for document_ids in batch.document_ids.cpu().split(batch.document_lengths):
        content = zlib.crc32(document_ids.numpy().tobytes())
        mixed = np.random.SeedSequence([seed, content])
        seeds.append(int(mixed.generate_state(1, np.uint64)[0]))
    return seeds
