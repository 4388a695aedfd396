"""Tests and intervals over the documents of a sample, for differences that are paired by document.

One trained model is looked at, so that everything here is about other documents, not about other
seeds.

Differences of ROUGE are mostly zero, and the others may be skewed: many documents gain a little
while a few lose much. A sample that happens to have none of these few shows a gain and no sign of
a loss, and no test of a mean is exact (Bahadur and Savage 1956). Tests and intervals here add
made-up documents to the sample, whose size is that of the largest observed difference or some
multiple of it: what they find would be found even with such documents. benchmarks/heads.py
simulates how often they err.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from headcount.evaluation.bootstrap import holm

MIN_FLIPS = 10_000
FLIPS_PER_TEST = 60  # so that 1 / flips x tests is below 5 %
BLOCK = 10_000  # flips at a time
SEED = 0
LEVEL = 0.05

# Sizes of made-up documents, in largest observed differences: the smallest with which about 5 % of
# families err where differences are as skewed as exponential ones (benchmarks/heads.py).
TEST_SIZE = 0.6
INTERVAL_SIZE = 1.0
MARGIN_SIZE = 1.5

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference over documents.

    Attributes:
        mean: of the documents that have the value.
        low: lower end of its 95 % interval.
        high: upper end.
        p: of the test that the mean is zero.
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
    (Riezler and Maxwell 2005). Under the null hypothesis a difference is as likely to have either
    sign. Then the test holds its level exactly, also where most differences are zero. Differences
    that are skewed around a mean of zero are another hypothesis, which it rejects too often:
    ``mean_p`` is for them.

    Args:
        differences: for each test those of the documents, the same documents in the same order;
            NaN where a document has none.
        one_sided: test against a mean above zero, not against any other mean.

    Returns:
        At least 1 / (flips + 1), where the number of flips is such that the smallest p-value is
        significant after Holm's correction.
    """
    if not differences:
        return []
    values = np.nan_to_num(np.stack(differences, axis=1))  # (documents, tests)
    flips = max(MIN_FLIPS, FLIPS_PER_TEST * len(differences))
    generator = np.random.default_rng(SEED)
    observed = values.sum(0)
    tolerance = 1e-12 * np.abs(values).sum(0)

    as_far = np.zeros(len(differences))
    for begin in range(0, flips, BLOCK):
        shape = (min(BLOCK, flips - begin), len(values))
        signs = generator.integers(0, 2, shape, dtype=np.int8) * 2.0 - 1.0
        flipped = signs @ values
        if one_sided:
            as_far += (flipped >= observed - tolerance).sum(0)
        else:
            as_far += (np.abs(flipped) >= np.abs(observed) - tolerance).sum(0)
    p_values: list[float] = ((1 + as_far) / (1 + flips)).tolist()
    return p_values


def skewed_mean_p(differences: Values) -> float:
    """Return the two-sided p-value of the mean of differences that may be skewed.

    The t-test with Hall's (1992) transformation, which removes the skewness of the statistic. It
    looks at the documents that changed: many zeros would hide how the others are skewed, and the
    mean of all is zero if theirs is. One made-up document counts against the mean, because the
    sample may lack the tail that its skewness is measured by. The price is power: a dozen changed
    documents prove little, fewer prove nothing.

    Args:
        differences: of the documents; NaN where a document has none.
    """
    # The documents that changed, and one against their mean.
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

    # With the made-up document the statistic may turn to the other side of zero.
    if transformed * total <= 0:
        return 1.0
    t = np.sqrt(len(sample)) * abs(transformed)
    return float(2 * stdtr(len(sample) - 1, -t))


def mean_p(differences: Sequence[Values]) -> list[float]:
    """Return the two-sided p-values of means of paired differences.

    Each is the larger one of two: that of sign flips, exact if a difference is as likely to have
    either sign, and ``skewed_mean_p``.

    Args:
        differences: see ``sign_flip_p``.
    """
    exact = sign_flip_p(differences)
    return [max(p, skewed_mean_p(values)) for p, values in zip(exact, differences, strict=True)]


def t_interval(values: Values) -> tuple[float, float, float]:
    """Return the mean of the finite values and the ends of its 95 % interval by the t
    distribution; NaN where there is none."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(known.mean())
    if len(known) == 1:
        return mean, float("nan"), float("nan")
    error = float(known.std(ddof=1)) / np.sqrt(len(known))
    reach = float(stdtrit(len(known) - 1, 1 - LEVEL / 2)) * error
    return mean, mean - reach, mean + reach


def mean_interval(differences: Values) -> tuple[float, float, float]:
    """Return the mean of the finite differences and the ends of its 95 % interval.

    It is the interval of the t distribution over these documents and two made-up ones, a gain and
    a loss as large as the largest difference. NaN where there is none.
    """
    known = differences[np.isfinite(differences)]
    mean, low, high = t_interval(known)
    if len(known) > 1:
        largest = INTERVAL_SIZE * float(np.abs(known).max())
        _, low, high = t_interval(np.append(known, [largest, -largest]))
    return mean, low, high


def difference_family(differences: Sequence[Values]) -> list[Difference]:
    """Test the mean of each member of a family of paired differences.

    Args:
        differences: for each member the differences of the documents.
    """
    p_values = mean_p(differences)
    corrected = holm(p_values)
    tested = []
    for values, p, corrected_p in zip(differences, p_values, corrected, strict=True):
        mean, low, high = mean_interval(values)
        tested.append(Difference(mean=mean, low=low, high=high, p=p, corrected_p=corrected_p))
    return tested


def p_above_margin(differences: Values, margin: float) -> float:
    """Return the one-sided p-value of the claim that a mean difference is above ``-margin``.

    A small one proves that a loss of score is smaller than the margin (one of the two one-sided
    tests of Schuirmann 1987), by the t distribution. A made-up document is a loss of more than the
    largest difference. Losses in one document of fifty or less are missed too often all the same.
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
