"""Where two systems differ, from their summaries of the same examples.

As in compare-mt (Neubig et al. 2019), scores are compared on groups of examples and words, and
n-grams and examples are listed on which the systems differ most. The probability of improvement is
that of Agarwal et al. 2021.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headcount.evaluation.bootstrap import Estimate, Values, Vector, intervals
from headcount.evaluation.rouge import ROUGE_TYPES, Rouge
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.evaluation.text_statistics import ngrams_of, words_of

QUANTILES = [0.25, 0.5, 0.75]  # buckets of lengths hold a quarter of the examples each
COPIED_EDGES = [50.0, 75.0, 90.0, 100.0]  # % of a summary's words that are copied
FREQUENCY_EDGES = [2.0, 5.0, 10.0, 100.0]  # occurrences of a word in all references
LONGEST_NGRAM = 4


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The summaries and scores of a system.

    Attributes:
        name: name of the system.
        summaries: one for each example.
        values: metrics of each example, [examples, EXAMPLE_METRICS].
        scores: the score of each example by which the systems are compared, [examples].
    """

    name: str
    summaries: Sequence[str]
    values: Values
    scores: Vector

    def metric(self, name: str) -> Vector:
        """Return one of EXAMPLE_METRICS for each example, [examples]."""
        column: Vector = self.values[:, EXAMPLE_METRICS.index(name)]
        return column


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A group of examples or words, and the score of both systems on it.

    Attributes:
        label: range of the quantity, such as a length, that defines the group.
        sizes: number of examples or words of each system.
        scores: score of each system; NaN if its group is empty.
    """

    label: str
    sizes: list[int]
    scores: list[float]


@dataclass(frozen=True, kw_only=True)
class NgramUse:
    """An n-gram that one system generates more often than the other.

    Attributes:
        ngram: its words.
        counts: number of its occurrences in the summaries of each system.
        in_references: number of its occurrences in the references.
    """

    ngram: tuple[str, ...]
    counts: list[int]
    in_references: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The agreement of two systems.

    Attributes:
        identical: % of the examples with the same summary.
        overlap: mean ROUGE-L F1 x 100 of one system's summaries against the other's.
        correlation: Pearson correlation of the scores of examples; NaN if those of a system are
            all equal.
    """

    identical: float
    overlap: float
    correlation: float


def probability_of_improvement(scores: Vector, others: Vector) -> Estimate:
    """Return the probability that the first system beats the second on an example (Agarwal et al.
    2021, section 4.3), with its bootstrap interval over examples.

    A tie counts as half a win for each, so that 0.5 is no improvement.

    Args:
        scores: of the first system, [examples].
        others: of the second system on the same examples, [examples].
    """
    wins = (scores > others) + 0.5 * (scores == others)
    [probability] = intervals(wins[:, None])
    assert probability is not None
    return probability


def score_by(
    quantities: Sequence[Vector],
    outputs: Sequence[Outputs],
    edges: Vector,
    *,
    unknown: str | None = None,
) -> list[Bucket]:
    """Return the mean score of each system over the examples of each bucket.

    Args:
        quantities: for each system the quantity of each example, [examples]; NaN if it is unknown.
        outputs: the systems.
        edges: lower ends of all buckets except the first, in ascending order.
        unknown: label of a last bucket for the examples whose quantity is unknown, if there are
            any; None: they are in no bucket.
    """
    # The number of edges up to a quantity is the number of its bucket.
    labels = bucket_labels(edges)
    numbers = []
    for quantity in quantities:
        of_known = np.searchsorted(edges, quantity, side="right")
        numbers.append(np.where(np.isfinite(quantity), of_known, len(labels)))
    if unknown is not None and any((each == len(labels)).any() for each in numbers):
        labels.append(unknown)

    buckets = []
    for number, label in enumerate(labels):
        sizes = []
        scores = []
        for of_examples, system in zip(numbers, outputs, strict=True):
            inside = np.isfinite(system.scores) & (of_examples == number)
            sizes.append(int(inside.sum()))
            scores.append(float(system.scores[inside].mean()) if inside.any() else np.nan)
        buckets.append(Bucket(label=label, sizes=sizes, scores=scores))
    return buckets


def quartile_edges(quantity: Vector) -> Vector:
    """Return the edges, whole numbers, of buckets with about a quarter of the examples each."""
    known = quantity[np.isfinite(quantity)]
    edges = np.unique(np.ceil(np.quantile(known, QUANTILES)))
    return edges[edges > known.min()]


def bucket_labels(edges: Vector) -> list[str]:
    """Return the ranges of buckets as texts; a bucket includes its lower end."""
    if not len(edges):
        return ["all"]
    labels = [f"below {edges[0]:,.0f}"]
    for low, high in zip(edges, edges[1:], strict=False):
        labels.append(f"{low:,.0f} to below {high:,.0f}")
    return [*labels, f"{edges[-1]:,.0f} and more"]


def score_by_frequency(
    outputs: Sequence[Outputs], references: Sequence[Sequence[str]]
) -> list[Bucket]:
    """Return the F1 (x 100) of each system on words of each frequency.

    Words are grouped by their number of occurrences in all references. Within a group, a word of a
    summary is a hit if it is also in the first reference of the example, as often as it occurs in
    both. Precision is hits divided by words of the summaries, recall hits divided by words of the
    references.
    """
    frequency: Counter[str] = Counter()
    for texts in references:
        for text in texts:
            frequency.update(words_of(text))

    # Count the hits and the words of summaries and references, [buckets, systems].
    edges = np.array(FREQUENCY_EDGES)
    labels = bucket_labels(edges)
    hits = np.zeros((len(labels), len(outputs)))
    in_summaries = np.zeros_like(hits)
    in_references = np.zeros_like(hits)
    for system_number, system in enumerate(outputs):
        for summary, texts in zip(system.summaries, references, strict=True):
            words = Counter(words_of(summary))
            reference = Counter(words_of(texts[0]))
            for word in words | reference:
                bucket = int(np.searchsorted(edges, frequency[word], side="right"))
                hits[bucket, system_number] += min(words[word], reference[word])
                in_summaries[bucket, system_number] += words[word]
                in_references[bucket, system_number] += reference[word]

    # F1, the harmonic mean of precision and recall, is 2 hits / (in_summaries + in_references).
    totals = in_summaries + in_references
    f1 = np.divide(200 * hits, totals, out=np.full_like(totals, np.nan), where=totals > 0)
    buckets = []
    for row, label in enumerate(labels):
        sizes = in_summaries[row].astype(int).tolist()
        buckets.append(Bucket(label=label, sizes=sizes, scores=f1[row].tolist()))
    return buckets


def find_ngrams(
    first: Outputs, second: Outputs, references: Sequence[Sequence[str]], limit: int
) -> list[NgramUse]:
    """Return the n-grams, up to four words, that the first system favours over the second.

    They are ranked by (a + 1) / (a + b + 2) of their counts a and b, as in compare-mt: add-one
    smoothing ranks a frequent n-gram before a rare one with the same ratio. An n-gram that is part
    of a longer one with the same counts is left out.
    """
    counts = _count_ngrams(first.summaries)
    other_counts = _count_ngrams(second.summaries)
    reference_texts: list[str] = []
    for texts in references:
        reference_texts.extend(texts)
    reference_counts = _count_ngrams(reference_texts)

    # Of n-grams with the same rank the longer one comes first, so that its parts are left out.
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
    """Return the rows of the examples on which the first system's score exceeds the second's most,
    in descending order of the difference."""
    gains = first.scores - second.scores
    order = np.argsort(-gains, kind="stable")
    return [int(example) for example in order if gains[example] > 0][:limit]


def measure_agreement(first: Outputs, second: Outputs, rouge: Rouge) -> Agreement:
    """Measure the agreement of the summaries and the scores of two systems."""
    identical = []
    overlap = []
    for summary, other in zip(first.summaries, second.summaries, strict=True):
        identical.append(summary == other)
        f1_of_types = rouge.score(summary, [other])
        overlap.append(f1_of_types[ROUGE_TYPES.index("rougeL")])

    # The correlation of a constant is not defined.
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
