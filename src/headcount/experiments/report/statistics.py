"""The statistics of a study: means of cells and their differences from the reference cell, with
both sources of variance counted.

A difference in F1 x 100, cell minus reference cell, paired by seed s and example e, is modelled as
``effect + seed_s + example_e + residual_se``. Other seeds would have given other ``seed_s``, other
documents other ``example_e``. The variance of its mean over S seeds and E examples is the sum of
two terms (crossed random effects: Searle, Casella and McCulloch 1992):

- ``seed_variance``, the variance of the seeds' means divided by S, with S - 1 degrees of freedom.
  It contains the residual variance.
- ``example_variance``, (MS_example - MS_residual) / (S * E) or 0, with E - 1 degrees of freedom:
  what is common to all seeds.

Each term has a t distribution of its own. The mean over its standard error is compared with both,
weighted by their shares of the variance, as Cochran and Cox (1950) weight the critical values of
two means with unequal variances. With one term alone this is the t-test over seeds or over
examples. In between its intervals keep their coverage from three seeds on, unlike the bootstrap
and Satterthwaite's degrees of freedom: docs/statistics.md.

With one seed the variance over seeds is unknown. Interval, p and detectable effect are then about
other documents only.

Two questions are asked of each difference. Is it zero? And is it smaller than a margin, the
smallest difference that matters? The second one is answered by two one-sided tests (Schuirmann
1987): that the difference is above minus the margin, and that it is below the margin. Each
question has a Holm correction (1979) of its own, over all comparisons that the study plans.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtr, stdtrit

from headcount.evaluation.bootstrap import holm
from headcount.experiments.verdicts import Verdict

SIGNIFICANCE = 0.05  # two-sided
POWER = 0.8
MAX_PLANNED_SEEDS = 50  # no plan goes further
MIN_SEEDS = 3  # with fewer, error rates are higher than stated: docs/statistics.md

Numbers = NDArray[np.float64]
# (seeds, examples): F1 x 100, the same seeds and examples in the same order in every cell.
Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Variance:
    """The variance of a mean over seeds and examples, or of many means, by source.

    Attributes:
        seeds: contribution of the seeds, including the residual; zero with one seed.
        examples: contribution of the examples.
        residual: contribution of what neither seed nor example explains; zero with one seed. The
            true ``seeds`` is at least the true ``residual``.
    """

    seeds: Numbers
    examples: Numbers
    residual: Numbers

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
class StudyEstimate:
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
class CellComparison:
    """The difference of a cell from the reference cell, and its test.

    Attributes:
        difference: cell minus reference cell.
        p: two-sided, of this comparison alone.
        corrected_p: corrected for the number of comparisons in the family (Holm 1979).
        detectable: the smallest true difference that this study finds in 80 % of its repetitions
            (5 %, two-sided, not corrected). It is as uncertain as the variance over seeds, which
            counts as at least the residual one.
        margin: the smallest difference that matters; None if the study states none.
        equivalence_p: the larger p of two one-sided tests, that the difference is not within the
            margin; None without a margin.
        corrected_equivalence_p: corrected for the number of comparisons with a margin (Holm).
        seeds_to_decide: the number of seeds with which an undecided comparison would be decided
            with probability 80 %, if the true difference is the observed one; None if it is
            decided, would take more than ``MAX_PLANNED_SEEDS``, or has one seed, which says
            nothing about others.
        decision: the verdict of a sequential rule, which holds instead of these tests; None
            without one.
        decision_seeds: the number of seeds at the look that decided; None without one.
        next_look_seeds: the number of seeds at the next look of the rule, if the comparison is
            undecided and will be tested there; else None.
    """

    difference: StudyEstimate
    p: float
    corrected_p: float
    detectable: float
    margin: float | None = None
    equivalence_p: float | None = None
    corrected_equivalence_p: float | None = None
    seeds_to_decide: int | None = None
    decision: Verdict | None = None
    decision_seeds: int | None = None
    next_look_seeds: int | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the difference is proven not to be zero: by the sequential rule, if there was
        one, to which the p-value of the last data does not apply."""
        if self.decision is not None:
            return self.decision in ("better", "worse")
        return self.corrected_p < SIGNIFICANCE

    @property
    def is_equivalent(self) -> bool:
        """Whether the difference is proven to be smaller than the margin."""
        p = self.corrected_equivalence_p
        return p is not None and p < SIGNIFICANCE

    @property
    def planned_seeds(self) -> str:
        """The number of seeds that would decide an undecided comparison, in words; empty if
        nothing is known about it."""
        is_open = self.verdict == "undecided" and self.decision is None
        if not is_open or self.difference.seeds == 1:
            return ""
        if self.seeds_to_decide is None:
            return f"more than {MAX_PLANNED_SEEDS}"
        return f"about {self.seeds_to_decide}"

    @property
    def next_look(self) -> str:
        """When the sequential rule tests an undecided comparison again, in words; empty without
        the rule."""
        if self.decision != "undecided":
            return ""
        if self.next_look_seeds is None:
            return "undecided after the last look"
        return f"next look: {self.next_look_seeds} seeds"

    @property
    def caveat(self) -> str:
        """What limits a verdict from fewer than three seeds, in words; else empty."""
        seeds = self.difference.seeds
        if seeds >= MIN_SEEDS:
            return ""
        return "one seed: about other documents only" if seeds == 1 else "from two seeds"

    @property
    def verdict(self) -> Verdict:
        """The difference in words.

        One that is proven to be neither zero nor as large as the margin does not matter: it is
        equal within the margin.
        """
        if self.decision is not None:
            return self.decision
        if self.is_equivalent:
            return "equal within the margin"
        if self.is_significant:
            return "better" if self.difference.mean > 0 else "worse"
        return "undecided"


@dataclass(frozen=True, kw_only=True)
class MeanTest:
    """The mean of (seeds, examples) and what its tests need.

    Attributes:
        estimate: the mean with its interval.
        variance: of the mean.
    """

    estimate: StudyEstimate
    variance: Variance

    @property
    def standard_error(self) -> float:
        """The standard error of the mean."""
        return float(self.variance.standard_error)

    def tail(self, distance: float) -> float:
        """Return the one-sided probability of a mean this far from the true one, or further."""
        if self.standard_error:
            t = distance / self.standard_error
        else:
            # Without any variance the mean is the true one.
            t = math.copysign(math.inf, distance) if distance else 0.0
        share = self.variance.seed_share
        return float(one_sided_p(t, share, self.estimate.seeds, self.estimate.examples))

    def difference_p(self) -> float:
        """Return the two-sided p-value of the hypothesis that the true mean is zero."""
        return 2 * self.tail(abs(self.estimate.mean))

    def equivalence_p(self, margin: float) -> float:
        """Return the p-value of the hypothesis that the true mean is not within the margin.

        Of the two one-sided tests it is the one on the side of the mean.
        """
        return self.tail(margin - abs(self.estimate.mean))

    def floored_variance(self) -> Variance:
        """Return the variance for planning: a few seeds may agree by chance, but their variance is
        at least the residual one."""
        seeds = np.maximum(self.variance.seeds, self.variance.residual)
        return replace(self.variance, seeds=seeds)


def estimate_mean(scores: Scores) -> StudyEstimate:
    """Return the mean of a cell with its interval and its sd over seeds."""
    return measure_mean(scores).estimate


def compare_family(
    pairs: Sequence[tuple[Scores, Scores]],
    margins: Sequence[float | None] | None = None,
    pending_margins: Sequence[float | None] = (),
) -> list[CellComparison]:
    """Test each cell against the reference cell, and correct the p-values for the number of all
    comparisons that the study plans.

    Those without scores yet count as p = 1. So a verdict of a half-finished study is not withdrawn
    only because more comparisons are made.

    Args:
        pairs: (cell, reference cell), one for each cell and metric that the study compares. The
            two of a pair have the same seeds and the same examples, in the same order.
        margins: of each pair; None where the study states none.
        pending_margins: of each planned comparison that has no scores yet; None where the study
            states none.
    """
    if margins is None:
        margins = [None] * len(pairs)
    tests = []
    for cell, reference in pairs:
        # Other shapes might broadcast.
        assert cell.shape == reference.shape, f"{cell.shape} and {reference.shape} do not pair"
        tests.append(measure_mean(cell - reference))

    # Is the difference zero?
    p_values = [test.difference_p() for test in tests]
    corrected = _correct(p_values, pending=len(pending_margins))
    comparisons = []
    for test, p, corrected_p in zip(tests, p_values, corrected, strict=True):
        comparisons.append(
            CellComparison(
                difference=test.estimate,
                p=p,
                corrected_p=corrected_p,
                detectable=_detectable(test),
            )
        )

    # Is it smaller than the margin?
    stated = {number: margin for number, margin in enumerate(margins) if margin is not None}
    p_values = [tests[number].equivalence_p(margin) for number, margin in stated.items()]
    pending_stated = [margin for margin in pending_margins if margin is not None]
    corrected = _correct(p_values, pending=len(pending_stated))
    for number, p, corrected_p in zip(stated, p_values, corrected, strict=True):
        comparisons[number] = replace(
            comparisons[number],
            margin=stated[number],
            equivalence_p=p,
            corrected_equivalence_p=corrected_p,
        )

    # How many seeds would decide what is undecided?
    for number, comparison in enumerate(comparisons):
        if comparison.verdict == "undecided":
            seeds = seeds_to_decide(
                tests[number],
                margin=comparison.margin,
                level=SIGNIFICANCE / (len(pairs) + len(pending_margins)),
                equivalence_level=SIGNIFICANCE / max(1, len(stated) + len(pending_stated)),
            )
            comparisons[number] = replace(comparison, seeds_to_decide=seeds)
    return comparisons


def _correct(p_values: Sequence[float], *, pending: int) -> list[float]:
    """Return Holm's correction of a family to which a number of pending tests belongs."""
    return holm([*p_values, *[1.0] * pending])[: len(p_values)]


def measure_mean(values: Scores) -> MeanTest:
    """Return the mean of (seeds, examples) with its interval, for tests."""
    seeds, examples = values.shape
    assert examples > 1, f"{values.shape} has too few examples"
    assert np.isfinite(values).all(), "not all scores are numbers"

    mean = float(values.mean())
    sd = float(values.mean(axis=1).std(ddof=1)) if seeds > 1 else None
    variance = split_variance(values)
    error = float(variance.standard_error)
    half_width = critical_value(float(variance.seed_share), seeds, examples) * error
    estimate = StudyEstimate(
        mean=mean,
        low=mean - half_width,
        high=mean + half_width,
        sd=sd,
        seeds=seeds,
        examples=examples,
    )
    return MeanTest(estimate=estimate, variance=variance)


def _detectable(test: MeanTest) -> float:
    variance = test.floored_variance()
    estimate = test.estimate
    effect = detectable_effect(float(variance.seed_share), estimate.seeds, estimate.examples)
    return effect * float(variance.standard_error)


def seeds_to_decide(
    test: MeanTest, *, margin: float | None, level: float, equivalence_level: float
) -> int | None:
    """Return the number of seeds with which a comparison would probably be decided.

    It is the smallest number with which one of the two tests has a power of 80 %, if the true
    difference and variances are the observed ones. The variance of the examples does not shrink
    with more seeds, so that no number of seeds may be enough.

    Args:
        test: of the difference.
        margin: the smallest difference that matters, or None.
        level: of the test of the difference, two-sided, corrected for the family.
        equivalence_level: of the test of equivalence, corrected for the family.

    Returns:
        None if more than ``MAX_PLANNED_SEEDS`` would be needed, or if there is only one seed.
    """
    variance = test.floored_variance()
    seeds = test.estimate.seeds
    if seeds == 1:
        return None
    for planned_seeds in range(seeds + 1, MAX_PLANNED_SEEDS + 1):
        planned = replace(variance, seeds=variance.seeds * seeds / planned_seeds)
        power = _power(test, planned, planned_seeds, margin, level, equivalence_level)
        if power >= POWER:
            return planned_seeds
    return None


def _power(
    test: MeanTest,
    variance: Variance,
    seeds: int,
    margin: float | None,
    level: float,
    equivalence_level: float,
) -> float:
    """Return the power of the more powerful test, see ``seeds_to_decide``."""
    share = float(variance.seed_share)
    error = float(variance.standard_error)
    examples = test.estimate.examples
    difference = abs(test.estimate.mean)
    if not error:
        return 1.0

    critical = critical_value(share, seeds, examples, level)
    power = 1 - _miss_probability(difference / error, critical, share, seeds, examples)
    if margin is not None and margin > difference:
        # Both one-sided tests have to reject.
        critical = critical_value(share, seeds, examples, 2 * equivalence_level)
        near = _miss_probability((margin - difference) / error, critical, share, seeds, examples)
        far = _miss_probability((margin + difference) / error, critical, share, seeds, examples)
        power = max(power, 1 - near - far)
    return power


def split_variance(values: Numbers) -> Variance:
    """Return the variance of the mean of (..., seeds, examples), shaped (...)."""
    seeds, examples = values.shape[-2:]
    example_means = values.mean(axis=-2)
    example_variance = example_means.var(axis=-1, ddof=1) / examples
    if seeds == 1:
        zero = np.zeros(values.shape[:-2])
        return Variance(seeds=zero, examples=example_variance, residual=zero)

    # The residuals are what neither the seed nor the example explains.
    residuals = values - example_means[..., None, :]
    residuals -= residuals.mean(axis=-1, keepdims=True)
    degrees = (seeds - 1) * (examples - 1)
    squares = np.square(residuals).sum(axis=(-2, -1))
    residual_variance = squares / (degrees * seeds * examples)

    # The variance of the examples' means contains the residual one, which the seeds' has.
    seed_means = values.mean(axis=-1)
    return Variance(
        seeds=seed_means.var(axis=-1, ddof=1) / seeds,
        examples=np.maximum(0, example_variance - residual_variance),
        residual=residual_variance,
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
    return 2 * one_sided_p(t, seed_share, seeds, examples)


def one_sided_p(
    t: Numbers | float, seed_share: Numbers | float, seeds: int, examples: int
) -> Numbers:
    """Return the probability of a mean at least ``t`` standard errors above the true one."""
    seed_tail = stdtr(max(seeds - 1, 1), np.negative(t))
    example_tail = stdtr(examples - 1, np.negative(t))
    return _mix(seed_share, seed_tail, example_tail)


def critical_value(
    seed_share: float, seeds: int, examples: int, level: float = SIGNIFICANCE
) -> float:
    """Return the critical value of a two-sided test, in standard errors.

    At the default level it is the half width of a 95 % interval.
    """

    def excess(t: float) -> Numbers:
        return two_sided_p(t, seed_share, seeds, examples) - level

    # The distribution with fewer degrees of freedom bounds the mixture.
    fewest = max(min(seeds, examples) - 1, 1)
    upper = -1.01 * stdtrit(fewest, level / 2)
    return float(brentq(excess, 0, upper))


def detectable_effect(seed_share: float, seeds: int, examples: int) -> float:
    """Return the true effect, in standard errors, that is found with probability ``POWER``."""
    critical = critical_value(seed_share, seeds, examples)

    def excess(effect: float) -> float:
        return _miss_probability(effect, critical, seed_share, seeds, examples) - (1 - POWER)

    return float(brentq(excess, 0, 3 * critical))


def _miss_probability(
    effect: float, critical: float, seed_share: float, seeds: int, examples: int
) -> float:
    """Return the probability that a one-sided test does not find an effect.

    The noncentral t distributions of the two sources are weighted like the central ones.

    Args:
        effect: in standard errors.
        critical: critical value of the test, in standard errors.
        seed_share: the seeds' share of the variance.
        seeds: number of seeds.
        examples: number of examples.
    """
    seed_misses = nctdtr(max(seeds - 1, 1), effect, critical)
    example_misses = nctdtr(examples - 1, effect, critical)
    # SciPy returns NaN for some probabilities that are almost zero.
    return float(np.nan_to_num(_mix(seed_share, seed_misses, example_misses)))


def _mix(seed_share: Numbers | float, by_seeds: Numbers, by_examples: Numbers) -> Numbers:
    return seed_share * by_seeds + (1 - seed_share) * by_examples
