"""ROUGE (Lin 2004) by the ``rouge-score`` package: an interval for each figure, a signature of how it was made."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def signature() -> str:
    """Say how scores are made, so that they can be compared: package, version, stemmer, sentences, references."""
    return f"rouge-score:{version('rouge-score')}|f1|stemmer:porter|sentences:newline|references:mean"


class Rouge:
    """Scores summaries against references, stemmed."""

    def __init__(self) -> None:
        """Load the stemmer."""
        self.scorer = RougeScorer(ROUGE_TYPES, use_stemmer=True)

    def score(self, summary: str, references: Sequence[str]) -> list[float]:
        """Return the F1 of each of ROUGE_TYPES, the mean over the references, as a fraction of 1."""
        scores = [self.scorer.score(reference, summary) for reference in references]
        return [float(np.mean([score[kind].fmeasure for score in scores])) for kind in ROUGE_TYPES]


def mean_and_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean over examples and its 95 % bootstrap interval (1,000 resamples, fixed seed)."""
    draws = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def score_all(summaries: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """Score a whole split.

    Args:
        summaries: one for each example.
        references: one or more for each example.

    Returns:
        For each of ROUGE_TYPES the mean ``f1`` and the ends ``low`` and ``high`` of its 95 % interval, times 100.
    """
    rouge = Rouge()
    scores = np.array([rouge.score(s, r) for s, r in zip(summaries, references, strict=True)]) * 100
    return {
        kind: dict(zip(("f1", "low", "high"), mean_and_interval(scores[:, column]), strict=True))
        for column, kind in enumerate(ROUGE_TYPES)
    }
