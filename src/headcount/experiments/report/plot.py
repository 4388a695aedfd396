"""The figure of a report: ROUGE against what the study varies, one column of a paper wide,
readable in grey."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headcount.experiments.cell import Cell
from headcount.experiments.report.study import METRICS, SettingResult, Study

# Inches. The width is that of one column of two.
WIDTH = 3.35
PANEL_HEIGHT = 1.55
# Colours that the colour-blind tell apart (Okabe and Ito 2008), of different lightness. Marks and
# lines differ, too.
STYLES = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#000000", "^", ":"),
    ("#CC79A7", "D", "-."),
)
BASELINE_COLOR = "#767676"
STYLE: Any = {
    "font.size": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a name with two dollar signs is a name
    "svg.hashsalt": "headcount",  # the same ids in each svg
    "pdf.fonttype": 42,  # letters stay letters, which publishers ask for
}
NO_DATE: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


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
    varied = [key for key in cells[0].axes if len({str(cell.axes[key]) for cell in cells}) > 1]
    numeric = [key for key in varied if all(_is_number(cell.axes[key]) for cell in cells)]
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
    if not 0 < len(values) <= len(STYLES):
        return _axis_of_names(cells)

    # Their positions.
    ticks = sorted({value for line in values.values() for value in line.values()})
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


def _axis_of_names(cells: Sequence[Cell]) -> Axis:
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
    """Draw the mean of each setting with its 95 % interval, its seeds as dots, and the baselines
    as lines."""
    # Settings without a finished training keep their position.
    axis = choose_axis(list({cell.label: cell for cell in study.cells}.values()))
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + PANEL_HEIGHT * len(METRICS)), layout="constrained")
        panels = figure.subplots(len(METRICS), 1, sharex=True)
        for panel, (metric, title) in zip(panels, METRICS.items(), strict=True):
            _draw_settings(panel, study, axis, metric)
            panel.set_ylabel(f"{title} (F1 × 100)")
            panel.grid(axis="y", linewidth=0.3, color="#DDDDDD")
            panel.set_axisbelow(True)
            panel.margins(y=0.08)
            means = {name: scores[metric].mean for name, scores in study.baselines.items()}
            _draw_baselines(panel, means)

        # The panels share their horizontal axis.
        _draw_axis(panels[-1], axis)
        figure.align_ylabels(panels)
        if len(axis.series) > 1:
            handles, names = panels[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
        return figure


def _draw_axis(panel: Axes, axis: Axis) -> None:
    is_crowded = not axis.joined and len(axis.ticks) > 3
    panel.set_xticks(list(axis.ticks), list(axis.ticks.values()), rotation=90 if is_crowded else 0)
    panel.set_xlabel(axis.title)
    left = min(axis.ticks)
    right = max(axis.ticks)
    margin = 0.1 * (right - left) or 1.0
    panel.set_xlim(left - margin, right + margin)


def _draw_settings(panel: Axes, study: Study, axis: Axis, metric: str) -> None:
    settings = {setting.cell.label: setting for setting in study.settings}
    span = max(axis.ticks) - min(axis.ticks) or 1.0
    for number, (name, line) in enumerate(axis.series.items()):
        finished = {label: position for label, position in line.items() if label in settings}
        if not finished:
            continue

        # Lines that share a position are drawn side by side.
        shift = 0.045 * span * (number - (len(axis.series) - 1) / 2)
        positions = [position + shift for position in finished.values()]
        on_line = [settings[label] for label in finished]
        color, marker, stroke = STYLES[number]
        _draw_means(
            panel,
            positions,
            on_line,
            metric,
            color=color,
            marker=marker,
            stroke=stroke if axis.joined else "none",
            name=name,
        )
        _draw_seeds(panel, [p + 0.03 * span for p in positions], on_line, metric, color=color)


def _draw_means(
    panel: Axes,
    positions: Sequence[float],
    settings: Sequence[SettingResult],
    metric: str,
    *,
    color: str,
    marker: str,
    stroke: str,
    name: str,
) -> None:
    estimates = [setting.estimates[metric] for setting in settings]
    below = [estimate.mean - estimate.low for estimate in estimates]
    above = [estimate.high - estimate.mean for estimate in estimates]
    panel.errorbar(
        positions,
        [estimate.mean for estimate in estimates],
        yerr=[below, above],
        color=color,
        marker=marker,
        markersize=3.5,
        linestyle=stroke,
        linewidth=1,
        elinewidth=0.8,
        capsize=2,
        label=name,
    )


def _draw_seeds(
    panel: Axes,
    positions: Sequence[float],
    settings: Sequence[SettingResult],
    metric: str,
    *,
    color: str,
) -> None:
    """Draw each seed as a dot."""
    dot_positions = []
    means = []
    for position, setting in zip(positions, settings, strict=True):
        for result in setting.results:
            dot_positions.append(position)
            means.append(result.scores["systems"]["model"][metric]["mean"])
    panel.plot(
        dot_positions,
        means,
        linestyle="none",
        marker=".",
        markersize=4,
        markeredgewidth=0,
        color=color,
    )


def _draw_baselines(panel: Axes, means: dict[str, float]) -> None:
    """Draw a line for each baseline, with its name at the right end. Names do not overlap."""
    for mean in means.values():
        panel.axhline(mean, color=BASELINE_COLOR, linestyle=(0, (4, 2)), linewidth=0.7, zorder=1)

    panel.autoscale_view()
    low, high = panel.get_ylim()
    line_height = (high - low) * 0.085
    position = -math.inf
    for name, mean in sorted(means.items(), key=lambda item: item[1]):
        position = max(mean, position + line_height)
        panel.text(
            1.02,
            position,
            name,
            transform=panel.get_yaxis_transform(),
            va="center",
            fontsize=6,
            color="#555555",
        )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure completely or not at all, the same bytes each time.

    Args:
        figure: what to write.
        path: its suffix is the format: svg, pdf or png.
    """
    kind = path.suffix.removeprefix(".")
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with rc_context(STYLE):
        figure.savefig(scratch, format=kind, dpi=300, metadata=NO_DATE[kind])
    os.replace(scratch, path)
