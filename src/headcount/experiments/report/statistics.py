"""The statistics of a study: means of cells and their differences from the reference cell, with
both sources of variance counted.

A difference in F1 x 100, cell minus reference cell, paired by seed s and example e, is modelled as
``effect + seed_s + example_e + rest_se``. Other seeds would have given other ``seed_s``, other
documents other ``example_e``. The variance of its mean over S seeds and E examples is the sum of
two terms (crossed random effects: Searle, Casella and McCulloch 1992):

- ``seed_variance``, the variance of the seeds' means divided by S, with S - 1 degrees of freedom.
  It contains the variance of the rest.
- ``example_variance``, (MS_example - MS_rest) / (S * E) or 0, with E - 1 degrees of freedom: what
  is common to all seeds.

Each term has a t distribution of its own. The mean over its standard error is compared with both,
weighted by their shares of the variance, as Cochran and Cox (1950) weight the critical values of
two means with unequal variances. With one term alone this is the t-test over seeds or over
examples. In between its intervals keep their coverage from three seeds on, unlike the bootstrap
and Satterthwaite's degrees of freedom: docs/statistics.md.

With one seed the variance over seeds is unknown. Interval, p and detectable effect are then about
other documents only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtr, stdtrit

from headcount.evaluation.bootstrap import holm

SIGNIFICANCE = 0.05  # two-sided
POWER = 0.8

Numbers = NDArray[np.float64]
# (seeds, examples): F1 x 100, the same seeds and examples in the same order in every cell.
Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Variance:
    """The variance of a mean over seeds and examples, or of many means, by source.

    Attributes:
        seeds: contribution of the seeds, including the rest; zero with one seed.
        examples: contribution of the examples.
        rest: contribution of the rest; zero with one seed. The true ``seeds`` is at least the
            true ``rest``.
    """

    seeds: Numbers
    examples: Numbers
    rest: Numbers

    @property
    def standard_error(self) -> Numbers:
        """The standard error of the mean."""
        return np.sqrt(self.seeds + self.examples)

    @property
    def seed_share(self) -> Numbers:
        """The seeds' share of the variance; zero where there is no variance."""
        total = self.seeds + self.examples
        return np.divide(self.seeds, total, out=np.zeros_like(total), where=total > 0)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds and examples with its 95 % interval.

    Attributes:
        sd: standard deviation, over seeds, of the means over examples; None with one seed, whose
            interval is about other documents only.
    """

    mean: float
    low: float
    high: float
    sd: float | None
    seeds: int
    examples: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference of a cell from the reference cell, and its test.

    Attributes:
        difference: cell minus reference cell.
        p: two-sided, of this comparison alone.
        corrected_p: corrected for the number of comparisons in the family (Holm 1979).
        detectable: the smallest true difference that this study finds in 80 % of its repetitions
            (5 %, two-sided, not corrected). It is as uncertain as the variance over seeds, which
            counts as at least that of the rest.
    """

    difference: Estimate
    p: float
    corrected_p: float
    detectable: float


def estimate_mean(scores: Scores) -> Estimate:
    """Return the mean of a cell with its interval and its sd over seeds."""
    return _test_mean(scores).difference


def compare_family(pairs: Sequence[tuple[Scores, Scores]]) -> list[Comparison]:
    """Test each cell against the reference cell, and correct the p-values for their number.

    Args:
        pairs: (cell, reference cell), one for each cell and metric that the study compares. The
            two of a pair have the same seeds and the same examples, in the same order.
    """
    tested = []
    for cell, reference in pairs:
        # Other shapes might broadcast.
        assert cell.shape == reference.shape, f"{cell.shape} and {reference.shape} do not pair"
        tested.append(_test_mean(cell - reference))

    corrected = holm([comparison.p for comparison in tested])
    return [
        replace(comparison, corrected_p=p) for comparison, p in zip(tested, corrected, strict=True)
    ]


def _test_mean(values: Scores) -> Comparison:
    """Return the mean of (seeds, examples) and the test that it is zero, not corrected."""
    seeds, examples = values.shape
    assert examples > 1, f"{values.shape} has too few examples"
    assert np.isfinite(values).all(), "not all scores are numbers"

    # The mean and its interval.
    mean = float(values.mean())
    sd = float(values.mean(axis=1).std(ddof=1)) if seeds > 1 else None
    variance = split_variance(values)
    error = float(variance.standard_error)
    half_width = critical_value(float(variance.seed_share), seeds, examples) * error

    # The test. Without any variance every difference is significant.
    without_variance = np.inf if mean else 0.0
    t = abs(mean) / error if error else without_variance
    p = float(two_sided_p(t, variance.seed_share, seeds, examples))

    # A few seeds may agree by chance: their variance is at least that of the rest.
    floored = replace(variance, seeds=np.maximum(variance.seeds, variance.rest))
    effect = detectable_effect(float(floored.seed_share), seeds, examples)
    detectable = effect * float(floored.standard_error)

    difference = Estimate(
        mean=mean,
        low=mean - half_width,
        high=mean + half_width,
        sd=sd,
        seeds=seeds,
        examples=examples,
    )
    return Comparison(difference=difference, p=p, corrected_p=p, detectable=detectable)


def split_variance(values: Numbers) -> Variance:
    """Return the variance of the mean of (..., seeds, examples), shaped (...)."""
    seeds, examples = values.shape[-2:]
    example_means = values.mean(axis=-2)
    example_variance = example_means.var(axis=-1, ddof=1) / examples
    if seeds == 1:
        zero = np.zeros(values.shape[:-2])
        return Variance(seeds=zero, examples=example_variance, rest=zero)

    # The rest is what neither the seed nor the example explains.
    rest = values - example_means[..., None, :]
    rest -= rest.mean(axis=-1, keepdims=True)
    degrees = (seeds - 1) * (examples - 1)
    rest_variance = np.square(rest).sum(axis=(-2, -1)) / (degrees * seeds * examples)

    # The variance of the examples' means contains the rest, which the seeds' already count.
    seed_means = values.mean(axis=-1)
    return Variance(
        seeds=seed_means.var(axis=-1, ddof=1) / seeds,
        examples=np.maximum(0, example_variance - rest_variance),
        rest=rest_variance,
    )


def two_sided_p(
    t: Numbers | float, seed_share: Numbers | float, seeds: int, examples: int
) -> Numbers:
    """Return the probability of a mean at least ``t`` standard errors from the true one.

    Args:
        t: not negative.
        seed_share: the seeds' share of the variance; shaped like ``t``.
        seeds: number of seeds.
        examples: number of examples.
    """
    seed_tail = stdtr(max(seeds - 1, 1), np.negative(t))
    example_tail = stdtr(examples - 1, np.negative(t))
    return 2 * _mix(seed_share, seed_tail, example_tail)


def critical_value(seed_share: float, seeds: int, examples: int) -> float:
    """Return the half width of a 95 % interval, in standard errors."""

    def excess(t: float) -> Numbers:
        return two_sided_p(t, seed_share, seeds, examples) - SIGNIFICANCE

    # The distribution with fewer degrees of freedom bounds the mixture.
    fewest = max(min(seeds, examples) - 1, 1)
    upper = -1.01 * stdtrit(fewest, SIGNIFICANCE / 2)
    return float(brentq(excess, 0, upper))


def detectable_effect(seed_share: float, seeds: int, examples: int) -> float:
    """Return the true effect, in standard errors, that is found with probability ``POWER``.

    The noncentral t distributions of the two sources are weighted like the central ones.
    """
    critical = critical_value(seed_share, seeds, examples)

    def excess(effect: float) -> Numbers:
        seed_misses = nctdtr(max(seeds - 1, 1), effect, critical)
        example_misses = nctdtr(examples - 1, effect, critical)
        return _mix(seed_share, seed_misses, example_misses) - (1 - POWER)

    return float(brentq(excess, 0, 3 * critical))


def _mix(seed_share: Numbers | float, by_seeds: Numbers, by_examples: Numbers) -> Numbers:
    return seed_share * by_seeds + (1 - seed_share) * by_examples
