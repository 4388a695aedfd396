"""Profiles of several runs side by side, such as the seeds of one model.

A head has no identity across seeds: head 2 of one run has nothing to do with head 2 of another.
Three things can be compared all the same: the importances of a block sorted from the largest to
the smallest, the number of heads with each role, and the pruning curves. The spread over runs is a
source of variance that a single analysis does not have.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from headcount.escape import markdown
from headcount.heads.analysis import SCOPE_ALL, Analysis
from headcount.heads.findings import METHOD_NAMES, METHODS
from headcount.heads.statistics import mean_interval
from headcount.plot_style import STYLE

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Spread:
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


def spread(values: Sequence[float]) -> Spread:
    """Return mean, standard deviation and interval of a number over runs."""
    array = np.array(values, dtype=np.float64)
    mean, low, high = mean_interval(array)
    sd = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return Spread(mean=mean, sd=sd, low=low, high=high)


def sorted_importances(analysis: Analysis) -> dict[str, Values]:
    """Return for each block the normalized importances of its heads, the largest first."""
    by_block: dict[str, list[float]] = {}
    for result in analysis.heads:
        by_block.setdefault(result.head.block, []).append(result.normalized_importance)
    return {block: np.sort(values)[::-1] for block, values in by_block.items()}


def role_counts(analysis: Analysis) -> Counter[tuple[str, str]]:
    """Return the number of heads of each site that have each role."""
    counts: Counter[tuple[str, str]] = Counter()
    for result in analysis.heads:
        counts.update((result.head.site, role) for role in result.held_roles)
    return counts


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several runs side by side.

    Attributes:
        runs: their names.
        importances: for each block that has the same number of heads in all runs, the spread of
            its sorted importances, the largest first.
        roles: by site and role, the spread of the number of heads that have it.
        every_run_has: by site and role, whether each run has at least one such head.
        areas: by order, the spread of the area under the curve of all heads, less that of the mean
            of the run's random orders.
        removable: the spread of the largest share of heads that can go with no significant loss,
            by the best order of each run.
    """

    runs: list[str]
    importances: dict[str, list[Spread]]
    roles: dict[tuple[str, str], Spread]
    every_run_has: dict[tuple[str, str], bool]
    areas: dict[str, Spread]
    removable: Spread


def compare_runs(analyses: Mapping[str, Analysis]) -> Comparison:
    """Compare the profiles of runs.

    Args:
        analyses: by the run's name.
    """
    found = list(analyses.values())

    # Sorted importances, where the blocks are alike.
    sorted_by_run = [sorted_importances(analysis) for analysis in found]
    importances = {}
    for block in sorted_by_run[0]:
        of_runs = [profile[block] for profile in sorted_by_run if block in profile]
        if len(of_runs) == len(found) and len({len(values) for values in of_runs}) == 1:
            importances[block] = [spread(ranks.tolist()) for ranks in np.stack(of_runs, axis=1)]

    # Numbers of heads with each role.
    counts = [role_counts(analysis) for analysis in found]
    roles = {}
    every_run_has = {}
    for key in sorted(set().union(*counts)):
        numbers = [count[key] for count in counts]
        roles[key] = spread(numbers)
        every_run_has[key] = all(numbers)

    # Curves, each against the random orders of its own run.
    areas = {}
    for order in (*METHODS, "reverse"):
        if not all(_has_curve(analysis, order) for analysis in found):
            continue  # learned gates, which not every run has
        areas[order] = spread([_area_above_random(analysis, order) for analysis in found])
    return Comparison(
        runs=list(analyses),
        importances=importances,
        roles=roles,
        every_run_has=every_run_has,
        areas=areas,
        removable=spread([_removable(analysis) for analysis in found]),
    )


def _has_curve(analysis: Analysis, order: str) -> bool:
    return any(curve.order == order for curve in analysis.curves)


def _area_above_random(analysis: Analysis, order: str) -> float:
    overall = [curve for curve in analysis.curves if curve.scope == SCOPE_ALL]
    random_areas = [curve.area for curve in overall if curve.order.startswith("random")]
    [area] = [curve.area for curve in overall if curve.order == order]
    return area - float(np.mean(random_areas))


def _removable(analysis: Analysis) -> float:
    overall = [curve for curve in analysis.curves if curve.scope == SCOPE_ALL]
    methods = [curve for curve in overall if curve.order in METHODS]
    return max(curve.removable_without_difference() for curve in methods)


def across_findings(comparison: Comparison) -> list[str]:
    """Return what the comparison says, in sentences."""
    number = len(comparison.runs)
    share = comparison.removable
    sentences = [
        f"Over {number} runs, {share.mean:.0%} of the heads can go with no significant loss "
        f"(standard deviation {share.sd:.0%})."
    ]
    better = [
        METHOD_NAMES[order]
        for order, area in comparison.areas.items()
        if order in METHODS and area.low > 0
    ]
    if better:
        sentences.append(
            f"Orders that keep more ROUGE than random ones across runs: {', '.join(better)}."
        )
    else:
        sentences.append("No order keeps significantly more ROUGE than random ones across runs.")

    shared = [key for key, in_every in comparison.every_run_has.items() if in_every]
    some = [key for key, in_every in comparison.every_run_has.items() if not in_every]
    for keys, where in ((shared, "in every run"), (some, "in some runs only")):
        if keys:
            named = ", ".join(f"{role} ({site})" for site, role in keys)
            sentences.append(f"Roles that appear {where}: {named}.")
    if not comparison.roles:
        sentences.append("No run has a head with a role.")
    return sentences


def across_markdown(comparison: Comparison) -> str:
    """Return the tables of a comparison in Markdown."""
    lines = [f"Runs: {', '.join(markdown(name) for name in comparison.runs)}", ""]
    lines += ["| block | sorted importances, mean ± sd over runs |", "|---|---|"]
    for block, ranks in comparison.importances.items():
        lines.append(f"| {block} | {', '.join(_mean_and_sd(rank, 2) for rank in ranks)} |")
    lines += [
        "",
        "| site | role | heads with it, mean ± sd | in every run |",
        "|---|---|---:|---|",
    ]
    for (site, role), number in comparison.roles.items():
        in_every = "yes" if comparison.every_run_has[site, role] else "no"
        lines.append(f"| {site} | {role} | {_mean_and_sd(number, 1)} | {in_every} |")
    lines += ["", "| order | area above random orders, mean [95 % interval] |", "|---|---:|"]
    for order, area in comparison.areas.items():
        lines.append(f"| {order} | {area.mean:+.2f} [{area.low:+.2f}, {area.high:+.2f}] |")
    return "\n".join(lines) + "\n"


def _mean_and_sd(value: Spread, digits: int) -> str:
    return f"{value.mean:.{digits}f} ± {value.sd:.{digits}f}"


def draw_profiles(comparison: Comparison) -> Figure:
    """Draw the sorted importances of each block, mean and standard deviation over runs."""
    blocks = comparison.importances
    columns = min(4, max(1, len(blocks)))
    rows = -(-max(1, len(blocks)) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(1.7 * columns, 0.3 + 1.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for panel in panels.flat[len(blocks) :]:
            panel.set_axis_off()

        # Bars in the order of importance, with the standard deviation over runs.
        for panel, (block, ranks) in zip(panels.flat, blocks.items(), strict=False):
            panel.bar(
                range(1, len(ranks) + 1),
                [rank.mean for rank in ranks],
                yerr=[0.0 if np.isnan(rank.sd) else rank.sd for rank in ranks],
                color="#0072B2",
                error_kw={"linewidth": 0.7},
            )
            panel.set_xticks(range(1, len(ranks) + 1))
            panel.set_title(block, loc="left")

        figure.supxlabel("heads of the block, by importance", fontsize=7)
        figure.supylabel("normalized importance", fontsize=7)
    return figure
