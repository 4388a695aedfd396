"""BLEU (Papineni et al. 2002) and chrF (Popović 2015) by sacrebleu (Post 2018).

Both are scores of a corpus, not means over examples: statistics of the examples (n-gram counts and
lengths) are summed, and the score is computed from the sums. So the statistics of examples can be
gathered from processes and resampled, without scoring the texts again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from headcount.config.sections.evaluation import BleuTokenizer, CorpusMetricName, EvaluationConfig
from headcount.evaluation.bootstrap import RESAMPLES, Estimate, Vector, draw_counts, estimate

CORPUS_METRICS: tuple[CorpusMetricName, ...] = ("bleu", "chrf")
CORPUS_TITLES = {"bleu": "BLEU", "chrf": "chrF"}

Statistics = NDArray[np.int64]  # [examples, statistics]; zeros for an example without a score


class CorpusMetric:
    """A metric of sacrebleu with its default settings.

    Only this class uses private names of sacrebleu: those for the statistics of an example and for
    the score of summed statistics, the two steps of its public ``corpus_score``.

    Args:
        name: name of the metric.
        bleu_tokenizer: tokenizer of BLEU, by sacrebleu's name; chrF compares characters.
    """

    def __init__(self, name: CorpusMetricName, bleu_tokenizer: BleuTokenizer) -> None:
        self.name = name
        self._corpus: BLEU | CHRF
        self._example: BLEU | CHRF
        if name == "bleu":
            # ``force`` silences a warning about text that looks tokenized.
            self._corpus = BLEU(tokenize=bleu_tokenizer, force=True)
            self._example = BLEU(tokenize=bleu_tokenizer, force=True, effective_order=True)
        else:
            self._corpus = CHRF()
            self._example = self._corpus
        self.size = len(self.count("", [""]))

    def count(self, summary: str, references: Sequence[str]) -> list[int]:
        """Return the statistics of an example; zeros, which change no sum, without references."""
        if not references:
            return [0] * self.size
        # Sacrebleu has a stream of references of all examples; here there is one example.
        streams = [[reference] for reference in references]
        [statistics] = self._corpus._extract_corpus_statistics([summary], streams)
        return list(map(int, statistics))

    def score(self, statistics: Sequence[int]) -> float:
        """Return the score of a corpus from the sums of its statistics."""
        return float(self._corpus._compute_score_from_stats(list(statistics)).score)

    def score_example(self, statistics: Sequence[int]) -> float:
        """Return the score of one example as sacrebleu's sentence score.

        BLEU ignores n-grams that are longer than the summary (``effective_order``).
        """
        return float(self._example._compute_score_from_stats(list(statistics)).score)

    def signature(self, references: Sequence[Sequence[str]]) -> str:
        """Return sacrebleu's own signature after the name of the metric."""
        # Of examples with different numbers of references sacrebleu reports "var", by -1.
        counts = {len(texts) for texts in references}
        self._corpus.num_refs = min(counts) if len(counts) == 1 else -1
        return f"{CORPUS_TITLES[self.name]}|{self._corpus.get_signature()}"


def make_corpus_metrics(evaluation: EvaluationConfig) -> dict[str, CorpusMetric]:
    """Return the corpus metrics of a config by their names."""
    return {
        name: CorpusMetric(name, evaluation.bleu_tokenizer)
        for name in CORPUS_METRICS
        if name in evaluation.computed
    }


def estimate_corpus_score(metric: CorpusMetric, statistics: Statistics) -> Estimate | None:
    """Return the score of a corpus with its bootstrap interval; None if no example has one."""
    if not statistics.any():
        return None
    resampled = resampled_scores(metric, statistics, RESAMPLES)
    return estimate(metric.score(statistics.sum(0).tolist()), resampled)


def resampled_scores(metric: CorpusMetric, statistics: Statistics, resamples: int) -> Vector:
    """Return the scores over resamples of the examples, [resamples]."""
    scores = [
        metric.score((drawn @ statistics).tolist())
        for drawn in draw_counts(len(statistics), resamples)
    ]
    return np.array(scores)
