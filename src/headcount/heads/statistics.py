"""Tests and intervals over the documents of a sample, for differences that are paired by document.

An analysis measures one trained model, so these tests generalize to other documents, not to other
seeds.

Differences of ROUGE are mostly zero, and the others may be skewed: many documents gain a little
while a few lose much. A sample that happens to have none of these few shows a gain and no sign of
a loss, and no test of a mean is exact (Bahadur and Savage 1956). Tests and intervals here add
made-up documents to the sample, whose differences are a multiple of the largest observed one: a
result is significant only if it would be so even with such documents. benchmarks/heads.py
simulates how often they err.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from headcount.evaluation.bootstrap import holm

MIN_FLIPS = 10_000
FLIPS_PER_TEST = 60  # so that the smallest p-value, about 1 / flips, x tests is below 5 %
BLOCK = 10_000  # flips computed at a time, to bound memory
SEED = 0
LEVEL = 0.05

# Differences of made-up documents, as multiples of the largest observed one. They are the smallest
# with which about 5 % of families err where differences are as skewed as exponential ones
# (benchmarks/heads.py).
TEST_SIZE = 0.6
INTERVAL_SIZE = 1.0
MARGIN_SIZE = 1.5

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """A mean difference over documents.

    Attributes:
        mean: mean over the documents that have the value.
        low: lower end of its 95 % interval.
        high: upper end.
        p: two-sided p-value of a mean of zero.
        corrected_p: corrected for the number of tests in the family (Holm 1979).
    """

    mean: float
    low: float
    high: float
    p: float
    corrected_p: float


def sign_flip_p(differences: Sequence[Values], *, one_sided: bool = False) -> list[float]:
    """Return the p-values of means of paired differences by random sign flips.

    The test of Fisher (1935), known as approximate randomization in the evaluation of texts
    (Riezler and Maxwell 2005). Under its null hypothesis a difference is as likely to have either
    sign. Then the test holds its level exactly, also where most differences are zero. It rejects
    too often where differences are skewed around a mean of zero; ``mean_p`` is for these.

    Args:
        differences: for each test the differences of the documents, which are the same documents
            in the same order for all tests; NaN where a document has none.
        one_sided: test against a mean above zero instead of against any other mean.

    Returns:
        For each test a p-value of at least 1 / (flips + 1). There are so many flips that this
        smallest value is significant after Holm's correction.
    """
    if not differences:
        return []

    # All tests share the flips, so that a block of them is one matrix product.
    values = np.nan_to_num(np.stack(differences, axis=1))  # (documents, tests)
    flips = max(MIN_FLIPS, FLIPS_PER_TEST * len(differences))
    generator = np.random.default_rng(SEED)
    observed = values.sum(0)
    # Sums of the same numbers in another order differ in the last digits and must count as equal.
    tolerance = 1e-12 * np.abs(values).sum(0)

    # Count the flips whose sum is at least as extreme as the observed one.
    as_extreme = np.zeros(len(differences))
    for begin in range(0, flips, BLOCK):
        shape = (min(BLOCK, flips - begin), len(values))
        signs = generator.integers(0, 2, shape, dtype=np.int8) * 2.0 - 1.0
        flipped = signs @ values
        if one_sided:
            as_extreme += (flipped >= observed - tolerance).sum(0)
        else:
            as_extreme += (np.abs(flipped) >= np.abs(observed) - tolerance).sum(0)
    p_values: list[float] = ((1 + as_extreme) / (1 + flips)).tolist()
    return p_values


def skewed_mean_p(differences: Values) -> float:
    """Return the two-sided p-value of the mean of differences that may be skewed.

    The t-test with Hall's (1992) transformation, which removes the skewness of the statistic.
    Differences of zero are left out: they would hide how the others are skewed, and the mean of
    all is zero if and only if that of the others is. One made-up document against the mean is
    added, because the sample may lack the tail that its skewness is estimated from. The price is
    power: a dozen changed documents prove little, fewer prove nothing.

    Args:
        differences: difference of each document; NaN where a document has none.
    """
    # The documents that changed, and a made-up one against their mean.
    changed = differences[np.isfinite(differences) & (differences != 0)]
    total = float(changed.sum())
    if total == 0:
        return 1.0
    largest = float(np.abs(changed).max())
    sample = np.append(changed, -np.sign(total) * TEST_SIZE * largest)

    # Hall's transformation of the mean divided by its standard deviation.
    mean = float(sample.mean())
    sd = float(sample.std())
    skewness = float(((sample - mean) ** 3).mean()) / sd**3
    ratio = mean / sd
    transformed = (
        ratio
        + skewness * ratio**2 / 3
        + skewness**2 * ratio**3 / 27
        + skewness / (6 * len(sample))
    )

    # The made-up document may change the sign of the statistic, which is then no evidence.
    if transformed * total <= 0:
        return 1.0
    t = np.sqrt(len(sample)) * abs(transformed)
    return float(2 * stdtr(len(sample) - 1, -t))


def mean_p(differences: Sequence[Values]) -> list[float]:
    """Return the two-sided p-values of means of paired differences.

    Each is the larger of two p-values: that of sign flips, which is exact if a difference is as
    likely to have either sign, and ``skewed_mean_p``.

    Args:
        differences: see ``sign_flip_p``.
    """
    exact = sign_flip_p(differences)
    return [max(p, skewed_mean_p(values)) for p, values in zip(exact, differences, strict=True)]


def t_interval(values: Values) -> tuple[float, float, float]:
    """Return the mean of the finite values and the ends of its 95 % interval by the t
    distribution; the interval of one value is NaN, and so is the mean of none."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(known.mean())
    if len(known) == 1:
        return mean, float("nan"), float("nan")
    error = float(known.std(ddof=1)) / np.sqrt(len(known))
    reach = float(stdtrit(len(known) - 1, 1 - LEVEL / 2)) * error
    return mean, mean - reach, mean + reach


def t_p(values: Values) -> float:
    """Return the two-sided p-value of a mean of zero by the t-test; 1 for fewer than two values.

    Args:
        values: finite values, such as one for each run.
    """
    if len(values) < 2:
        return 1.0
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(len(values))
    if error == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2 * stdtr(len(values) - 1, -abs(mean) / error))


def mean_interval(differences: Values) -> tuple[float, float, float]:
    """Return the mean of the finite differences and the ends of its 95 % interval.

    It is the interval of the t distribution over these documents and two made-up ones, a gain and
    a loss as large as the largest difference. For fewer than two differences see ``t_interval``.
    """
    known = differences[np.isfinite(differences)]
    mean, low, high = t_interval(known)
    if len(known) > 1:
        largest = INTERVAL_SIZE * float(np.abs(known).max())
        _, low, high = t_interval(np.append(known, [largest, -largest]))
    return mean, low, high


def difference_family(differences: Sequence[Values]) -> list[PairedDifference]:
    """Test the mean of each member of a family of paired differences.

    Args:
        differences: for each member the differences of the documents.
    """
    p_values = mean_p(differences)
    corrected = holm(p_values)
    tested = []
    for values, p, corrected_p in zip(differences, p_values, corrected, strict=True):
        mean, low, high = mean_interval(values)
        tested.append(
            PairedDifference(mean=mean, low=low, high=high, p=p, corrected_p=corrected_p)
        )
    return tested


def p_above_margin(differences: Values, margin: float) -> float:
    """Return the one-sided p-value of the claim that a mean difference is above ``-margin``.

    A small p-value proves that a loss of score is smaller than the margin. It is one of the two
    one-sided t-tests of Schuirmann (1987), with a made-up document whose loss is larger than the
    largest difference. Losses in one document of fifty or fewer are still missed too often.
    """
    if len(differences) < 2:
        return 1.0
    loss = -MARGIN_SIZE * float(np.abs(differences).max())
    sample = np.append(differences, loss)
    mean = float(sample.mean())
    error = float(sample.std(ddof=1)) / np.sqrt(len(sample))
    if error == 0.0:
        return 0.0 if mean > -margin else 1.0
    return float(1 - stdtr(len(sample) - 1, (mean + margin) / error))
