"""Bootstrap intervals and tests of means over examples (Efron and Tibshirani 1993, chapters 13 and
16), and Holm's correction (1979).

Examples are resampled, so an interval generalizes to other documents of the same kind, not to
other seeds of a training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
BLOCK = 2**15  # examples that are drawn in one call
PERCENTILES = [2.5, 97.5]

Values = NDArray[np.float64]  # [examples, metrics]; NaN where an example has no such metric
Vector = NDArray[np.float64]  # of one metric: [examples] or [resamples]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over examples with the ends of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference(Estimate):
    """A mean difference over examples with its interval and p-value.

    Attributes:
        p: two-sided p-value of no difference, not corrected; at least 1 / (resamples + 1).
    """

    p: float


@dataclass(frozen=True, kw_only=True)
class CorrectedDifference(Difference):
    """A difference of a family of tests.

    Attributes:
        corrected_p: p corrected for the number of tests in the family (Holm 1979).
    """

    corrected_p: float


def draw_counts(examples: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield for each resample the number of times that each example is drawn, [examples].

    The draws depend on the two arguments only, so that systems are compared on the same resamples.
    """
    random = np.random.default_rng(SEED)
    rows = max(1, BLOCK // examples)
    for begin in range(0, resamples, rows):
        # Several resamples in one call: the same draws as one by one, in a tenth of the time.
        drawn = random.integers(0, examples, (min(rows, resamples - begin), examples))
        first_of_row = examples * np.arange(len(drawn))[:, None]
        counts = np.bincount((drawn + first_of_row).ravel(), minlength=drawn.size)
        yield from counts.reshape(drawn.shape)


def resampled_means(values: Values, resamples: int) -> Values:
    """Return the means over resamples of the examples, [resamples, metrics].

    In a resample, a metric is averaged over the examples that have it. It is NaN if none of them
    does.

    Args:
        values: metrics of each example, [examples, metrics].
        resamples: number of resamples.
    """
    known = np.isfinite(values)
    sums_and_counts = np.concatenate([np.where(known, values, 0.0), known], axis=1)
    drawn = np.empty((resamples, sums_and_counts.shape[1]))
    for row, counts in zip(drawn, draw_counts(len(values), resamples), strict=True):
        row[:] = counts @ sums_and_counts

    # All resamples at once: small arrays are dominated by the cost of each operation.
    sums, numbers = np.split(drawn, 2, axis=1)
    return divide(sums, numbers)


def divide(sums: Values, counts: Values) -> Values:
    """Return the quotients of two arrays of the same shape, NaN where the count is zero."""
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def intervals(values: Values) -> list[Estimate | None]:
    """Return the mean and interval of each column over the examples that have the metric.

    Args:
        values: metrics of each example, [examples, metrics].

    Returns:
        An estimate for each metric; None for one that no example has.
    """
    resampled = resampled_means(values, RESAMPLES)
    estimates: list[Estimate | None] = []
    for column in range(values.shape[1]):
        is_known = np.isfinite(values[:, column]).any()
        mean = float(np.nanmean(values[:, column])) if is_known else np.nan
        estimates.append(estimate(mean, resampled[:, column]) if is_known else None)
    return estimates


def estimate(mean: float, resampled: Vector) -> Estimate:
    """Return a score with its 95 % percentile interval over resamples.

    Args:
        mean: the score of all examples.
        resampled: that of each resample, [resamples]; at least one is not NaN.
    """
    low, high = np.nanpercentile(resampled, PERCENTILES)
    return Estimate(mean=mean, low=float(low), high=float(high))


def differences(values: Values, others: Values, resamples: int) -> list[Difference]:
    """Test the paired differences ``values - others``, column by column.

    A metric is compared on the examples for which both systems have it. If there are none, the
    difference and its interval are NaN, and p is 1.

    Args:
        values: metrics of one system, [examples, metrics].
        others: those of another system on the same examples, [examples, metrics].
        resamples: number of resamples.

    Returns:
        The difference of each metric.
    """
    paired = values - others
    resampled = resampled_means(paired, resamples)
    tested = []
    for column in range(paired.shape[1]):
        if np.isfinite(paired[:, column]).any():
            mean = float(np.nanmean(paired[:, column]))
            tested.append(difference_from_resamples(mean, resampled[:, column]))
        else:
            tested.append(Difference(mean=np.nan, low=np.nan, high=np.nan, p=1.0))
    return tested


def difference_from_resamples(mean: float, resampled: Vector) -> Difference:
    """Return a difference with its interval and p-value.

    p is the share of resampled differences, shifted to a mean of zero, that are at least as
    extreme as the observed one (the bootstrap test of Riezler and Maxwell 2005), which sacrebleu
    reports, too.

    Args:
        mean: the difference on all examples.
        resampled: that of each resample, [resamples]; NaN where it has no example with the metric.
    """
    interval = estimate(mean, resampled)
    known = resampled[np.isfinite(resampled)]
    as_extreme = np.abs(known - mean) >= abs(mean)
    p = (1 + int(as_extreme.sum())) / (1 + len(known))
    return Difference(mean=mean, low=interval.low, high=interval.high, p=p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests, corrected for their number (Holm 1979)."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    by_p = sorted(range(len(p_values)), key=lambda test: p_values[test])
    for rank, test in enumerate(by_p):
        # The smallest is multiplied by the number of tests, the next by one less, and so on. A
        # corrected value is at least as large as the one before it.
        largest = max(largest, min(1.0, p_values[test] * (len(p_values) - rank)))
        corrected[test] = largest
    return corrected
