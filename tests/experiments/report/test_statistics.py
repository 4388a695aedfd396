from typing import Any

import numpy as np
import pytest
from scipy import stats

from headcount.evaluation.bootstrap import holm
from headcount.experiments.report.statistics import (
    CellComparison,
    Numbers,
    compare_family,
    detectable_effect,
    estimate_mean,
    measure_mean,
    one_sided_p,
    split_variance,
    two_sided_p,
)

EFFECT = 0.7


def compare(cell: Numbers, baseline: Numbers) -> CellComparison:
    [comparison] = compare_family([(cell, baseline)])
    return comparison


def check(comparison: CellComparison, test: Any) -> None:
    """Hold p and interval against a test of scipy."""
    low, high = test.confidence_interval(0.95)
    difference = comparison.difference
    assert (difference.low, difference.high) == pytest.approx((low, high))
    assert comparison.p == pytest.approx(test.pvalue)


def test_one_seed_is_the_paired_t_test() -> None:
    cell, baseline = np.random.default_rng(1).normal(20, 10, (2, 1, 40))
    comparison = compare(cell, baseline)
    check(comparison, stats.ttest_rel(cell[0], baseline[0]))
    assert comparison.difference.sd is None and comparison.difference.seeds == 1


def test_seeds_that_agree_are_the_paired_t_test_over_examples() -> None:
    """Three seeds of the same difference on each example tell no more than one."""
    draws = np.random.default_rng(2)
    baseline = draws.normal(20, 10, (3, 40))
    cell = baseline + draws.normal(1, 5, 40)
    check(compare(cell, baseline), stats.ttest_rel(cell.mean(axis=0), baseline.mean(axis=0)))


def test_examples_that_agree_are_the_t_test_over_seeds() -> None:
    draws = np.random.default_rng(3)
    baseline = draws.normal(20, 10, (4, 40))
    of_seeds = draws.normal(1, 0.5, (4, 1))
    comparison = compare(baseline + of_seeds, baseline)
    check(comparison, stats.ttest_1samp(of_seeds[:, 0], 0))
    assert comparison.difference.sd == pytest.approx(of_seeds.std(ddof=1))


def test_examples_without_an_effect_of_their_own_are_the_t_test_over_seeds() -> None:
    """What an example does in one seed only is in the means of the seeds already.

    Here MS_example < MS_rest.
    """
    baseline = np.zeros((3, 4))
    cell = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [9, 9, 9, 9]])
    cell[2] = 3 * cell[2] - cell[:2].sum(axis=0)  # all examples have the same mean
    check(compare(cell, baseline), stats.ttest_1samp(cell.mean(axis=1), 0))


def test_p_of_an_end_of_the_interval_is_five_percent() -> None:
    values = simulate(np.random.default_rng(4), 1, 3, 50, (0.4, 1, 4))[0, 0]
    comparison = compare(values, np.zeros_like(values))
    for end in (comparison.difference.low, comparison.difference.high):
        assert compare(values, np.full_like(values, end)).p == pytest.approx(0.05)


def test_a_cell_is_its_mean_over_seeds_and_examples() -> None:
    draws = np.random.default_rng(5)
    values = draws.normal(20, 10, 40) + draws.normal(0, 1, (3, 1)) + draws.normal(0, 5, (3, 40))
    cell = estimate_mean(values)
    assert cell.mean == pytest.approx(values.mean()) and cell.sd == pytest.approx(
        values.mean(axis=1).std(ddof=1)
    )
    assert (cell.seeds, cell.examples) == (3, 40)
    for of_source in (
        values.mean(axis=0),
        values.mean(axis=1),
    ):  # wider than either source alone would have it
        assert cell.high - cell.mean > 1.96 * stats.sem(of_source)
    assert cell.high - cell.mean == pytest.approx(cell.mean - cell.low)


def test_the_family_is_corrected_together() -> None:
    draws = np.random.default_rng(6)
    baseline = draws.normal(20, 10, (3, 30))
    family = compare_family(
        [(baseline + draws.normal(shift, 4, (3, 30)), baseline) for shift in (0, 1, 2, 3)]
    )
    assert [one.corrected_p for one in family] == holm([one.p for one in family])
    assert any(one.corrected_p > one.p for one in family)


def test_equivalence_is_two_one_sided_t_tests() -> None:
    """Over seeds, where examples have no effect of their own (Schuirmann 1987)."""
    of_seeds = np.random.default_rng(13).normal(0.2, 0.3, 6)
    values = of_seeds[:, None] + np.zeros((6, 40))
    [comparison] = compare_family([(values, np.zeros_like(values))], [0.7])
    above = stats.ttest_1samp(of_seeds, -0.7, alternative="greater").pvalue
    below = stats.ttest_1samp(of_seeds, 0.7, alternative="less").pvalue
    assert comparison.equivalence_p == pytest.approx(max(above, below), rel=1e-6)


def test_a_mean_outside_of_the_margin_is_never_equal() -> None:
    values = np.random.default_rng(14).normal(2, 0.1, (5, 40))
    [comparison] = compare_family([(values, np.zeros_like(values))], [1.5])
    assert comparison.equivalence_p is not None and comparison.equivalence_p > 0.5
    assert comparison.verdict == "better"


def test_equivalence_has_a_correction_of_its_own() -> None:
    """It counts the comparisons with a margin, not those of differences."""
    draws = np.random.default_rng(15)
    reference = draws.normal(20, 10, (3, 30))
    pairs = [(reference + draws.normal(0, 1, (3, 30)), reference) for _ in range(4)]
    family = compare_family(pairs, [0.5, None, 0.5, None])
    assert family[1].margin is None and family[1].corrected_equivalence_p is None
    p_values = [family[0].equivalence_p, family[2].equivalence_p]
    corrected = [family[0].corrected_equivalence_p, family[2].corrected_equivalence_p]
    assert corrected == holm([p for p in p_values if p is not None])
    assert [one.corrected_p for one in family] == holm([one.p for one in family])


def test_equal_scores_are_equal_within_every_margin() -> None:
    values = np.random.default_rng(16).normal(20, 10, (3, 30))
    [comparison] = compare_family([(values, values)], [0.01])
    assert comparison.verdict == "equal within the margin" and comparison.equivalence_p == 0


@pytest.mark.parametrize(("true_effect", "margin"), [(0.0, 0.4), (0.9, 0.9)])
def test_the_seeds_that_would_decide_do_so_four_times_of_five(
    true_effect: float, margin: float
) -> None:
    """With as many seeds the more powerful test finds the observed effect; with fewer it does not."""
    seeds, examples, sds = 3, 50, (0.4, 0.5, 3.0)
    values = simulate(np.random.default_rng(17), 1, seeds, examples, sds)[0, 0]
    values += true_effect - values.mean()
    [comparison] = compare_family([(values, np.zeros_like(values))], [margin])
    more = comparison.seeds_to_decide
    assert comparison.verdict == "undecided" and more is not None and more > seeds

    # Repetitions with the variances that were observed.
    variance = measure_mean(values).floored_variance()
    example_sd = np.sqrt(float(variance.examples) * examples)
    seed_sd = np.sqrt(float(variance.seeds) * seeds)
    power = {}
    for number in (more - 1, more):
        draws = np.random.default_rng(18)
        many = simulate(draws, FAMILIES, number, examples, (seed_sd, example_sd, 0.0))
        different = find_p(many + true_effect, 0) < 0.05
        equal = find_equivalence_p(many + true_effect, margin) < 0.05
        power[number] = max(different.mean(), equal.mean())
    assert power[more - 1] < 0.82 and power[more] > 0.78


def test_where_examples_limit_a_study_no_number_of_seeds_decides() -> None:
    draws = np.random.default_rng(19)
    values = draws.normal(0, 10, 50) + draws.normal(0, 0.1, (3, 50))
    values += 0.5 - values.mean()
    [comparison] = compare_family([(values, np.zeros_like(values))], [0.6])
    assert comparison.verdict == "undecided" and comparison.seeds_to_decide is None


def test_one_seed_plans_no_others() -> None:
    """It says nothing about how seeds vary."""
    draws = np.random.default_rng(20)
    [comparison] = compare_family([(draws.normal(0, 10, (1, 50)), np.zeros((1, 50)))])
    assert comparison.verdict == "undecided"
    assert comparison.seeds_to_decide is None and comparison.planned_seeds == ""


def test_a_cell_does_not_differ_from_itself() -> None:
    values = np.random.default_rng(7).normal(20, 10, (3, 30))
    comparison = compare(values, values)
    difference = comparison.difference
    assert (
        difference.low,
        difference.mean,
        difference.high,
        comparison.p,
        comparison.detectable,
    ) == (0, 0, 0, 1, 0)


def test_cells_that_do_not_pair_are_refused() -> None:
    with pytest.raises(AssertionError, match="do not pair"):
        compare(np.zeros((3, 30)), np.zeros((1, 30)))


@pytest.mark.parametrize("seeds, examples", [(1, 34), (4, 2000)])
def test_detectable_effect_is_that_of_the_noncentral_t(seeds: int, examples: int) -> None:
    """The power of a t-test over examples, or over seeds where examples add nothing, is known."""
    values = np.random.default_rng(8).normal(
        0, 1, (seeds, 1 if seeds > 1 else examples)
    ) + np.zeros((seeds, examples))
    of_source = values[:, 0] if seeds > 1 else values[0]
    noncentrality = compare(values, np.zeros_like(values)).detectable / stats.sem(of_source)
    number = len(of_source) - 1
    power = stats.nct.sf(stats.t.isf(0.025, number), number, noncentrality)
    assert power == pytest.approx(0.8, abs=1e-4)


# The sd of seeds, examples and rest. 50 examples stand for 1,000: their sds are divided by the
# root of 20.
REGIMES = {
    "realistic": (0.3, 3 / 20**0.5, 8.5 / 20**0.5),
    "seeds dominate": (2, 3 / 20**0.5, 8.5 / 20**0.5),
    "examples dominate": (0.1, 8 / 20**0.5, 4 / 20**0.5),
    "no seed variance": (0, 3 / 20**0.5, 8.5 / 20**0.5),
}
FAMILIES = 1000


def test_seeds_that_agree_by_chance_promise_no_more_than_the_rest_allows() -> None:
    values = np.random.default_rng(12).normal(0, 8, (3, 400))
    agreeing = values - values.mean(axis=1, keepdims=True)
    floor = detectable_effect(1, 3, 400) * 8 / np.sqrt(3 * 400)
    assert compare(agreeing, np.zeros_like(values)).detectable == pytest.approx(floor, rel=0.1)


@pytest.mark.parametrize("seeds", [3, 5])
def test_coverage_and_family_wise_error(seeds: int) -> None:
    """An interval misses the effect exactly where its p is below 5 %.

    Two standard errors of a rate are for chance.
    """
    rates = []
    for number, sds in enumerate(REGIMES.values()):
        values = simulate(np.random.default_rng([seeds, number]), FAMILIES, seeds, 50, sds)
        assert 0.93 < (find_p(values + EFFECT, EFFECT) >= 0.05).mean() < 0.97
        rates.append(np.mean([min(holm(family)) < 0.05 for family in find_p(values, 0).tolist()]))
    assert np.mean(rates) <= 0.05 and max(rates) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / FAMILIES)


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_equivalence_is_claimed_in_error_in_one_family_of_twenty(seeds: int) -> None:
    """All four true differences are at the margin: every claim is wrong.

    Two standard errors of a rate are for chance. Where there is no difference, claims are made.
    """
    rates = []
    margin = 1.5
    for number, sds in enumerate(REGIMES.values()):
        values = simulate(np.random.default_rng([20, seeds, number]), FAMILIES, seeds, 50, sds)
        p = find_equivalence_p(values + margin, margin)
        rates.append(np.mean([min(holm(family)) < 0.05 for family in p.tolist()]))
    assert max(rates) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / FAMILIES)

    realistic = simulate(
        np.random.default_rng([21, seeds]), FAMILIES, seeds, 50, REGIMES["realistic"]
    )
    claimed = find_equivalence_p(realistic, margin) < 0.05
    assert claimed.mean() > {3: 0.6, 5: 0.9, 8: 0.97}[seeds]


@pytest.mark.parametrize("regime", ["realistic", "seeds dominate"])
def test_the_detectable_effect_is_found_four_times_of_five(regime: str) -> None:
    seeds, examples, (seed_sd, example_sd, rest_sd) = 5, 50, REGIMES[regime]
    seed_variance = seed_sd**2 / seeds + rest_sd**2 / (seeds * examples)
    variance = seed_variance + example_sd**2 / examples
    effect = detectable_effect(seed_variance / variance, seeds, examples) * np.sqrt(variance)
    values = simulate(np.random.default_rng(10), FAMILIES, seeds, examples, REGIMES[regime])
    assert (find_p(values + effect, 0) < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def simulate(
    draws: np.random.Generator,
    families: int,
    seeds: int,
    examples: int,
    sds: tuple[float, float, float],
) -> Numbers:
    """Return differences of four cells from one baseline, (families, 4, seeds, examples)."""
    shapes = [(families, 5, seeds, 1), (families, 5, 1, examples), (families, 5, seeds, examples)]
    cells = sum(
        draws.normal(0, sd / np.sqrt(2), shape) for sd, shape in zip(sds, shapes, strict=True)
    )
    return cells[:, 1:] - cells[:, :1]


def find_p(values: Numbers, effect: float) -> Numbers:
    """Return the p of each mean against an effect, as ``compare_family`` does for one."""
    variance = split_variance(values)
    t = np.abs(values.mean(axis=(-2, -1)) - effect) / variance.standard_error
    return two_sided_p(t, variance.seed_share, *values.shape[-2:])


def find_equivalence_p(values: Numbers, margin: float) -> Numbers:
    """Return the p of two one-sided tests of each mean, as ``compare_family`` does for one."""
    variance = split_variance(values)
    t = (margin - np.abs(values.mean(axis=(-2, -1)))) / variance.standard_error
    return one_sided_p(t, variance.seed_share, *values.shape[-2:])
