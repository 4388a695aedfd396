import numpy as np
import pytest

from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.heads.blocks import Head
from headcount.heads.curve import (
    Curve,
    CurvePoint,
    curve_point,
    kept_counts,
    order_heads,
    random_order,
)
from headcount.heads.measure import Measurement


def point(kept: int, score: float, *, p: float = 1.0, p_margin: float = 1.0) -> CurvePoint:
    return CurvePoint(
        kept=kept,
        loss=1.0,
        score=score,
        difference=score - 20.0,
        low=0.0,
        high=0.0,
        p=p,
        p_margin=p_margin,
    )


def test_points_go_from_all_heads_to_none() -> None:
    assert kept_counts(36, 7) == [36, 30, 24, 18, 12, 6, 0]
    assert kept_counts(4, 9) == [4, 3, 2, 1, 0]
    assert kept_counts(1, 7) == [1, 0]


def test_area_of_a_straight_line_is_its_middle() -> None:
    curve = Curve(
        scope="all", order="x", heads=4, points=[point(4, 20), point(2, 15), point(0, 10)]
    )
    assert curve.area == pytest.approx(15.0)


def test_the_first_significant_loss_ends_the_sequence() -> None:
    points = [
        point(8, 20),
        point(6, 19, p=0.2),
        point(4, 18, p=0.01),
        point(2, 17, p=0.3),
        point(0, 0, p=0.001),
    ]
    curve = Curve(scope="all", order="x", heads=8, points=points)
    assert curve.removable_without_difference() == pytest.approx(0.25)
    better = [point(8, 20), point(4, 25, p=0.001), point(0, 0, p=0.001)]
    gain = Curve(scope="all", order="x", heads=8, points=better)
    assert gain.removable_without_difference() == pytest.approx(0.5)  # a gain is no loss


def test_the_margin_must_be_proven_at_every_step() -> None:
    points = [
        point(8, 20),
        point(6, 19.9, p_margin=0.01),
        point(4, 19, p_margin=0.4),
        point(2, 20, p_margin=0.001),
    ]
    curve = Curve(scope="all", order="x", heads=8, points=points)
    assert curve.removable_within_margin(orders=1) == pytest.approx(0.25)


def test_the_margin_is_corrected_for_the_choice_among_orders() -> None:
    points = [
        point(8, 20),
        point(6, 19.9, p_margin=0.01),
        point(4, 19.8, p_margin=0.02),
        point(2, 19.7, p_margin=0.04),
    ]
    curve = Curve(scope="all", order="x", heads=8, points=points)
    removable = [curve.removable_within_margin(orders=orders) for orders in (1, 2, 3, 10)]
    assert removable == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_orders_begin_with_the_least_important_head() -> None:
    heads = [Head(site="cross", layer=0, index=index) for index in range(4)]
    order = order_heads(dict(zip(heads, [0.3, 0.1, 0.3, 0.2], strict=True)))
    assert [head.index for head in order] == [1, 3, 0, 2]
    assert random_order(heads, 1) == random_order(heads, 1)
    assert {tuple(random_order(heads, seed)) for seed in range(20)} != {tuple(heads)}


def test_a_point_is_compared_document_by_document() -> None:
    scores = np.tile(np.arange(20.0)[:, None], (1, len(ROUGE_TYPES)))
    complete = Measurement(losses=np.ones(20), scores=scores)
    fewer = Measurement(losses=np.full(20, 2.0), scores=scores - 1.0)
    found = curve_point(3, fewer, complete, rouge="rougeL", margin=0.5)
    assert (found.kept, found.loss, found.score) == (3, 2.0, 8.5)
    assert found.difference == -1.0 and found.low < -1.0 < found.high < 0
    assert found.p < 0.05 and found.p_margin > 0.99
