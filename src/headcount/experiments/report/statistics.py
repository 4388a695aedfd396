"""What several seeds say of a cell and of its difference from the baseline, with both sources of
variance counted.

A difference of F1 x 100, cell minus baseline, paired by seed s and example e, is ``effect + seed_s
+ example_e +
rest_se``: other seeds would have given another ``seed_s``, other documents another ``example_e``.
    The variance of its
mean over S seeds and E examples is the sum of two (crossed random effects: Searle, Casella and
McCulloch 1992):

    seed_variance    = variance of the means of the seeds / S    S - 1 degrees of freedom; it holds
    the rest as well example_variance = (MS_example - MS_rest) / (S * E), or 0    E - 1 degrees of
    freedom; what moves all seeds alike

Each source has a t distribution of its own. The mean over its standard error is held against both,
weighed by their shares of the variance; Cochran and Cox (1950) weigh the critical values of two
means with unequal variances so. Where one source is all there is, this is the t-test over seeds or
over examples. In between it covers what it should from three seeds on, which the bootstrap and
Satterthwaite's degrees of freedom do not: docs/statistics.md.

With one seed the variance over seeds is unknown: interval, p and detectable effect are then about
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
Scores = NDArray[
    np.float64
]  # (seeds, examples): F1 x 100, the same seeds and examples in the same order in every cell


@dataclass(frozen=True, kw_only=True)
class Variance:
    """The variance of a mean over seeds and examples, or of many means, by source.

    Attributes:
        seeds: what the seeds contribute, the rest with them; zero with one seed, for want of a
            second.
        examples: what the examples contribute.
        rest: what is left of both, zero with one seed. The true ``seeds`` is at least the true
            ``rest``.
    """

    seeds: Numbers
    examples: Numbers
    rest: Numbers

    @property
    def error(self) -> Numbers:
        """The standard error of the mean."""
        return np.sqrt(self.seeds + self.examples)

    @property
    def seed_share(self) -> Numbers:
        """What share of the variance the seeds contribute; zero where there is no variance."""
        total = self.seeds + self.examples
        return np.divide(self.seeds, total, out=np.zeros_like(total), where=total > 0)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds and examples with the ends of its 95 % interval.

    Attributes:
        sd: over seeds, of the means over examples; None with one seed, whose interval is about
            other documents only.
    """

    mean: float
    low: float
    high: float
    sd: float | None
    seeds: int
    examples: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A cell minus its baseline, and the test of it.

    Attributes:
        difference: its mean and interval, and its sd over seeds.
        p: two-sided, of this comparison alone.
        corrected_p: corrected for the number of comparisons in the family (Holm 1979).
        detectable: the smallest true difference that a study with this variance finds at 5 %,
            two-sided and not corrected, in 80 % of its repetitions. As uncertain as the variance
            over seeds, but no less than what the rest alone would make it.
    """

    difference: Estimate
    p: float
    corrected_p: float
    detectable: float


def estimate_mean(values: Scores) -> Estimate:
    """Return the mean of a cell, its interval and its sd over seeds."""
    return _infer(values).difference


def compare_family(pairs: Sequence[tuple[Scores, Scores]]) -> list[Comparison]:
    """Test each cell against its baseline, and correct the p-values for their number.

    Args:
        pairs: (cell, baseline), one for each cell and metric that the study declares as a question
            of its own. The two of a pair have the same seeds and the same examples, in the same
            order.
    """
    for cell, baseline in pairs:
        assert cell.shape == baseline.shape, (
            f"{cell.shape} and {baseline.shape} do not pair"
        )  # they might broadcast
    tested = [_infer(cell - baseline) for cell, baseline in pairs]
    corrected = holm([comparison.p for comparison in tested])
    return [
        replace(comparison, corrected_p=p) for comparison, p in zip(tested, corrected, strict=True)
    ]


def _infer(values: Scores) -> Comparison:
    """Return the mean, and the test of its difference from zero, not corrected."""
    seeds, examples = values.shape
    assert examples > 1 and np.isfinite(values).all(), (
        f"{values.shape}, or not all of them numbers"
    )
    variance = split_variance(values)
    mean, sd, error = (
        values.mean(),
        values.mean(axis=1).std(ddof=1) if seeds > 1 else None,
        float(variance.error),
    )
    reach = find_critical(float(variance.seed_share), seeds, examples) * error
    t = abs(mean) / error if error else np.inf if mean else 0.0
    p = float(weigh_tails(t, variance.seed_share, seeds, examples))
    likely = replace(
        variance, seeds=np.maximum(variance.seeds, variance.rest)
    )  # few seeds agree by chance
    detectable = find_detectable(float(likely.seed_share), seeds, examples) * float(likely.error)
    difference = Estimate(
        mean=float(mean),
        low=float(mean) - reach,
        high=float(mean) + reach,
        sd=None if sd is None else float(sd),
        seeds=seeds,
        examples=examples,
    )
    return Comparison(difference=difference, p=p, corrected_p=p, detectable=detectable)


def split_variance(values: Numbers) -> Variance:
    """Return the variance of the mean of (..., seeds, examples), shaped (...)."""
    seeds, examples = values.shape[-2:]
    of_examples = values.mean(axis=-2)
    if seeds == 1:
        none = np.zeros(values.shape[:-2])
        return Variance(
            seeds=none, examples=of_examples.var(axis=-1, ddof=1) / examples, rest=none
        )
    of_seeds = values.mean(axis=-1)
    rest = values - of_examples[..., None, :]
    rest -= rest.mean(axis=-1, keepdims=True)
    rest_variance = np.square(rest).sum(axis=(-2, -1)) / (
        (seeds - 1) * (examples - 1) * seeds * examples
    )
    example_variance = of_examples.var(axis=-1, ddof=1) / examples  # the rest is in it too
    return Variance(
        seeds=of_seeds.var(axis=-1, ddof=1) / seeds,
        examples=np.maximum(0, example_variance - rest_variance),
        rest=rest_variance,
    )


def weigh_tails(
    t: Numbers | float, seed_share: Numbers | float, seeds: int, examples: int
) -> Numbers:
    """Return the probability of a mean ``t`` standard errors or further from the true one, to
    either side.

    Args:
        t: not negative.
        seed_share: of the variance, what the seeds contribute; shaped like ``t``.
        seeds: how many.
        examples: how many.
    """
    return 2 * _weigh(
        seed_share, stdtr(max(seeds - 1, 1), np.negative(t)), stdtr(examples - 1, np.negative(t))
    )


def find_critical(seed_share: float, seeds: int, examples: int) -> float:
    """Return how many standard errors a 95 % interval reaches to either side."""
    beyond = -1.01 * stdtrit(max(min(seeds, examples) - 1, 1), SIGNIFICANCE / 2)
    return float(
        brentq(lambda t: weigh_tails(t, seed_share, seeds, examples) - SIGNIFICANCE, 0, beyond)
    )


def find_detectable(seed_share: float, seeds: int, examples: int) -> float:
    """Return how many standard errors an effect has that is found as often as ``POWER`` says.

    The noncentral t distributions of the two sources are weighed likewise.
    """
    critical = find_critical(seed_share, seeds, examples)

    def miss(effect: float) -> Numbers:
        by_seeds, by_examples = (
            nctdtr(max(seeds - 1, 1), effect, critical),
            nctdtr(examples - 1, effect, critical),
        )
        return _weigh(seed_share, by_seeds, by_examples)

    return float(brentq(lambda effect: miss(effect) - (1 - POWER), 0, 3 * critical))


def _weigh(seed_share: Numbers | float, by_seeds: Numbers, by_examples: Numbers) -> Numbers:
    return seed_share * by_seeds + (1 - seed_share) * by_examples
