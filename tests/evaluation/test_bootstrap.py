import numpy as np
import pytest

from headcount.evaluation.bootstrap import differences, holm, intervals, resampled_means


def test_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(50, 10, (400, 2))
    for column, figure in enumerate(intervals(values)):
        assert figure is not None and figure.mean == pytest.approx(values[:, column].mean())
        half = 1.96 * values[:, column].std() / np.sqrt(400)
        assert figure.mean - figure.low == pytest.approx(half, rel=0.15)
        assert figure.high - figure.mean == pytest.approx(half, rel=0.15)


@pytest.mark.parametrize("block", [1, 100, 2**15])
def test_resampling_is_the_plain_one_and_the_same_each_time(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many resamples are drawn in one call."""
    monkeypatch.setattr("headcount.evaluation.bootstrap.BLOCK", block)
    values = np.random.default_rng(2).random((30, 1))
    draws = np.random.default_rng(0)
    plain = [values[draws.integers(0, 30, 30)].mean() for _ in range(50)]
    assert resampled_means(values, 50)[:, 0] == pytest.approx(plain)


def test_examples_without_a_figure_are_left_out() -> None:
    values = np.random.default_rng(3).random((50, 3))
    values[::2, 1], values[:, 2] = np.nan, np.nan
    whole, half, none = intervals(values)
    assert none is None and whole is not None and half is not None
    assert half.mean == pytest.approx(values[1::2, 1].mean())
    assert half.high - half.low > whole.high - whole.low


def test_differences_are_paired() -> None:
    """A small gain on every example is sure, although the examples themselves differ a hundred
    times as much."""
    draws = np.random.default_rng(4)
    easy = draws.normal(50, 20, (300, 1))
    [gain] = differences(easy + draws.normal(0.5, 1, (300, 1)), easy, 2000)
    assert 0 < gain.low < gain.mean < gain.high and gain.p == 1 / 2001
    [none] = differences(easy + draws.normal(0, 1, (300, 1)), easy, 2000)
    assert none.low < 0 < none.high and none.p > 0.05
    [same] = differences(easy, easy, 2000)
    assert (same.mean, same.p) == (0, 1)


@pytest.mark.filterwarnings("error")
def test_differences_without_a_value_are_left_out() -> None:
    """Two examples of 50 have the second metric in both systems, none has the third: a quarter of
    the resamples have neither of the two, and prove nothing."""
    draws = np.random.default_rng(8)
    values = draws.normal(1, 1, (50, 3))
    others = np.zeros((50, 3))
    values[2:26, 1] = others[26:, 1] = np.nan
    values[:, 2] = np.nan
    _, two, none = differences(values, others, 1000)
    resampled = resampled_means(values[:, 1:2] - others[:, 1:2], 1000)[:, 0]
    known = resampled[np.isfinite(resampled)]
    assert two.mean == pytest.approx(values[:2, 1].mean()) and 100 < len(known) < 900
    extreme = (np.abs(known - two.mean) >= abs(two.mean)).sum()
    assert two.p == pytest.approx((1 + extreme) / (1 + len(known)))
    assert np.isnan([none.mean, none.low, none.high]).all() and none.p == 1


def test_p_is_uniform_where_there_is_no_difference() -> None:
    draws = np.random.default_rng(5)
    p = [
        test.p for test in differences(draws.normal(0, 1, (100, 300)), np.zeros((100, 300)), 1000)
    ]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03) and np.mean(
        p
    ) == pytest.approx(0.5, abs=0.05)


def test_p_agrees_with_the_t_test_where_it_must() -> None:
    """Mean 0.2, deviation 1, 100 examples.

    T is 2, p by Student's t with 99 degrees of freedom is 0.0482.
    """
    values = np.random.default_rng(6).normal(0, 1, (100, 1))
    values = (values - values.mean()) / values.std(ddof=1) + 0.2
    [test] = differences(values, np.zeros((100, 1)), 20_000)
    assert test.p == pytest.approx(0.0482, abs=0.01)


def test_holm_by_hand() -> None:
    """Holm 1979.

    The smallest times 4, the next times 3, ...; never less than one before, never above 1.
    """
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
