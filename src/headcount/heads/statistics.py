"""Tests and intervals over the documents of a sample, for differences that are paired by document.

One trained model is looked at, so that everything here is about other documents, not about other
seeds.
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
    benchmarks/heads.py.

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


def difference_family(
    differences: Sequence[Values], *, one_sided: bool = False
) -> list[Difference]:
    """Test the mean of each member of a family of paired differences.

    Args:
        differences: for each member the differences of the documents.
        one_sided: see ``sign_flip_p``.
    """
    p_values = sign_flip_p(differences, one_sided=one_sided)
    corrected = holm(p_values)
    tested = []
    for values, p, corrected_p in zip(differences, p_values, corrected, strict=True):
        mean, low, high = t_interval(values)
        tested.append(Difference(mean=mean, low=low, high=high, p=p, corrected_p=corrected_p))
    return tested


def p_above_margin(differences: Values, margin: float) -> float:
    """Return the one-sided p-value of the claim that a mean difference is above ``-margin``.

    A small one proves that a loss of score is smaller than the margin (one of the two one-sided
    tests of Schuirmann 1987), by the t distribution.
    """
    mean = float(differences.mean())
    if len(differences) < 2:
        return 1.0
    error = float(differences.std(ddof=1)) / np.sqrt(len(differences))
    if error == 0.0:
        return 0.0 if mean > -margin else 1.0
    return float(1 - stdtr(len(differences) - 1, (mean + margin) / error))
