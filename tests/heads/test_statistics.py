import numpy as np
import pytest
from scipy import stats

from headcount.heads.statistics import difference_family, p_above_margin, sign_flip_p, t_interval


def test_sign_flips_equal_the_exact_test() -> None:
    """Of eight differences all 256 sign patterns can be counted."""
    differences = np.array([0.5, 1.0, -0.2, 2.0, 0.7, 1.1, -0.1, 0.9])
    patterns = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    sums = patterns @ differences
    two_sided = (np.abs(sums) >= abs(differences.sum()) - 1e-12).mean()
    one_sided = (sums >= differences.sum() - 1e-12).mean()
    assert sign_flip_p([differences])[0] == pytest.approx(two_sided, abs=0.005)
    assert sign_flip_p([differences], one_sided=True)[0] == pytest.approx(one_sided, abs=0.005)


def test_no_difference_is_no_evidence() -> None:
    assert sign_flip_p([np.zeros(20), np.full(20, np.nan)]) == [1.0, 1.0]
    assert sign_flip_p([]) == []


def test_gates_that_do_nothing_are_rarely_significant() -> None:
    """Families of 36 heads on 60 documents, with differences as ROUGE has them: mostly zero, some
    large. At most 5 % of families may have a significant head."""
    generator = np.random.default_rng(3)
    wrong = 0
    families = 120
    for _ in range(families):
        sizes = generator.exponential(8, (36, 60)) * generator.choice([-1, 1], (36, 60))
        differences = sizes * (generator.random((36, 60)) < 0.3)
        tested = difference_family(list(differences))
        wrong += any(test.corrected_p < 0.05 for test in tested)
    assert stats.binom.cdf(wrong - 1, families, 0.05) < 0.99


def test_a_head_that_matters_is_found_among_many() -> None:
    generator = np.random.default_rng(0)
    family = [generator.normal(0, 5, 100) for _ in range(200)]
    family[17] = generator.normal(-5, 5, 100)
    tested = difference_family(family)
    assert [n for n, test in enumerate(tested) if test.corrected_p < 0.05] == [17]


def test_intervals_are_those_of_the_t_distribution() -> None:
    values = np.array([1.0, 2.0, 4.0, np.nan])
    mean, low, high = t_interval(values)
    expected = stats.t.interval(0.95, 2, values[:3].mean(), stats.sem(values[:3]))
    assert (mean, low, high) == pytest.approx((7 / 3, *expected))
    assert all(np.isnan(t_interval(np.array([np.nan]))))


def test_margin_test_is_the_one_sided_t_test() -> None:
    values = np.random.default_rng(1).normal(-0.1, 1.0, 50)
    expected = stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
    assert p_above_margin(values, 0.5) == pytest.approx(expected)
    assert p_above_margin(np.zeros(5), 0.5) == 0.0
    assert p_above_margin(np.full(5, -1.0), 0.5) == 1.0
