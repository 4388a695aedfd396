"""Profiles of several runs side by side, such as the seeds of one model.

A head has no identity across seeds: head 2 of one run has nothing to do with head 2 of another.
What can be compared is each block's importances sorted from the largest to the smallest, the rank
correlation of two measures over the heads of a run, the number of heads with each role, and the
pruning curves. Intervals here are over runs, those of a single analysis are over documents.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from headcount.heads.analysis import ORDER_MEASURES, SCOPE_ALL, Analysis
from headcount.heads.curve import Curve
from headcount.heads.roles import spearman
from headcount.heads.statistics import t_interval

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MeanOverRuns:
    """A number over runs.

    Attributes:
        mean: over runs.
        sd: standard deviation over runs; NaN with one run.
        low: lower end of the 95 % interval of the mean, by the t distribution over runs.
        high: upper end.
    """

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One quantity and its value in each run.

    Attributes:
        where: the block, site or scope of the quantity.
        name: its measure, role or order.
        position: for sorted importances the rank, from one; for a point of a curve the share of
            heads kept; None for other quantities.
        values: one for each run.
    """

    where: str
    name: str
    position: float | None = None
    values: list[float]

    @property
    def over_runs(self) -> MeanOverRuns:
        """Mean, standard deviation and interval over runs."""
        array = np.array(self.values, dtype=np.float64)
        mean, low, high = t_interval(array)
        sd = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
        return MeanOverRuns(mean=mean, sd=sd, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Several runs side by side.

    Attributes:
        runs: their names.
        rouge: the ROUGE type of scores.
        importances: for each block that has the same number of heads in all runs and each measure
            the sorted importances, the largest first.
        agreements: for each pair of measures their rank correlation over all heads of a run.
        roles: for each site and role the number of heads that have it.
        curves: for each scope and order the points of the pruning curve, as the change of the
            score. Empty if the runs have different numbers of heads.
        areas: for each scope and order the area under the curve minus the mean area of the run's
            random orders.
        removable: for each scope the largest share of heads that can be removed with no
            significant loss, in the order of each run whose curve has the largest area.
    """

    runs: list[str]
    rouge: str
    importances: list[Quantity]
    agreements: list[Quantity]
    roles: list[Quantity]
    curves: list[Quantity]
    areas: list[Quantity]
    removable: list[Quantity]


def compare_runs(analyses: Mapping[str, Analysis]) -> RunComparison:
    """Compare the profiles of runs.

    Args:
        analyses: by the run's name.
    """
    found = list(analyses.values())
    # Runs with and without learned gates are compared by what all of them have.
    measures = [name for name in ORDER_MEASURES if all(has_measure(each, name) for each in found)]
    return RunComparison(
        runs=list(analyses),
        rouge=found[0].rouge,
        importances=_compare_importances(found, measures),
        agreements=_compare_orders(found, measures),
        roles=_compare_roles(found),
        curves=_compare_curves(found, [*measures, "reverse"]),
        areas=_compare_areas(found, [*measures, "reverse"]),
        removable=_compare_removable(found),
    )


def has_measure(analysis: Analysis, name: str) -> bool:
    """Return whether an analysis has a measure of its heads; not every run has learned gates."""
    return bool(np.isfinite(head_values(analysis, name)).all())


def head_values(analysis: Analysis, measure: str) -> Values:
    """Return a measure of each head."""
    return np.array([ORDER_MEASURES[measure](result) for result in analysis.heads])


def sorted_importances(analysis: Analysis, measure: str) -> dict[str, Values]:
    """Return for each block a measure of its heads, the largest first."""
    by_block: dict[str, list[float]] = {}
    for result in analysis.heads:
        by_block.setdefault(result.head.block, []).append(ORDER_MEASURES[measure](result))
    return {block: np.sort(values)[::-1] for block, values in by_block.items()}


def _compare_importances(found: Sequence[Analysis], measures: Sequence[str]) -> list[Quantity]:
    quantities = []
    for measure in measures:
        profiles = [sorted_importances(analysis, measure) for analysis in found]
        for block in profiles[0]:
            # Ranks of blocks of different sizes do not correspond.
            of_runs = [profile.get(block, np.empty(0)) for profile in profiles]
            if len({len(values) for values in of_runs}) > 1:
                continue

            for rank, values in enumerate(np.stack(of_runs, axis=1), start=1):
                quantities.append(
                    Quantity(where=block, name=measure, position=rank, values=values.tolist())
                )
    return quantities


def _compare_orders(found: Sequence[Analysis], measures: Sequence[str]) -> list[Quantity]:
    quantities = []
    for one, other in combinations(measures, 2):
        correlations = []
        for analysis in found:
            values = head_values(analysis, one)
            correlations.append(spearman(values, head_values(analysis, other)))
        quantities.append(
            Quantity(where=SCOPE_ALL, name=f"{one} and {other}", values=correlations)
        )
    return quantities


def role_counts(analysis: Analysis) -> Counter[tuple[str, str]]:
    """Return the number of heads of each site that have each role."""
    counts: Counter[tuple[str, str]] = Counter()
    for result in analysis.heads:
        counts.update((result.head.site, role) for role in result.held_roles)
    return counts


def _compare_roles(found: Sequence[Analysis]) -> list[Quantity]:
    counts = [role_counts(analysis) for analysis in found]
    quantities = []
    for site, role in sorted(set().union(*counts)):
        numbers = [float(count[site, role]) for count in counts]
        quantities.append(Quantity(where=site, name=role, values=numbers))
    return quantities


def _compare_curves(found: Sequence[Analysis], orders: Sequence[str]) -> list[Quantity]:
    quantities = []
    for scope in _shared_scopes(found):
        for order in orders:
            # Points correspond only if the runs have the same number of heads.
            curves = [_curve(analysis, scope, order) for analysis in found]
            first, *others = [[point.kept for point in curve.points] for curve in curves]
            if any(kept != first for kept in others):
                continue

            for number, count in enumerate(first):
                quantities.append(
                    Quantity(
                        where=scope,
                        name=order,
                        position=count / curves[0].heads,
                        values=[curve.points[number].difference for curve in curves],
                    )
                )
    return quantities


def _compare_areas(found: Sequence[Analysis], orders: Sequence[str]) -> list[Quantity]:
    quantities = []
    for scope in _shared_scopes(found):
        for order in orders:
            areas = [_area_above_random(analysis, scope, order) for analysis in found]
            quantities.append(Quantity(where=scope, name=order, values=areas))
    return quantities


def _compare_removable(found: Sequence[Analysis]) -> list[Quantity]:
    quantities = []
    for scope in _shared_scopes(found):
        # As each run's own findings say, also where the order differs between runs.
        best = [analysis.best_curve(scope) for analysis in found]
        shares = [curve.removable_without_difference() for curve in best]
        quantities.append(Quantity(where=scope, name="removable", values=shares))
    return quantities


def _shared_scopes(found: Sequence[Analysis]) -> list[str]:
    """Return the scopes that all runs have curves of."""
    scopes = [{curve.scope for curve in analysis.curves} for analysis in found]
    shared = set.intersection(*scopes)
    return [scope for scope in dict.fromkeys(c.scope for c in found[0].curves) if scope in shared]


def _curve(analysis: Analysis, scope: str, order: str) -> Curve:
    [found] = [c for c in analysis.curves if c.scope == scope and c.order == order]
    return found


def _area_above_random(analysis: Analysis, scope: str, order: str) -> float:
    of_scope = [curve for curve in analysis.curves if curve.scope == scope]
    random_areas = [curve.area for curve in of_scope if curve.order.startswith("random")]
    return _curve(analysis, scope, order).area - float(np.mean(random_areas))
