"""The sequential rule: its levels against published ones, and its error rate by simulation."""

import numpy as np
import pytest

from headcount.experiments.report.sequential import (
    nominal_levels,
    plan_looks,
    reject,
    spent_error_rate,
)
from headcount.experiments.report.statistics import one_sided_p, split_variance, two_sided_p
from tests.experiments.report.test_statistics import REGIMES, simulate

LOOKS = (3, 5, 8)
FAMILIES = 400


def test_looks_are_planned() -> None:
    assert plan_looks(3) == (3, 5, 8) and plan_looks(5) == (5, 8)
    assert plan_looks(8) == (8,) and plan_looks(10) == (10,)


def test_all_of_the_error_rate_is_spent_at_the_end() -> None:
    assert spent_error_rate(0.05, 1) == pytest.approx(0.05) and spent_error_rate(0.05, 0) == 0
    assert spent_error_rate(0.05, 0.375) == pytest.approx(0.05 * np.log(1 + (np.e - 1) * 0.375))


def test_one_look_is_a_test_of_a_fixed_design() -> None:
    assert nominal_levels(0.05, (8,)) == pytest.approx((0.05,), rel=1e-6)


def test_levels_are_those_of_equally_spaced_looks() -> None:
    """Pocock's boundary of five looks is 2.413 (Jennison and Turnbull 2000, table 2.1), which the
    spending function of Lan and DeMets approximates: 2.438, 2.427, 2.410, 2.397, 2.386 (their
    table 7.1, by the same function)."""
    from scipy.special import ndtri

    levels = nominal_levels(0.05, (1, 2, 3, 4, 5))
    boundaries = [-ndtri(level / 2) for level in levels]
    assert boundaries == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=2e-3)


def test_paths_of_a_random_walk_cross_at_five_percent() -> None:
    """A Brownian motion that is looked at after 3, 5 and 8 steps."""
    draws = np.random.default_rng(0).normal(size=(200_000, 8)).cumsum(axis=1)
    scores = np.stack([draws[:, seeds - 1] / seeds**0.5 for seeds in LOOKS], axis=1)
    from scipy.special import ndtr

    p = 2 * ndtr(-np.abs(scores))
    crossed = (p < np.array(nominal_levels(0.05, LOOKS))).any(axis=1)
    assert crossed.mean() == pytest.approx(0.05, abs=0.0015)


def test_hypotheses_are_rejected_step_by_step() -> None:
    [first, *_] = nominal_levels(0.05 / 2, LOOKS)
    [second, *_] = nominal_levels(0.05, LOOKS)
    just = {"a": first * 0.99, "b": second * 0.99}
    assert reject(just, open_hypotheses=2, look=0, looks=LOOKS) == {"a", "b"}
    assert reject({"b": second * 0.99}, open_hypotheses=2, look=0, looks=LOOKS) == set()
    assert reject({"b": second * 0.99}, open_hypotheses=1, look=0, looks=LOOKS) == {"b"}


@pytest.mark.parametrize("question", ["difference", "equivalence"])
def test_claims_are_wrong_in_at_most_one_family_of_twenty(question: str) -> None:
    """Over all three looks; two standard errors of a rate are for chance."""
    rates = []
    margin = 1.2
    for number, sds in enumerate(REGIMES.values()):
        values = simulate(np.random.default_rng([22, number]), FAMILIES, 8, 50, sds)
        wrong = np.zeros(FAMILIES, dtype=bool)
        for look, seeds in enumerate(LOOKS):
            p = p_values(values[:, :, :seeds], question, margin)
            for family in range(FAMILIES):
                found = reject(
                    dict(enumerate(p[family].tolist())), open_hypotheses=4, look=look, looks=LOOKS
                )
                wrong[family] |= bool(found)
        rates.append(wrong.mean())
    assert np.mean(rates) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / FAMILIES / len(REGIMES))
    assert max(rates) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / FAMILIES)


def p_values(values: np.ndarray, question: str, margin: float) -> np.ndarray:
    """Return the p of a wrong claim: of a difference of zero, or at the margin."""
    variance = split_variance(values)
    means = np.abs(values.mean(axis=(-2, -1)) + (margin if question == "equivalence" else 0))
    shape = values.shape[-2:]
    if question == "difference":
        return two_sided_p(means / variance.standard_error, variance.seed_share, *shape)
    return one_sided_p((margin - means) / variance.standard_error, variance.seed_share, *shape)
