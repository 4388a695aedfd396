"""How sure a mean over examples is (Efron and Tibshirani 1993, chapters 13 and 16), and Holm's
correction (1979).

Examples are resampled, so an interval is about other documents of the same kind, not about other
seeds of a training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
PERCENTILES = [2.5, 97.5]

Values = NDArray[np.float64]  # (examples, figures); NaN where an example has no such figure


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean over examples with the ends of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference(Figure):
    """A mean difference over examples, and how often one as large would come about if there were
    none.

    Attributes:
        p: two-sided, not corrected; at least 1 / (resamples + 1).
    """

    p: float


def resampled_means(values: Values, resamples: int) -> Values:
    """Return the means over resamples of the examples, a row a resample.

    Always the same ones for as many examples.
    """
    draws = np.random.default_rng(SEED)
    known = np.isfinite(values)
    sums_and_counts = np.concatenate([np.where(known, values, 0.0), known], axis=1)
    means = np.empty((resamples, values.shape[1]))
    for row in means:
        drawn = draws.integers(0, len(values), len(values))
        sums, counts = np.split(np.bincount(drawn, minlength=len(values)) @ sums_and_counts, 2)
        row[:] = divide(sums, counts)
    return means


def divide(sums: Values, counts: Values) -> Values:
    """Return means, NaN where there is nothing to count."""
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def intervals(values: Values) -> list[Figure | None]:
    """Return the mean and interval of each column over the examples that have the figure.

    None where none has it.
    """
    resampled = resampled_means(values, RESAMPLES)
    return [
        _figure(values[:, column], resampled[:, column])
        if np.isfinite(values[:, column]).any()
        else None
        for column in range(values.shape[1])
    ]


def differences(values: Values, others: Values, resamples: int) -> list[Difference]:
    """Test the paired differences ``values - others``, column by column.

    p is the share of resampled means, shifted to a difference of zero, that are as far from it as
    the one observed (the bootstrap test of Riezler and Maxwell 2005): what sacrebleu reports.
    """
    paired = values - others
    resampled = resampled_means(paired, resamples)
    tested = []
    for column in range(paired.shape[1]):
        figure = _figure(paired[:, column], resampled[:, column])
        as_far = np.abs(resampled[:, column] - figure.mean) >= abs(figure.mean)
        p = (1 + int(as_far.sum())) / (1 + len(resampled))
        tested.append(Difference(mean=figure.mean, low=figure.low, high=figure.high, p=p))
    return tested


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests, corrected for their number (Holm 1979)."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, test in enumerate(sorted(range(len(p_values)), key=lambda test: p_values[test])):
        largest = max(largest, min(1.0, p_values[test] * (len(p_values) - rank)))
        corrected[test] = largest
    return corrected


def _figure(values: Values, resampled: Values) -> Figure:
    low, high = np.nanpercentile(resampled, PERCENTILES)
    return Figure(mean=float(np.nanmean(values)), low=float(low), high=float(high))
