import numpy as np
import pytest

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.comparison import (
    Outputs,
    bucket_labels,
    find_ngrams,
    largest_wins,
    measure_agreement,
    probability_of_improvement,
    quartile_edges,
    score_by,
    score_by_frequency,
)
from headcount.evaluation.rouge import Rouge
from headcount.evaluation.systems import EXAMPLE_METRICS


def outputs(name: str, summaries: list[str], scores: list[float] | None = None) -> Outputs:
    values = np.full((len(summaries), len(EXAMPLE_METRICS)), np.nan)
    return Outputs(
        name=name,
        summaries=summaries,
        values=values,
        scores=np.array(scores or [0.0] * len(summaries)),
    )


def test_probability_of_improvement_counts_wins_and_half_the_ties() -> None:
    """Of four examples two are won, one is a tie: (2 + 1/2) / 4."""
    found = probability_of_improvement(np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 3, 5]))
    assert found.mean == 2.5 / 4 and found.low <= found.mean <= found.high
    same = probability_of_improvement(np.ones(9), np.ones(9))
    assert (same.low, same.mean, same.high) == (0.5, 0.5, 0.5)
    draws = np.random.default_rng(0)
    scores = draws.normal(0, 1, 400)
    better = probability_of_improvement(scores + 5, scores)
    assert (better.low, better.mean, better.high) == (1, 1, 1)
    noise = probability_of_improvement(scores, draws.normal(0, 1, 400))
    assert noise.low < 0.5 < noise.high


def test_scores_by_buckets() -> None:
    """Each system has its own quantity; the lower end belongs to a bucket."""
    first = outputs("a", ["x"] * 4, [10, 20, 30, 40])
    second = outputs("b", ["x"] * 4, [1, 2, 3, 4])
    quantity, other = np.array([1.0, 5, 9, np.nan]), np.array([5.0, 5, 5, 10])
    buckets = score_by([quantity, other], [first, second], np.array([5.0, 10]))
    assert [bucket.label for bucket in buckets] == ["below 5", "5 to below 10", "10 and more"]
    assert [bucket.sizes for bucket in buckets] == [[1, 0], [2, 3], [0, 1]]
    assert buckets[0].scores[0] == 10 and np.isnan(buckets[0].scores[1])
    assert buckets[1].scores == [25, 2] and buckets[2].scores[1] == 4


def test_edges_are_quartiles_without_empty_buckets() -> None:
    assert quartile_edges(np.arange(1.0, 101)).tolist() == [26, 51, 76]
    assert quartile_edges(np.array([3.0, 3, 3, np.nan])).tolist() == []
    assert bucket_labels(np.array([])) == ["all"]
    assert bucket_labels(np.array([2000.0])) == ["below 2,000", "2,000 and more"]


def test_scores_by_word_frequency_by_hand() -> None:
    """In the references 'the' occurs 3 times, all else once.

    The first system writes 'the' twice and matches both; of the rare words it writes cat, which
    matches, and cow, which does not; four rare words are needed.
    """
    references = [["the cat sat"], ["the dog, the ox"]]
    system = outputs("a", ["the cat", "the cow"])
    silent = outputs("b", ["", ""])
    rare, frequent, *rest = score_by_frequency([system, silent], references)
    assert rare.label == "below 2" and rare.sizes == [2, 0]
    assert rare.scores == [pytest.approx(100 * 2 * 1 / (2 + 4)), 0]
    assert frequent.sizes == [2, 0] and frequent.scores[0] == pytest.approx(100 * 2 * 2 / (2 + 3))
    assert all(np.isnan(bucket.scores).all() for bucket in rest)


def test_ngrams_that_one_writes() -> None:
    first = outputs("a", ["i am not sure", "i am not here"])
    second = outputs("b", ["i am sure", "i am here"])
    references = [["i am not sure"], ["here"]]
    best, *others = find_ngrams(first, second, references, 10)
    assert best.ngram == ("i", "am", "not") and best.counts == [2, 0] and best.in_references == 1
    # Parts of it with the same counts say nothing new.
    assert not {("not",), ("am", "not")} & {use.ngram for use in others}
    assert ("i", "am") not in {use.ngram for use in others}, "both write it as often"
    assert ("i", "am", "sure") in {use.ngram for use in find_ngrams(second, first, references, 10)}
    assert len(find_ngrams(first, second, references, 2)) == 2
    assert find_ngrams(first, first, references, 10) == []


def test_largest_wins_come_first() -> None:
    first, second = outputs("a", ["x"] * 4, [5, 9, 1, 3]), outputs("b", ["x"] * 4, [4, 2, 8, 3])
    assert largest_wins(first, second, 5) == [1, 0]
    assert largest_wins(second, first, 5) == [2]
    assert largest_wins(first, second, 1) == [1]


def test_agreement() -> None:
    rouge = Rouge.from_config(EvaluationConfig())
    first = outputs("a", ["a b c d", "x"], [1, 2])
    second = outputs("b", ["a b", "x"], [3, 5])
    found = measure_agreement(first, second, rouge)
    assert found.identical == 50 and found.overlap == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert found.correlation == pytest.approx(1)
    constant = outputs("c", ["a", "b"], [1, 1])
    assert np.isnan(measure_agreement(first, constant, rouge).correlation)
