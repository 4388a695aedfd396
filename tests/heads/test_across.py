from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from headcount.heads.across import Quantity, compare_runs, sorted_importances
from headcount.heads.analysis import Analysis, analyse
from headcount.heads.findings import findings
from headcount.heads.roles import RoleScore
from tests.heads.test_analysis import make_evaluator

HELD = RoleScore(score=0.6, expected=0.1, p=0.0001, corrected_p=0.01)


def with_importances(analysis: Analysis, values: list[float]) -> Analysis:
    heads = [
        replace(result, normalized_importance=value)
        for result, value in zip(analysis.heads, values, strict=True)
    ]
    return replace(analysis, heads=heads)


def with_roles(analysis: Analysis, roles: dict[int, str]) -> Analysis:
    heads = [*analysis.heads]
    for number, role in roles.items():
        heads[number] = replace(heads[number], roles={role: HELD})
    return replace(analysis, heads=heads)


def with_gain(analysis: Analysis, order: str, gain: float) -> Analysis:
    """Return an analysis whose curves have a score of 20, those of an order more."""
    curves = []
    for curve in analysis.curves:
        score = 20.0 + (gain if curve.order == order else 0.0)
        points = [
            replace(point, score=score, difference=score - 20, p=1.0) for point in curve.points
        ]
        curves.append(replace(curve, points=points))
    return replace(analysis, curves=curves)


def named(quantities: list[Quantity], where: str, name: str) -> list[Quantity]:
    return [each for each in quantities if each.where == where and each.name == name]


def test_heads_are_compared_by_rank_and_not_by_index(roleless: Analysis) -> None:
    one = with_importances(roleless, [0.1, 0.9, 0.2, 0.8, 0.3, 0.7])
    other = with_importances(roleless, [0.9, 0.1, 0.8, 0.2, 0.7, 0.3])
    assert sorted_importances(one, "gradient")["encoder.0"].tolist() == [0.9, 0.1]
    compared = compare_runs({"a": one, "b": other})
    ranks = named(compared.importances, "cross.0", "gradient")
    assert [(rank.position, rank.values) for rank in ranks] == [(1, [0.7, 0.7]), (2, [0.3, 0.3])]
    assert {rank.name for rank in compared.importances} == {"gradient", "one_off", "confidence"}
    assert all(each.over_runs.sd == 0 for each in compared.importances)


def test_two_orders_of_a_run_are_compared_by_rank(roleless: Analysis) -> None:
    """The gradient's order is that of confidence in one run, and its reverse in the other."""
    ranks = np.array([result.confidence for result in roleless.heads]).argsort().argsort()
    alike = with_importances(roleless, ranks.tolist())
    reverse = with_importances(roleless, (-ranks).tolist())
    compared = compare_runs({"a": alike, "b": reverse})
    [agreement] = named(compared.agreements, "all", "gradient and confidence")
    assert agreement.values == pytest.approx([1.0, -1.0])
    assert len(compared.agreements) == 3


def test_spread_over_runs_is_that_of_the_t_distribution() -> None:
    values = [1.0, 2.0, 4.0]
    found = Quantity(where="all", name="x", values=values).over_runs
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.mean, found.sd, found.low, found.high) == pytest.approx(
        (7 / 3, np.std(values, ddof=1), low, high)
    )


def test_heads_with_a_role_are_counted_in_each_run(roleless: Analysis) -> None:
    one = with_roles(roleless, {4: "copying", 5: "copying"})
    other = with_roles(roleless, {5: "copying", 0: "previous"})
    compared = compare_runs({"a": one, "b": other})
    found = {(each.where, each.name): each.values for each in compared.roles}
    assert found == {("cross", "copying"): [2, 1], ("encoder", "previous"): [0, 1]}


def test_curves_of_every_scope_are_compared_with_random_orders(roleless: Analysis) -> None:
    runs = {name: with_gain(roleless, "gradient", gain) for name, gain in (("a", 3), ("b", 5))}
    compared = compare_runs(runs)
    for scope in ("all", "encoder", "decoder", "cross"):
        [area] = named(compared.areas, scope, "gradient")
        [other] = named(compared.areas, scope, "one_off")
        assert area.values == pytest.approx([3.0, 5.0]) and other.values == [0.0, 0.0]
        points = named(compared.curves, scope, "gradient")
        assert points[0].position == 1 and points[-1].position == 0
        assert all(point.values == [3.0, 5.0] for point in points)
    assert [(each.where, each.values) for each in compared.removable] == [
        (scope, [1.0, 1.0]) for scope in ("all", "encoder", "decoder", "cross")
    ]


def test_the_removable_share_of_a_run_is_that_of_its_own_findings(roleless: Analysis) -> None:
    """The order with the largest area loses at once here; another one goes all the way."""
    curves = []
    for curve in roleless.curves:
        points = [
            replace(point, score=20.0, difference=-1.0 if point.kept < curve.heads else 0.0, p=1.0)
            for point in curve.points
        ]
        if curve.order == "gradient":
            points = [replace(point, score=25.0, p=0.001) for point in points]
        curves.append(replace(curve, points=points))
    changed = replace(roleless, curves=curves)
    assert "Of all heads, 0% can be removed with no significant loss" in " ".join(
        findings(changed)
    )
    compared = compare_runs({"a": changed, "b": changed})
    assert [each.values for each in compared.removable] == [[0.0, 0.0]] * 4


def test_what_not_every_run_has_is_left_out(
    roleless: Analysis, small: Callable, tmp_path: Path
) -> None:
    """Blocks of other sizes, and learned gates."""
    folder = tmp_path / "other"
    folder.mkdir()
    more = analyse(make_evaluator(small, folder, "model.cross_heads=1"))
    gated = replace(more, heads=[replace(result, gate_score=1.0) for result in more.heads])
    compared = compare_runs({"a": roleless, "b": gated})
    assert {rank.where for rank in compared.importances} == {"encoder.0", "decoder.0"}
    assert "gates" not in {each.name for each in compared.areas}
    assert {each.where for each in compared.curves} == {"encoder", "decoder"}
