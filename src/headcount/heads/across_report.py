"""What a comparison of runs says: sentences, tables in Markdown and CSV, and pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headcount.escape import markdown
from headcount.evaluation.bootstrap import holm
from headcount.heads.across import Quantity, RunComparison
from headcount.heads.analysis import SCOPE_ALL
from headcount.heads.findings import METHOD_NAMES, METHODS
from headcount.heads.plots import LINES, Line, panel_grid, scope_title
from headcount.heads.statistics import LEVEL, t_p
from headcount.heads.tables import Field, as_csv
from headcount.plot_style import STYLE


def across_findings(comparison: RunComparison) -> list[str]:
    """Return what the comparison says, in sentences."""
    sentences = _removable(comparison)
    sentences += _orders(comparison)
    sentences += _roles(comparison)
    return sentences


def _removable(comparison: RunComparison) -> list[str]:
    number = len(comparison.runs)
    sentences = []
    for each in comparison.removable:
        share = each.over_runs
        where = "the heads" if each.where == SCOPE_ALL else f"the {each.where} heads"
        sentences.append(
            f"Over {number} runs, {share.mean:.0%} of {where} can be removed with no significant "
            f"loss (standard deviation {share.sd:.0%})."
        )
    return sentences


def _orders(comparison: RunComparison) -> list[str]:
    # Each order is compared with the random ones: these tests over runs are one family.
    overall = [each for each in comparison.areas if each.where == SCOPE_ALL]
    tested = [each for each in overall if each.name in METHODS]
    corrected = holm([t_p(np.array(each.values)) for each in tested])
    better = []
    for each, corrected_p in zip(tested, corrected, strict=True):
        if corrected_p < LEVEL and each.over_runs.mean > 0:
            better.append(METHOD_NAMES[each.name])

    than_random = f"than random ones across runs (corrected for {len(tested)} orders)"
    if better:
        names = ", ".join(better)
        sentences = [f"Orders that keep significantly more ROUGE {than_random}: {names}."]
    else:
        sentences = [f"No order keeps significantly more ROUGE {than_random}."]

    # Whether the measures agree about the heads of a run.
    if comparison.agreements:
        correlations = [f"{each.name} {_mean_and_sd(each, 2)}" for each in comparison.agreements]
        sentences.append(
            f"Rank correlation of two orders of a run's heads: {', '.join(correlations)}."
        )
    return sentences


def _roles(comparison: RunComparison) -> list[str]:
    if not comparison.roles:
        return ["No run has a head with a role."]
    number = len(comparison.runs)
    in_every = []
    in_some = []
    for each in comparison.roles:
        runs = sum(count > 0 for count in each.values)
        if runs == number:
            in_every.append(f"{each.name} ({each.where})")
        else:
            in_some.append(f"{each.name} ({each.where}, {runs} of {number})")
    sentences = []
    if in_every:
        sentences.append(f"Roles that appear in every run: {', '.join(in_every)}.")
    if in_some:
        sentences.append(f"Roles that appear in some runs only: {', '.join(in_some)}.")
    return sentences


def across_markdown(comparison: RunComparison) -> str:
    """Return the tables of a comparison in Markdown; the runs are numbered."""
    lines = []
    for number, name in enumerate(comparison.runs, start=1):
        lines.append(f"{number}. {markdown(name)}")
    lines += _importance_table(comparison)
    lines += _role_table(comparison)
    lines += _order_tables(comparison)
    return "\n".join(lines) + "\n"


def _importance_table(comparison: RunComparison) -> list[str]:
    lines = ["", "| block | measure | sorted importances, mean ± sd over runs |", "|---|---|---|"]
    for (block, measure), ranks in _grouped(comparison.importances).items():
        shown = ", ".join(_mean_and_sd(rank, 3) for rank in ranks)
        lines.append(f"| {block} | {METHOD_NAMES[measure]} | {shown} |")
    return lines


def _role_table(comparison: RunComparison) -> list[str]:
    numbers = range(1, len(comparison.runs) + 1)
    of_runs = " | ".join(f"run {number}" for number in numbers)
    lines = ["", f"| site | heads with the role | {of_runs} | mean ± sd |"]
    lines.append("|---|---|" + "---:|" * (len(comparison.runs) + 1))
    for each in comparison.roles:
        counts = " | ".join(f"{count:.0f}" for count in each.values)
        lines.append(f"| {each.where} | {each.name} | {counts} | {_mean_and_sd(each, 1)} |")
    return lines


def _order_tables(comparison: RunComparison) -> list[str]:
    lines = ["", "| heads | order | area above random orders, mean [95 % interval] |"]
    lines.append("|---|---|---:|")
    for each in comparison.areas:
        area = each.over_runs
        interval = f"[{area.low:+.2f}, {area.high:+.2f}]"
        lines.append(f"| {each.where} | {each.name} | {area.mean:+.2f} {interval} |")

    lines += ["", "| two orders of a run | rank correlation, mean ± sd |", "|---|---:|"]
    for each in comparison.agreements:
        lines.append(f"| {each.name} | {_mean_and_sd(each, 2)} |")
    return lines


def _grouped(quantities: Sequence[Quantity]) -> dict[tuple[str, str], list[Quantity]]:
    """Return the quantities of each block, site or scope and name, in the order of positions."""
    groups: dict[tuple[str, str], list[Quantity]] = {}
    for each in quantities:
        groups.setdefault((each.where, each.name), []).append(each)
    return groups


def _mean_and_sd(quantity: Quantity, digits: int) -> str:
    value = quantity.over_runs
    return f"{value.mean:.{digits}f} ± {value.sd:.{digits}f}"


def across_csv(comparison: RunComparison) -> str:
    """Return a row for each quantity, with a column for each run and their mean and interval."""
    header = ["what", "where", "name", "position", *comparison.runs, "mean", "sd", "low", "high"]
    of_kind = {
        "sorted importance": comparison.importances,
        "rank correlation": comparison.agreements,
        "heads with role": comparison.roles,
        f"change of {comparison.rouge}": comparison.curves,
        "area above random": comparison.areas,
        "removable share": comparison.removable,
    }
    rows: list[list[Field]] = []
    for what, quantities in of_kind.items():
        for each in quantities:
            mean = each.over_runs
            position = "" if each.position is None else each.position
            over_runs = [mean.mean, mean.sd, mean.low, mean.high]
            rows.append([what, each.where, each.name, position, *each.values, *over_runs])
    return as_csv(header, rows)


def draw_profiles(comparison: RunComparison) -> Figure:
    """Draw the sorted importances of each block, mean and standard deviation over runs, with one
    row of panels for each measure."""
    groups = _grouped(comparison.importances)
    blocks = list(dict.fromkeys(block for block, _ in groups))
    measures = list(dict.fromkeys(measure for _, measure in groups))
    with rc_context(STYLE):
        # At least one panel: without a block of one size in all runs nothing can be compared.
        size = (0.6 + 1.5 * max(1, len(blocks)), 0.4 + 1.3 * max(1, len(measures)))
        figure = Figure(figsize=size, layout="constrained")
        shape = (max(1, len(measures)), max(1, len(blocks)))
        panels = figure.subplots(*shape, squeeze=False, sharey="row")

        # Bars in the order of importance, with the standard deviation over runs.
        for (block, measure), ranks in groups.items():
            row = measures.index(measure)
            panel = panels[row, blocks.index(block)]
            means = [rank.over_runs for rank in ranks]
            panel.bar(
                range(1, len(ranks) + 1),
                [value.mean for value in means],
                yerr=[float(np.nan_to_num(value.sd)) for value in means],
                color=LINES[measure].color,
                error_kw={"linewidth": 0.7},
            )
            panel.set_xticks(range(1, len(ranks) + 1))
            panel.set_title(block if row == 0 else "", loc="left")
        for row, measure in enumerate(measures):
            panels[row, 0].set_ylabel(METHOD_NAMES[measure])
        figure.supxlabel("heads of the block, by importance", fontsize=7)
    return figure


def draw_mean_curves(comparison: RunComparison) -> Figure:
    """Draw the change of ROUGE against the share of heads kept, mean over runs with a band of one
    standard deviation, with one panel for each scope."""
    groups = _grouped(comparison.curves)
    scopes = list(dict.fromkeys(scope for scope, _ in groups))
    with rc_context(STYLE):
        figure, panels = panel_grid(len(scopes))
        for panel, scope in zip(panels, scopes, strict=True):
            for (of_scope, order), points in groups.items():
                if of_scope == scope:
                    _draw_mean_curve(panel, points, LINES[order])

            panel.axhline(0, color="#767676", linewidth=0.6)
            panel.set_title(scope_title(scope), loc="left")
            panel.set_xlabel("share of heads kept")
            panel.set_ylabel(f"change of {comparison.rouge}")

        # All panels have the same lines, so one legend serves them.
        if panels:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_mean_curve(panel: Axes, points: Sequence[Quantity], line: Line) -> None:
    shares = np.array([point.position for point in points], dtype=float)
    means = np.array([point.over_runs.mean for point in points])
    sds = np.nan_to_num([point.over_runs.sd for point in points])
    panel.plot(shares, means, label=line.label, **line.style)
    panel.fill_between(shares, means - sds, means + sds, color=line.color, alpha=0.15, linewidth=0)
