"""BLEU (Papineni et al. 2002) and chrF (Popović 2015) by sacrebleu (Post 2018), as translations
are scored.

Both are scores of a corpus, not means over examples: statistics of the examples (n-gram counts and
lengths) are added up, and the score is computed of the sums. So they can be gathered from
processes and resampled, example by example, without reading the texts again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from headcount.config.sections.evaluation import BleuTokenizer, CorpusMetricName, EvaluationConfig
from headcount.evaluation.bootstrap import RESAMPLES, Estimate, draw_counts, estimate

CORPUS_METRICS: tuple[CorpusMetricName, ...] = ("bleu", "chrf")
CORPUS_TITLES = {"bleu": "BLEU", "chrf": "chrF"}

Statistics = NDArray[np.int64]  # (examples, statistics); zeros for an example without a score


class CorpusMetric:
    """A metric of sacrebleu with its default settings.

    Everything that relies on private names of sacrebleu is in this class: the statistics of an
    example and the score of a sum of statistics, which ``corpus_score`` itself is made of.

    Args:
        name: of the metric.
        bleu_tokenizer: as sacrebleu calls it; chrF reads characters and needs none.
    """

    def __init__(self, name: CorpusMetricName, bleu_tokenizer: BleuTokenizer) -> None:
        self.name = name
        self._corpus: BLEU | CHRF
        self._example: BLEU | CHRF
        if name == "bleu":
            # Already tokenized text is scored as it is, without a warning.
            self._corpus = BLEU(tokenize=bleu_tokenizer, force=True)
            self._example = BLEU(tokenize=bleu_tokenizer, force=True, effective_order=True)
        else:
            self._corpus = CHRF()
            self._example = self._corpus
        self.size = len(self.count("", [""]))

    def count(self, summary: str, references: Sequence[str]) -> list[int]:
        """Return the statistics of an example; zeros, which add nothing, without references."""
        if not references:
            return [0] * self.size
        streams = [[reference] for reference in references]
        [statistics] = self._corpus._extract_corpus_statistics([summary], streams)
        return list(map(int, statistics))

    def score(self, statistics: Sequence[int]) -> float:
        """Return the score of a corpus, given the sums of its statistics."""
        return float(self._corpus._compute_score_from_stats(list(statistics)).score)

    def score_example(self, statistics: Sequence[int]) -> float:
        """Return the score of one example, as sacrebleu scores a sentence.

        BLEU ignores the orders of n-grams that a short summary cannot have.
        """
        return float(self._example._compute_score_from_stats(list(statistics)).score)

    def signature(self, references: Sequence[Sequence[str]]) -> str:
        """Return sacrebleu's own signature with the name before it."""
        counts = {len(texts) for texts in references}
        self._corpus.num_refs = min(counts) if len(counts) == 1 else -1
        return f"{CORPUS_TITLES[self.name]}|{self._corpus.get_signature()}"


def make_corpus_metrics(evaluation: EvaluationConfig) -> dict[str, CorpusMetric]:
    """Return the corpus metrics of a config by their names."""
    return {
        name: CorpusMetric(name, evaluation.bleu_tokenizer)
        for name in CORPUS_METRICS
        if name in evaluation.metrics or name == evaluation.select_by
    }


def estimate_corpus_score(metric: CorpusMetric, statistics: Statistics) -> Estimate | None:
    """Return the score of a corpus with its bootstrap interval; None if no example has one."""
    if not statistics.any():
        return None
    resampled = resampled_scores(metric, statistics, RESAMPLES)
    return estimate(metric.score(statistics.sum(0).tolist()), resampled)


def resampled_scores(
    metric: CorpusMetric, statistics: Statistics, resamples: int
) -> NDArray[np.float64]:
    """Return the scores over resamples of the examples."""
    scores = [
        metric.score((drawn @ statistics).tolist())
        for drawn in draw_counts(len(statistics), resamples)
    ]
    return np.array(scores)
