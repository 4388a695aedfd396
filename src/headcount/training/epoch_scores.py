"""The scores of the summaries of an epoch of validation or test."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from headcount.evaluation.corpus_metrics import CorpusMetric
from headcount.evaluation.rouge import ROUGE_TYPES, Rouge


class EpochScores:
    """Scores summaries batch by batch.

    ROUGE is a mean over examples, so that of an epoch is the mean of its batches. A corpus metric
    is computed from statistics that are summed over all examples.

    Args:
        rouge: scores an example.
        corpus_metrics: by their names; they may be none.

    Attributes:
        statistics: sums of the statistics of each corpus metric over the examples so far.
    """

    def __init__(self, rouge: Rouge, corpus_metrics: dict[str, CorpusMetric]) -> None:
        self.rouge = rouge
        self.corpus_metrics = corpus_metrics
        self.reset()

    def reset(self) -> None:
        """Forget the statistics, before the next epoch."""
        self.statistics = {
            name: np.zeros(metric.size, dtype=np.int64)
            for name, metric in self.corpus_metrics.items()
        }

    def add(
        self, summaries: Sequence[str], references: Sequence[Sequence[str]]
    ) -> dict[str, Tensor]:
        """Add the examples of a batch to the statistics.

        Args:
            summaries: of the examples.
            references: one or more for each example.

        Returns:
            For each type of ROUGE the mean F1 x 100 of the batch.
        """
        scores = torch.zeros(len(ROUGE_TYPES), dtype=torch.float64)
        for summary, texts in zip(summaries, references, strict=True):
            scores += torch.tensor(self.rouge.score(summary, texts)).double() * 100
            for name, metric in self.corpus_metrics.items():
                self.statistics[name] += np.array(metric.count(summary, texts))
        means = scores / len(summaries)
        return {kind: mean.float() for kind, mean in zip(ROUGE_TYPES, means, strict=True)}

    def score_corpus(self, sum_over_ranks: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return each corpus metric of the epoch.

        Args:
            sum_over_ranks: returns the sum of a tensor over all ranks.
        """
        scores = {}
        for name, metric in self.corpus_metrics.items():
            sums = sum_over_ranks(torch.from_numpy(self.statistics[name]))
            scores[name] = metric.score(sums.tolist())
        return scores
