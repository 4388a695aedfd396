"""The figure of a report: ROUGE against what the study varies, one column of a paper wide,
readable in grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from headcount.experiments.cell import Cell
from headcount.experiments.report.results import MODEL
from headcount.experiments.report.study import METRICS, SettingResult, Study
from headcount.experiments.verdicts import CAVEAT_MARK, COLORS, SYMBOLS
from headcount.plot_style import STYLE

# Inches. The width is that of one column of two.
WIDTH = 3.35
PANEL_HEIGHT = 1.7
LEGEND_HEIGHT = 0.16  # of a line
# Lines differ by colour, mark and stroke. The colour-blind tell the colours apart (Okabe and Ito
# 2008). They are not those of the verdicts.
STYLES: tuple[tuple[str, str, Literal["-", "--", ":", "-."]], ...] = (
    ("#000000", "o", "-"),
    ("#CC79A7", "s", "--"),
    ("#56B4E9", "D", ":"),
    ("#E69F00", "P", "-."),
)
BASELINE_COLOR = "#767676"
NO_VERDICT_COLOR = "#000000"  # of the reference cell
TEXT_HEIGHT = 0.085  # of a line, as a share of a panel


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The positions of a study's settings along the horizontal axis.

    Attributes:
        title: of the axis.
        ticks: positions and their texts.
        series: for each line its name, and the positions of its settings by label, from left to
            right.
        joined: whether lines join the settings, because they are numbers.
    """

    title: str
    ticks: dict[float, str]
    series: dict[str, dict[str, float]]
    joined: bool


def choose_axis(cells: Sequence[Cell]) -> Axis:
    """Choose a horizontal axis.

    It is a number that is varied, with a line for each combination of the other axes. Where each
    setting changes one number of the reference cell, as the heads in one part of the model, each
    of these numbers has a line. Otherwise each setting has a position of its own.

    Args:
        cells: one of each setting.
    """
    varied = [key for key in cells[0].axes if _is_varied(cells, key)]
    numeric = [key for key in varied if _is_numeric(cells, key)]
    reference = next((cell for cell in cells if cell.is_reference), None)

    # The value of each setting on each line.
    values: dict[str, dict[str, float]] = {}
    title = ""
    if numeric == varied and reference and _varies_one_at_a_time(cells, reference, varied):
        values = _series_by_key(cells, reference, varied)
        title = _common_title(varied)
    elif numeric:
        key = max(numeric, key=lambda name: len({cell.axes[name] for cell in cells}))
        values = _series_by_rest(cells, key, varied)
        title = _title(key)

    # Not numbers, or more lines than can be told apart.
    if not 0 < len(values) <= len(STYLES):
        return _axis_of_names(cells)
    return _axis_of_numbers(title, values)


def _is_varied(cells: Sequence[Cell], key: str) -> bool:
    return len({str(cell.axes[key]) for cell in cells}) > 1


def _is_numeric(cells: Sequence[Cell], key: str) -> bool:
    return all(_is_number(cell.axes[key]) for cell in cells)


def _varies_one_at_a_time(cells: Sequence[Cell], reference: Cell, varied: Sequence[str]) -> bool:
    if len(varied) < 2:
        return False
    return all(len(_changes(cell, reference, varied)) < 2 for cell in cells)


def _series_by_key(
    cells: Sequence[Cell], reference: Cell, varied: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return a line for each key that is varied. All pass through the reference cell."""
    series = {}
    for key in varied:
        on_line = [cell for cell in cells if _changes(cell, reference, varied) in ([key], [])]
        series[_short_name(key)] = {cell.label: cell.axes[key] for cell in on_line}
    return series


def _series_by_rest(
    cells: Sequence[Cell], key: str, varied: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return a line over one key for each combination of the other ones."""
    series: dict[str, dict[str, float]] = {}
    for cell in cells:
        rest = [f"{_short_name(name)}={cell.axes[name]}" for name in varied if name != key]
        series.setdefault(", ".join(rest), {})[cell.label] = cell.axes[key]
    return series


def _axis_of_numbers(title: str, values: dict[str, dict[str, float]]) -> Axis:
    """Return the axis of lines whose settings have values, by label."""
    occurring: set[float] = set()
    for line in values.values():
        occurring.update(line.values())
    ticks = sorted(occurring)
    positions = _positions(ticks)

    series = {}
    for name, line in values.items():
        in_order = sorted(line.items(), key=lambda item: item[1])
        series[name] = {label: positions[value] for label, value in in_order}
    return Axis(
        title=title,
        ticks={positions[value]: f"{value:g}" for value in ticks},
        series=series,
        joined=True,
    )


def _axis_of_names(cells: Sequence[Cell]) -> Axis:
    """Return the axis on which each setting has a position of its own."""
    positions = {cell.label: float(number) for number, cell in enumerate(cells)}
    ticks = {position: label.replace(",", "\n") for label, position in positions.items()}
    return Axis(title="", ticks=ticks, series={"": positions}, joined=False)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positions(values: Sequence[float]) -> dict[float, float]:
    """Return the positions of sorted values.

    The scale is logarithmic if they allow it. Neighbours are about 1 apart.
    """
    if min(values) > 0 and (len(values) < 2 or max(values) / min(values) >= 4):
        return {value: math.log2(value) for value in values}
    unit = min((b - a for a, b in zip(values, values[1:], strict=False)), default=1.0)
    return {value: value / unit for value in values}


def _changes(cell: Cell, reference: Cell, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if cell.axes[key] != reference.axes[key]]


def _short_name(key: str) -> str:
    return key.split(".")[-1].replace("_", " ")


def _title(key: str) -> str:
    name = _short_name(key)
    return f"number of {name.removeprefix('num ')}" if name.startswith("num ") else name


def _common_title(keys: Sequence[str]) -> str:
    """Return a title from the last word of all keys: heads, of encoder_heads and cross_heads."""
    last_words = {_short_name(key).split()[-1] for key in keys}
    return f"number of {last_words.pop()}" if len(last_words) == 1 else "value"


def draw_study(study: Study) -> Figure:
    """Draw the mean of each setting with its 95 % interval in the colour of its verdict, its seeds
    as dots, and the baselines as lines."""
    # Settings without a finished training keep their position.
    axis = choose_axis(list({cell.label: cell for cell in study.cells}.values()))
    legend = _legend(study, axis)
    height = 0.5 + PANEL_HEIGHT * len(METRICS) + LEGEND_HEIGHT * math.ceil(len(legend) / 2)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplots(len(METRICS), 1, sharex=True)
        for panel, (metric, title) in zip(panels, METRICS.items(), strict=True):
            _draw_settings(panel, study, axis, metric)
            panel.set_ylabel(f"{title} (F1 × 100)")
            panel.grid(axis="y", linewidth=0.3, color="#DDDDDD")
            panel.set_axisbelow(True)
            panel.margins(y=0.08)
            means = {name: scores[metric].mean for name, scores in study.baselines.items()}
            _draw_baselines(panel, means)

        # The panels share their horizontal axis and the legend.
        _draw_axis(panels[-1], axis)
        figure.align_ylabels(panels)
        if legend:
            figure.legend(handles=legend, loc="outside upper center", ncols=2, frameon=False)
        return figure


def _legend(study: Study, axis: Axis) -> list[Line2D]:
    """Return an entry for each line, if there are several, for each verdict that occurs, and for
    the mark of few seeds."""
    entries = []
    if len(axis.series) > 1:
        for name, (color, marker, stroke) in zip(axis.series, STYLES, strict=False):
            entry = Line2D([], [], color=color, marker=marker, linestyle=stroke, label=name)
            entries.append(entry)

    occurring = set()
    has_caveats = False
    for setting in study.settings:
        for comparison in setting.comparisons.values():
            occurring.add(comparison.verdict)
            has_caveats |= bool(comparison.caveat)
    for verdict, color in COLORS.items():
        if verdict in occurring:
            label = f"{SYMBOLS[verdict]} {verdict}"
            entries.append(Line2D([], [], color=color, linewidth=2, label=label))
    if has_caveats:
        label = f"{CAVEAT_MARK} fewer than three seeds"
        entries.append(Line2D([], [], linestyle="none", label=label))
    return entries


def _draw_axis(panel: Axes, axis: Axis) -> None:
    is_crowded = not axis.joined and len(axis.ticks) > 3
    panel.set_xticks(list(axis.ticks), list(axis.ticks.values()), rotation=90 if is_crowded else 0)
    panel.set_xlabel(axis.title)
    left = min(axis.ticks)
    right = max(axis.ticks)
    margin = 0.1 * (right - left) or 1.0
    panel.set_xlim(left - margin, right + margin)


def _draw_settings(panel: Axes, study: Study, axis: Axis, metric: str) -> None:
    """Draw the finished settings of each line of the axis."""
    settings = {setting.cell.label: setting for setting in study.settings}
    span = max(axis.ticks) - min(axis.ticks) or 1.0
    for number, line in enumerate(axis.series.values()):
        finished = {label: position for label, position in line.items() if label in settings}
        if not finished:
            continue

        # Lines that share a position are drawn side by side.
        shift = 0.045 * span * (number - (len(axis.series) - 1) / 2)
        positions = [position + shift for position in finished.values()]
        on_line = [settings[label] for label in finished]
        color, marker, stroke = STYLES[number]
        if axis.joined:
            means = [setting.estimates[metric].mean for setting in on_line]
            panel.plot(positions, means, color=color, linestyle=stroke, linewidth=0.8, zorder=2)
        for position, setting in zip(positions, on_line, strict=True):
            _draw_setting(panel, position, position + 0.03 * span, setting, metric, marker)


def _draw_setting(
    panel: Axes,
    position: float,
    seed_position: float,
    setting: SettingResult,
    metric: str,
    marker: str,
) -> None:
    """Draw a mean with its interval and verdict, and its seeds as dots beside it."""
    comparison = setting.comparisons.get(metric)
    color = COLORS[comparison.verdict] if comparison else NO_VERDICT_COLOR
    estimate = setting.estimates[metric]
    panel.errorbar(
        position,
        estimate.mean,
        yerr=[[estimate.mean - estimate.low], [estimate.high - estimate.mean]],
        color=color,
        marker=marker,
        elinewidth=1,
        capsize=2,
        zorder=3,
    )

    # The symbol of the verdict is above the panel.
    if comparison:
        panel.text(
            position,
            1.0,
            f"{SYMBOLS[comparison.verdict]}{CAVEAT_MARK if comparison.caveat else ''}",
            transform=panel.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=7,
            color=color,
        )

    # A dot for each seed.
    scores = []
    for result in setting.results:
        score = result.systems[MODEL].get(metric)
        if score is not None:
            scores.append(score.mean)
    panel.plot(
        [seed_position] * len(scores),
        scores,
        linestyle="none",
        marker=".",
        markersize=4,
        markeredgewidth=0,
        color=color,
    )


def _draw_baselines(panel: Axes, means: dict[str, float]) -> None:
    """Draw a line for each baseline, with its name at the right end.

    Names do not overlap: one that has to move is connected with its line.
    """
    for mean in means.values():
        panel.axhline(mean, color=BASELINE_COLOR, linestyle=(0, (4, 2)), linewidth=0.7, zorder=1)

    # Only now does the panel know its vertical limits.
    panel.autoscale_view()
    low, high = panel.get_ylim()
    in_order = sorted(means, key=lambda name: means[name])
    positions = separate([means[name] for name in in_order], (high - low) * TEXT_HEIGHT)
    for name, position in zip(in_order, positions, strict=True):
        panel.annotate(
            name,
            xy=(1.0, means[name]),
            xytext=(1.05, position),
            xycoords=panel.get_yaxis_transform(),
            textcoords=panel.get_yaxis_transform(),
            va="center",
            fontsize=7,
            color="#444444",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": BASELINE_COLOR,
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def separate(values: Sequence[float], distance: float) -> list[float]:
    """Return positions at least a distance apart that are nearest to sorted values.

    The sum of squared moves is the smallest possible. It is an isotonic regression, computed by
    the pool-adjacent-violators algorithm.
    """
    blocks: list[list[float]] = []
    for number, value in enumerate(values):
        blocks.append([value - number * distance])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last

    positions: list[float] = []
    for block in blocks:
        for _ in block:
            positions.append(_mean(block) + len(positions) * distance)
    return positions


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
