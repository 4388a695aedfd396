"""Where two systems differ, from their summaries of the same examples alone.

The questions are those of compare-mt (Neubig et al. 2019): for which examples, words and n-grams
is one system better? The probability of improvement is that of Agarwal et al. 2021.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headcount.evaluation.bootstrap import Estimate, Values, intervals
from headcount.evaluation.rouge import Rouge
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.evaluation.text_statistics import ngrams_of, words_of

QUANTILES = [0.25, 0.5, 0.75]  # buckets of lengths hold a quarter of the examples each
COPIED_EDGES = [50.0, 75.0, 90.0, 100.0]  # % of a summary's words that are copied
FREQUENCY_EDGES = [2.0, 5.0, 10.0, 100.0]  # occurrences of a word in all references
LONGEST_NGRAM = 4


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a system wrote.

    Attributes:
        name: of the system.
        summaries: one for each example.
        values: the EXAMPLE_METRICS of each.
        scores: the metric of each example that the systems are compared by.
    """

    name: str
    summaries: Sequence[str]
    values: Values
    scores: NDArray[np.float64]

    def metric(self, name: str) -> NDArray[np.float64]:
        """Return one of EXAMPLE_METRICS for each example."""
        column: NDArray[np.float64] = self.values[:, EXAMPLE_METRICS.index(name)]
        return column


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Some examples or words, and how both systems do on them.

    Attributes:
        label: the range of the buckets' quantity.
        sizes: how many of them each system has.
        scores: of each system; NaN if it has none.
    """

    label: str
    sizes: list[int]
    scores: list[float]


@dataclass(frozen=True, kw_only=True)
class NgramUse:
    """An n-gram that one system writes more often than the other.

    Attributes:
        ngram: its words.
        counts: how often each system writes it.
        in_references: how often it is in the references.
    """

    ngram: tuple[str, ...]
    counts: list[int]
    in_references: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How alike the summaries of two systems are.

    Attributes:
        identical: % of the examples with the same summary.
        overlap: mean ROUGE-L F1 x 100 of one system's summaries against the other's.
        correlation: Pearson's, of the scores of the examples; NaN if a system's are all equal.
    """

    identical: float
    overlap: float
    correlation: float


def probability_of_improvement(scores: Values, others: Values) -> Estimate:
    """Return how likely the first system beats the second on an example (Agarwal et al. 2021,
    section 4.3), with its bootstrap interval over examples.

    An example on which both score the same counts half for each. 0.5 is no improvement.
    """
    wins = (scores > others) + 0.5 * (scores == others)
    [found] = intervals(wins[:, None])
    assert found is not None
    return found


def score_by(
    quantities: Sequence[Values], outputs: Sequence[Outputs], edges: Values
) -> list[Bucket]:
    """Return the mean score of each system over the examples of each bucket.

    Args:
        quantities: for each system the quantity of each example; NaN belongs to no bucket.
        outputs: of the systems.
        edges: lower ends of all buckets but the first.
    """
    buckets = []
    for number, label in enumerate(bucket_labels(edges)):
        sizes = []
        scores = []
        for quantity, system in zip(quantities, outputs, strict=True):
            known = np.isfinite(quantity) & np.isfinite(system.scores)
            inside = known & (np.searchsorted(edges, quantity, side="right") == number)
            sizes.append(int(inside.sum()))
            scores.append(float(system.scores[inside].mean()) if inside.any() else np.nan)
        buckets.append(Bucket(label=label, sizes=sizes, scores=scores))
    return buckets


def quartile_edges(quantity: Values) -> Values:
    """Return the edges of buckets with about a quarter of the examples each, as whole numbers."""
    known = quantity[np.isfinite(quantity)]
    edges = np.unique(np.ceil(np.quantile(known, QUANTILES)))
    return edges[edges > known.min()]


def bucket_labels(edges: Values) -> list[str]:
    """Return the ranges of buckets, whose lower ends belong to them."""
    if not len(edges):
        return ["all"]
    labels = [f"below {edges[0]:,.0f}"]
    for low, high in zip(edges, edges[1:], strict=False):
        labels.append(f"{low:,.0f} to below {high:,.0f}")
    return [*labels, f"{edges[-1]:,.0f} and more"]


def score_by_frequency(
    outputs: Sequence[Outputs], references: Sequence[Sequence[str]]
) -> list[Bucket]:
    """Return for words of each frequency the F1 (x 100) of each system.

    Of the words of a bucket precision is the share of those that a system writes that are in the
    first reference of the example, recall the share of those in the reference that it writes;
    repeated words count as often as both have them. The frequency is that of all references.
    """
    frequency: Counter[str] = Counter()
    for texts in references:
        for text in texts:
            frequency.update(words_of(text))

    # Count for each bucket and system the words that are matched, written and needed.
    edges = np.array(FREQUENCY_EDGES)
    labels = bucket_labels(edges)
    matched = np.zeros((len(labels), len(outputs)))
    written = np.zeros_like(matched)
    needed = np.zeros_like(matched)
    for system_number, system in enumerate(outputs):
        for summary, texts in zip(system.summaries, references, strict=True):
            words = Counter(words_of(summary))
            reference = Counter(words_of(texts[0]))
            for word in words | reference:
                bucket = int(np.searchsorted(edges, frequency[word], side="right"))
                matched[bucket, system_number] += min(words[word], reference[word])
                written[bucket, system_number] += words[word]
                needed[bucket, system_number] += reference[word]

    # F1 is the harmonic mean of precision and recall: 2 matched / (written + needed).
    totals = written + needed
    f1 = np.divide(200 * matched, totals, out=np.full_like(totals, np.nan), where=totals > 0)
    return [
        Bucket(label=label, sizes=written[row].astype(int).tolist(), scores=f1[row].tolist())
        for row, label in enumerate(labels)
    ]


def find_ngrams(
    first: Outputs, second: Outputs, references: Sequence[Sequence[str]], limit: int
) -> list[NgramUse]:
    """Return the n-grams, up to four words, that the first system writes and the second does not,
    or much less often.

    They are ranked by (a + 1) / (a + b + 2) of their counts a and b, as in compare-mt, so that a
    rare n-gram is not ahead of a frequent one. Parts of a longer n-gram with the same counts are
    left out.
    """
    counts = _count_ngrams(first.summaries)
    other_counts = _count_ngrams(second.summaries)
    reference_texts: list[str] = []
    for texts in references:
        reference_texts.extend(texts)
    reference_counts = _count_ngrams(reference_texts)

    # Of n-grams with the same rank the longer one comes first, so that it leaves out its parts.
    more = [ngram for ngram, count in counts.items() if count > other_counts[ngram]]
    more.sort(
        key=lambda ngram: (
            -(counts[ngram] + 1) / (counts[ngram] + other_counts[ngram] + 2),
            -len(ngram),
            ngram,
        )
    )

    found: list[NgramUse] = []
    for ngram in more:
        use = NgramUse(
            ngram=ngram,
            counts=[counts[ngram], other_counts[ngram]],
            in_references=reference_counts[ngram],
        )
        if not any(_is_part(use, longer) for longer in found):
            found.append(use)
        if len(found) == limit:
            break
    return found


def _count_ngrams(texts: Sequence[str]) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = words_of(text)
        for n in range(1, LONGEST_NGRAM + 1):
            counts.update(ngrams_of(words, n))
    return counts


def _is_part(use: NgramUse, longer: NgramUse) -> bool:
    parts = ngrams_of(longer.ngram, len(use.ngram))
    return use.counts == longer.counts and use.ngram in parts


def largest_wins(first: Outputs, second: Outputs, limit: int) -> list[int]:
    """Return the examples on which the first system's score exceeds the second's most, the largest
    difference first."""
    gains = first.scores - second.scores
    order = np.argsort(-gains, kind="stable")
    return [int(example) for example in order if gains[example] > 0][:limit]


def measure_agreement(first: Outputs, second: Outputs, rouge: Rouge) -> Agreement:
    """Measure how alike the summaries and the scores of two systems are."""
    identical = []
    overlap = []
    for summary, other in zip(first.summaries, second.summaries, strict=True):
        identical.append(summary == other)
        f1_of_types = rouge.score(summary, [other])
        overlap.append(f1_of_types[2])

    known = np.isfinite(first.scores) & np.isfinite(second.scores)
    scores = first.scores[known]
    others = second.scores[known]
    correlation = np.nan
    if len(scores) > 1 and scores.std() > 0 and others.std() > 0:
        correlation = float(np.corrcoef(scores, others)[0, 1])
    return Agreement(
        identical=100 * float(np.mean(identical)),
        overlap=100 * float(np.mean(overlap)),
        correlation=correlation,
    )
