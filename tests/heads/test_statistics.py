import numpy as np
import pytest
from scipy import stats

from headcount.heads.statistics import (
    INTERVAL_SIZE,
    MARGIN_SIZE,
    TEST_SIZE,
    difference_family,
    mean_interval,
    mean_p,
    p_above_margin,
    sign_flip_p,
    skewed_mean_p,
    t_interval,
    t_p,
)


def skewed_differences(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Return differences with a mean of zero: frequent small gains, rare large losses, and seven
    documents of ten that do not change."""
    generator = np.random.default_rng(seed)
    return (8 - generator.exponential(8, shape)) * (generator.random(shape) < 0.3)


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
    nothing = [np.zeros(20), np.full(20, np.nan), np.array([1.0, -1.0] * 10)]
    assert sign_flip_p(nothing) == mean_p(nothing) == [1.0, 1.0, 1.0]
    assert sign_flip_p([]) == mean_p([]) == []


def test_the_test_of_skewed_differences_is_that_of_hall() -> None:
    """Hall (1992), as the sum of powers of the t statistic, with a made-up document."""
    values = np.random.default_rng(2).exponential(1.0, 30) + 0.2
    sample = np.append(values, -TEST_SIZE * values.max())
    number = len(sample)
    t = np.sqrt(number) * sample.mean() / sample.std()
    skewness = stats.skew(sample)
    corrected = t + skewness * (2 * t**2 + 1) / (6 * np.sqrt(number))
    corrected += skewness**2 * t**3 / (27 * number)
    expected = 2 * stats.t.sf(corrected, number - 1)
    assert skewed_mean_p(values) == pytest.approx(expected)

    # Neither documents that did not change nor the sign of the mean matter.
    padded = np.concatenate([values, np.zeros(70), [np.nan]])
    assert skewed_mean_p(padded) == skewed_mean_p(values)
    assert skewed_mean_p(-values) == pytest.approx(expected)
    assert mean_p([values]) == [max(sign_flip_p([values])[0], expected)]


def test_one_changed_document_is_no_evidence() -> None:
    for others in ([], [0.0] * 50):
        assert skewed_mean_p(np.array([*others, 5.0])) > 0.05
    assert skewed_mean_p(np.array([5.0] * 3)) > 0.05


@pytest.mark.parametrize("kind", ["symmetric", "skewed"])
def test_gates_that_do_nothing_are_rarely_significant(kind: str) -> None:
    """Families of 36 heads on 100 documents, with differences as ROUGE has them: mostly zero, some
    large. At most 5 % of families may have a significant head."""
    families = 100
    wrong = 0
    wrong_by_flips = 0
    for seed in range(families):
        differences = skewed_differences((36, 100), seed)
        if kind == "symmetric":
            differences *= np.random.default_rng(seed).choice([-1, 1], differences.shape)
        tested = difference_family(list(differences))
        wrong += any(test.corrected_p < 0.05 for test in tested)
        wrong_by_flips += min(sign_flip_p(list(differences))) < 0.05 / 36
    assert stats.binom.cdf(wrong - 1, families, 0.05) < 0.99
    if kind == "skewed":
        assert wrong_by_flips > 15  # for which the other test is there


def test_a_head_that_matters_is_found_among_many() -> None:
    generator = np.random.default_rng(0)
    family = [generator.normal(0, 5, 100) for _ in range(200)]
    family[17] = generator.normal(-5, 5, 100)
    tested = difference_family(family)
    assert [n for n, test in enumerate(tested) if test.corrected_p < 0.05] == [17]


def test_t_intervals_are_those_of_the_t_distribution() -> None:
    values = np.array([1.0, 2.0, 4.0, np.nan])
    mean, low, high = t_interval(values)
    expected = stats.t.interval(0.95, 2, values[:3].mean(), stats.sem(values[:3]))
    assert (mean, low, high) == pytest.approx((7 / 3, *expected))
    for interval in (t_interval, mean_interval):
        assert all(np.isnan(interval(np.array([np.nan]))))
        assert interval(np.array([2.0]))[0] == 2.0 and np.isnan(interval(np.array([2.0]))[1])


def test_the_p_value_of_a_mean_over_runs_is_that_of_the_t_test() -> None:
    values = np.array([1.0, 2.0, 4.0])
    expected = stats.ttest_1samp(values, 0).pvalue
    assert t_p(values) == pytest.approx(expected)
    assert t_p(-values) == pytest.approx(expected)
    assert t_p(np.full(3, 2.0)) == 0.0 and t_p(np.zeros(3)) == 1.0
    assert t_p(np.array([2.0])) == 1.0  # one run proves nothing about others


def test_intervals_of_differences_have_a_made_up_gain_and_loss() -> None:
    values = np.array([1.0, 2.0, -4.0, 0.0, np.nan])
    largest = INTERVAL_SIZE * 4
    sample = np.array([1.0, 2.0, -4.0, 0.0, largest, -largest])
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(-0.25)
    assert (low, high) == pytest.approx(
        stats.t.interval(0.95, 5, sample.mean(), stats.sem(sample))
    )
    assert mean_interval(np.zeros(5)) == (0.0, 0.0, 0.0)


def test_intervals_hold_the_mean_of_skewed_differences() -> None:
    samples = skewed_differences((2000, 100), 0)
    held = {t_interval: 0, mean_interval: 0}
    for interval in held:
        for values in samples:
            _, low, high = interval(values)
            held[interval] += low <= 0 <= high
    assert held[t_interval] < 0.94 * len(samples) < 0.95 * len(samples) <= held[mean_interval]


def test_margin_test_is_the_one_sided_t_test_with_a_made_up_loss() -> None:
    values = np.random.default_rng(1).normal(-0.1, 1.0, 50)
    sample = np.append(values, -MARGIN_SIZE * np.abs(values).max())
    expected = stats.ttest_1samp(sample, -0.5, alternative="greater").pvalue
    assert p_above_margin(values, 0.5) == pytest.approx(expected)
    assert p_above_margin(np.zeros(5), 0.5) == 0.0
    assert p_above_margin(np.full(5, -1.0), 0.5) > 0.99
    assert p_above_margin(np.array([0.0]), 0.5) == 1.0
