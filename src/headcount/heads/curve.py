"""ROUGE against the number of heads kept.

Heads are removed in some order, the least important first. A method that finds important heads
must keep more ROUGE than random orders and than its own reverse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headcount.heads.blocks import Head
from headcount.heads.measure import Measurement
from headcount.heads.statistics import LEVEL, mean_interval, mean_p, p_above_margin

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Loss and ROUGE with some heads removed, compared with the complete model.

    Attributes:
        kept: number of heads of the scope that are kept.
        loss: mean cross-entropy.
        score: mean ROUGE of the selected type.
        difference: score minus that of the complete model.
        low: lower end of the difference's 95 % interval over documents.
        high: upper end.
        p: two-sided p-value of a difference of zero.
        p_margin: one-sided p-value of a loss of score of at least the margin (non-inferiority).
    """

    kept: int
    loss: float
    score: float
    difference: float
    low: float
    high: float
    p: float
    p_margin: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The pruning curve of one order within one scope.

    Attributes:
        scope: all, or the site whose heads are removed.
        order: name of the order.
        heads: number of heads of the scope.
        points: from all heads kept to none.
    """

    scope: str
    order: str
    heads: int
    points: list[CurvePoint]

    @property
    def area(self) -> float:
        """Area under the curve of the score against the share of heads kept (trapezoids), in
        points of ROUGE."""
        shares = np.array([point.kept / self.heads for point in self.points])
        scores = np.array([point.score for point in self.points])
        order = shares.argsort()
        return float(np.trapezoid(scores[order], shares[order]))

    def removable_without_difference(self) -> float:
        """Return the largest share of heads that can be removed with no significant loss of score.

        A description, not a claim: it goes from few removed heads to many as long as no test finds
        a loss. How often it goes too far is not controlled; with few documents it goes far.
        """
        share = 0.0
        for point in self.points:
            if point.p < LEVEL and point.difference < 0:
                break
            share = 1 - point.kept / self.heads
        return share

    def removable_within_margin(self, *, orders: int) -> float:
        """Return the largest share of heads that can be removed with a loss of score proven
        smaller than the margin.

        Points are tested from few removed heads to many until the first one without a proof. Tests
        in a fixed sequence need no correction for the number of points (Maurer et al. 1995). The
        choice of this curve does: its order is that of the largest area on the same documents.

        Args:
            orders: number of orders that this one was chosen from; 1: it was not chosen by its
                curve.
        """
        level = LEVEL / orders  # Bonferroni
        share = 0.0
        for point in self.points:
            if point.kept < self.heads and point.p_margin >= level:
                break
            share = 1 - point.kept / self.heads
        return share


def order_heads(values: Mapping[Head, float]) -> list[Head]:
    """Return heads by importance, the least important first; ties in the order of the heads."""
    heads = list(values)
    return sorted(heads, key=lambda head: (values[head], heads.index(head)))


def random_order(heads: Sequence[Head], seed: int) -> list[Head]:
    """Return heads in a random order, the same in every run with this seed and number of heads."""
    generator = np.random.default_rng([seed, len(heads)])
    return [heads[index] for index in generator.permutation(len(heads))]


def kept_counts(heads: int, points: int) -> list[int]:
    """Return the numbers of kept heads of a curve's points: from all to none, evenly spaced."""
    spaced = np.linspace(heads, 0, min(points, heads + 1))
    return sorted({round(value) for value in spaced}, reverse=True)


def curve_point(
    kept: int, measured: Measurement, complete: Measurement, *, rouge: str, margin: float
) -> CurvePoint:
    """Compare a model with fewer heads with the complete one, document by document.

    Args:
        kept: number of heads kept.
        measured: measurement of the model with these heads.
        complete: measurement of the complete model on the same documents.
        rouge: the ROUGE type.
        margin: largest negligible loss, in points of ROUGE.
    """
    differences = measured.rouge(rouge) - complete.rouge(rouge)
    mean, low, high = mean_interval(differences)
    return CurvePoint(
        kept=kept,
        loss=float(measured.losses.mean()),
        score=float(measured.rouge(rouge).mean()),
        difference=mean,
        low=low,
        high=high,
        p=mean_p([differences])[0],
        p_margin=p_above_margin(differences, margin),
    )
