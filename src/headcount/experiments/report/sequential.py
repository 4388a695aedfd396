"""A group-sequential rule: a study is looked at after some of its seeds, and gets more where it is
undecided. Its error rate holds over all looks.

Each look spends a part of the error rate (alpha spending: Lan and DeMets 1983), here by the
function that approximates the boundaries of Pocock (1977): with three seeds, a stricter first look
could hardly decide anything. The fraction of the information at a look is its share of the seeds.
Nominal levels come from the joint normal distribution of the looks, as in Armitage, McPherson and
Rowe (1969), and are applied to the p-values of the t distributions (Pocock 1977). Over the
comparisons of a study they are corrected by Holm's procedure, each hypothesis with a spending
function of its own (Maurer and Bretz 2013). That the error rate holds for these few seeds was
simulated: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from headcount.experiments.report.statistics import SIGNIFICANCE

GROWTH = 1.6  # seeds of a look, as a multiple of those of the look before
LAST_LOOK_SEEDS = 8  # of the last look
GRID_POINTS = 801  # of the numerical integration

Key = TypeVar("Key", bound=Hashable)


def plan_looks(first: int) -> tuple[int, ...]:
    """Return the number of seeds at each look: 3, 5 and 8 if a study begins with 3.

    Args:
        first: seeds of the grid.
    """
    looks = [first]
    while looks[-1] < LAST_LOOK_SEEDS:
        looks.append(min(LAST_LOOK_SEEDS, math.ceil(GROWTH * looks[-1])))
    return tuple(looks)


def spent_error_rate(level: float, fraction: float) -> float:
    """Return the part of an error rate that is spent at a fraction of the information."""
    return level * math.log(1 + (math.e - 1) * min(fraction, 1.0))


@cache
def nominal_levels(level: float, looks: tuple[int, ...]) -> tuple[float, ...]:
    """Return the level of a two-sided test at each look.

    Args:
        level: of all looks together.
        looks: number of seeds at each look.
    """
    fractions = [seeds / looks[-1] for seeds in looks]

    # At the first look all paths are open. The score has the variance of the information.
    critical = -ndtri(spent_error_rate(level, fractions[0]) / 2)
    levels = [2 * ndtr(-critical)]
    score = _grid(critical * math.sqrt(fractions[0]))
    density = np.exp(-(score**2) / (2 * fractions[0])) / math.sqrt(2 * math.pi * fractions[0])

    for before, fraction in pairwise(fractions):
        # Find the boundary that the open paths cross with the probability to be spent.
        to_spend = spent_error_rate(level, fraction) - spent_error_rate(level, before)
        sd = math.sqrt(fraction - before)
        weights = density * (score[1] - score[0])
        critical = _critical_value(score, weights, sd=sd, fraction=fraction, to_spend=to_spend)
        levels.append(2 * ndtr(-critical))

        # The paths that stay open.
        next_score = _grid(critical * math.sqrt(fraction))
        steps = (next_score[:, None] - score) / sd
        density = np.exp(-(steps**2) / 2) / (sd * math.sqrt(2 * math.pi)) @ weights
        score = next_score
    return tuple(float(each) for each in levels)


def _critical_value(
    score: np.ndarray, weights: np.ndarray, *, sd: float, fraction: float, to_spend: float
) -> float:
    """Return the critical value of a look that the open paths cross with a given probability.

    Args:
        score: of the open paths at the look before.
        weights: probability of each.
        sd: standard deviation of the step from the look before to this one.
        fraction: of the information at this look.
        to_spend: the probability.
    """

    def excess(critical: float) -> float:
        boundary = critical * math.sqrt(fraction)
        crosses = ndtr((score - boundary) / sd) + ndtr((-boundary - score) / sd)
        return float(weights @ crosses) - to_spend

    return float(brentq(excess, 0.1, 12))


def _grid(boundary: float) -> np.ndarray:
    """Return midpoints between two boundaries, for the numerical integration."""
    edges = np.linspace(-boundary, boundary, GRID_POINTS + 1)
    return (edges[1:] + edges[:-1]) / 2


def reject(
    p_values: Mapping[Key, float], *, open_hypotheses: int, look: int, looks: tuple[int, ...]
) -> set[Key]:
    """Return the hypotheses that are rejected at a look.

    The smallest p is compared with the nominal level of an error rate divided by the number of
    hypotheses that are still open, and so on (Holm 1979).

    Args:
        p_values: of the hypotheses that are tested at this look.
        open_hypotheses: number of those that no earlier look has rejected, tested or not.
        look: number of this look, from 0.
        looks: number of seeds at each look.
    """
    assert open_hypotheses >= len(p_values)
    rejected: set[Key] = set()
    for key in sorted(p_values, key=lambda key: p_values[key]):
        level = SIGNIFICANCE / (open_hypotheses - len(rejected))
        if p_values[key] > nominal_levels(level, looks)[look]:
            break
        rejected.add(key)
    return rejected
