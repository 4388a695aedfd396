from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from headcount.heads.across import (
    across_findings,
    across_markdown,
    compare_runs,
    draw_profiles,
    sorted_importances,
    spread,
)
from headcount.heads.analysis import Analysis, analyse
from headcount.heads.roles import RoleScore
from tests.heads.test_analysis import make_evaluator

HELD = RoleScore(score=0.6, expected=0.1, p=0.0001, corrected_p=0.01)


@pytest.fixture
def analysis(small: Callable, tmp_path: Path) -> Analysis:
    found = analyse(make_evaluator(small, tmp_path))
    return replace(found, heads=[replace(result, roles={}) for result in found.heads])


def with_importances(analysis: Analysis, values: list[float]) -> Analysis:
    heads = [
        replace(result, normalized_importance=value)
        for result, value in zip(analysis.heads, values, strict=True)
    ]
    return replace(analysis, heads=heads)


def test_heads_are_compared_by_rank_and_not_by_index(analysis: Analysis) -> None:
    one = with_importances(analysis, [0.1, 0.9, 0.2, 0.8, 0.3, 0.7])
    other = with_importances(analysis, [0.9, 0.1, 0.8, 0.2, 0.7, 0.3])
    assert sorted_importances(one)["encoder.0"].tolist() == [0.9, 0.1]
    compared = compare_runs({"a": one, "b": other})
    for block, ranks in compared.importances.items():
        assert [rank.sd for rank in ranks] == [0.0, 0.0], block
    assert [rank.mean for rank in compared.importances["cross.0"]] == [0.7, 0.3]


def test_spread_over_runs_is_that_of_the_t_distribution() -> None:
    values = [1.0, 2.0, 4.0]
    found = spread(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.mean, found.sd, found.low, found.high) == pytest.approx(
        (7 / 3, np.std(values, ddof=1), low, high)
    )


def test_roles_that_every_run_has_are_told_from_others(analysis: Analysis) -> None:
    heads = [*analysis.heads]
    heads[-1] = replace(heads[-1], roles={"copying": HELD})
    copying = replace(analysis, heads=heads)
    heads = [*heads]
    heads[0] = replace(heads[0], roles={"previous": HELD})
    both = replace(analysis, heads=heads)
    compared = compare_runs({"a": copying, "b": both})
    said = " ".join(across_findings(compared))
    assert "in every run: copying (cross)" in said
    assert "in some runs only: previous (encoder)" in said
    assert compared.roles["encoder", "previous"].mean == 0.5
    table = across_markdown(compared)
    assert "| cross | copying | 1.0 ± 0.0 | yes |" in table
    assert "No run has a head" in " ".join(across_findings(compare_runs({"a": analysis})))


def test_orders_must_beat_random_in_each_run(analysis: Analysis) -> None:
    def better(gain: float) -> Analysis:
        curves = []
        for curve in analysis.curves:
            score = 20.0 + (gain if curve.order == "gradient" else 0.0)
            points = [replace(point, score=score) for point in curve.points]
            curves.append(replace(curve, points=points))
        return replace(analysis, curves=curves)

    compared = compare_runs({"a": better(3.0), "b": better(3.1), "c": better(2.9)})
    assert compared.areas["gradient"].mean == pytest.approx(3.0)
    assert "than random ones across runs: gradient importance." in " ".join(
        across_findings(compared)
    )
    mixed = compare_runs({"a": better(3.0), "b": better(-3.0)})
    assert "No order keeps significantly more" in " ".join(across_findings(mixed))


def test_the_picture_has_a_panel_for_each_block(analysis: Analysis) -> None:
    figure = draw_profiles(compare_runs({"a": analysis, "b": analysis}))
    titles = [panel.get_title(loc="left") for panel in figure.axes if panel.has_data()]
    assert titles == ["encoder.0", "decoder.0", "cross.0"]
