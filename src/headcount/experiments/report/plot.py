"""The figure of a report.

ROUGE against what the study varies, one column of a paper wide, readable in grey.
"""

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
from headcount.experiments.report.study import METRICS, Study

WIDTH, PANEL_HEIGHT = 3.35, 1.55  # inches; the first is one column of two
# colours that the colour-blind tell apart (Okabe and Ito 2008), no two of one lightness; marks and
# lines tell them too
STYLES = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#000000", "^", ":"),
    ("#CC79A7", "D", "-."),
)
BASELINE = "#767676"
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
class Plan:
    """Where the settings of a study stand along an axis.

    Attributes:
        title: of the axis.
        ticks: its places and their texts.
        series: of each line its name and its settings' labels with their places, from left to
            right.
        joined: whether lines join the settings: they are numbers.
    """

    title: str
    ticks: dict[float, str]
    series: dict[str, dict[str, float]]
    joined: bool


def plan_axis(cells: Sequence[Cell]) -> Plan:
    """Choose an axis: a number that is varied, with a line for each setting of the rest, or a
    place for each setting.

    Where each setting changes one number of the baseline, as heads in one place of the model, each
    number has a line.

    Args:
        cells: one of each setting.
    """
    varied = [key for key in cells[0].axes if len({str(cell.axes[key]) for cell in cells}) > 1]
    numbers = [key for key in varied if all(_is_number(cell.axes[key]) for cell in cells)]
    baseline = next((cell for cell in cells if cell.is_baseline), None)
    series: dict[str, dict[str, float]] = {}
    if (
        numbers == varied
        and len(varied) > 1
        and baseline
        and all(len(_changes(c, baseline, varied)) < 2 for c in cells)
    ):
        for key in varied:
            on_line = [cell for cell in cells if _changes(cell, baseline, varied) in ([key], [])]
            series[_short(key)] = {cell.label: cell.axes[key] for cell in on_line}
        title = _common_word(varied)
    elif numbers:
        key = max(numbers, key=lambda name: len({cell.axes[name] for cell in cells}))
        for cell in cells:
            rest = ", ".join(f"{_short(name)}={cell.axes[name]}" for name in varied if name != key)
            series.setdefault(rest, {})[cell.label] = cell.axes[key]
        title = _title(key)
    if not 0 < len(series) <= len(STYLES):
        places = {cell.label: float(place) for place, cell in enumerate(cells)}
        ticks = {place: label.replace(",", "\n") for label, place in places.items()}
        return Plan(title="", ticks=ticks, series={"": places}, joined=False)
    values = sorted({value for line in series.values() for value in line.values()})
    place = _places(values)
    lines = {
        name: {
            label: place[value] for label, value in sorted(line.items(), key=lambda item: item[1])
        }
        for name, line in series.items()
    }
    return Plan(title=title, ticks={place[v]: f"{v:g}" for v in values}, series=lines, joined=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _places(values: Sequence[float]) -> dict[float, float]:
    """Return where values stand.

    On a scale of powers of two if they may, and then at least 1 apart as a rule.
    """
    if min(values) > 0 and (len(values) < 2 or max(values) / min(values) >= 4):
        return {value: math.log2(value) for value in values}
    unit = min((b - a for a, b in zip(values, values[1:], strict=False)), default=1.0)
    return {value: value / unit for value in values}


def _changes(cell: Cell, baseline: Cell, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if cell.axes[key] != baseline.axes[key]]


def _short(key: str) -> str:
    return key.split(".")[-1].replace("_", " ")


def _title(key: str) -> str:
    short = _short(key)
    return f"number of {short.removeprefix('num ')}" if short.startswith("num ") else short


def _common_word(keys: Sequence[str]) -> str:
    """Return the word that all keys end with: heads, of encoder_heads and cross_heads."""
    last = {_short(key).split()[-1] for key in keys}
    return f"number of {last.pop()}" if len(last) == 1 else "value"


def draw_study(study: Study) -> Figure:
    """Draw the mean of each setting with its 95 % interval, its seeds as dots, and what takes no
    learning as lines."""
    with rc_context(STYLE):
        plan = plan_axis(
            list({cell.label: cell for cell in study.cells}.values())
        )  # unfinished ones keep their place
        figure = Figure(figsize=(WIDTH, 0.5 + PANEL_HEIGHT * len(METRICS)), layout="constrained")
        panels = figure.subplots(len(METRICS), 1, sharex=True)
        for panel, (metric, title) in zip(panels, METRICS.items(), strict=True):
            _draw_settings(panel, study, plan, metric)
            panel.set_ylabel(f"{title} (F1 × 100)")
            panel.grid(axis="y", linewidth=0.3, color="#DDDDDD")
            panel.set_axisbelow(True)
            panel.margins(y=0.08)
            _draw_baselines(
                panel, {name: figures[metric].mean for name, figures in study.baselines.items()}
            )
        crowded = not plan.joined and len(plan.ticks) > 3
        panels[-1].set_xticks(
            list(plan.ticks), list(plan.ticks.values()), rotation=90 if crowded else 0
        )
        panels[-1].set_xlabel(plan.title)
        figure.align_ylabels(panels)
        left, right = min(plan.ticks), max(plan.ticks)
        room = 0.1 * (right - left) or 1.0
        panels[-1].set_xlim(left - room, right + room)
        if len(plan.series) > 1:
            figure.legend(
                *panels[0].get_legend_handles_labels(),
                loc="outside upper center",
                ncols=2,
                frameon=False,
            )
        return figure


def _draw_settings(panel: Axes, study: Study, plan: Plan, metric: str) -> None:
    rows = {row.cell.label: row for row in study.rows}
    span = max(plan.ticks) - min(plan.ticks) or 1.0
    for number, (name, whole) in enumerate(plan.series.items()):
        line = {label: place for label, place in whole.items() if label in rows}
        if not line:
            continue
        colour, mark, stroke = STYLES[number]
        aside = (
            0.045 * span * (number - (len(plan.series) - 1) / 2)
        )  # side by side, where several stand at one place
        places = [place + aside for place in line.values()]
        found = [rows[label].estimates[metric] for label in line]
        reach = [[f.mean - f.low for f in found], [f.high - f.mean for f in found]]
        panel.errorbar(
            places,
            [f.mean for f in found],
            yerr=reach,
            color=colour,
            marker=mark,
            markersize=3.5,
            linestyle=stroke if plan.joined else "none",
            linewidth=1,
            elinewidth=0.8,
            capsize=2,
            label=name,
        )
        dots = [
            (place + 0.03 * span, result.scores["systems"]["model"][metric]["mean"])
            for place, label in zip(places, line, strict=True)
            for result in rows[label].results
        ]
        panel.plot(
            *zip(*dots, strict=True),
            linestyle="none",
            marker=".",
            markersize=4,
            markeredgewidth=0,
            color=colour,
        )


def _draw_baselines(panel: Axes, means: dict[str, float]) -> None:
    """Draw a line each, with its name at the right end, no two names over each other."""
    for mean in means.values():
        panel.axhline(mean, color=BASELINE, linestyle=(0, (4, 2)), linewidth=0.7, zorder=1)
    panel.autoscale_view()
    low, high = panel.get_ylim()
    apart, place = (high - low) * 0.085, -math.inf  # a line of text
    for name, mean in sorted(means.items(), key=lambda item: item[1]):
        place = max(mean, place + apart)
        where = panel.get_yaxis_transform()
        panel.text(1.02, place, name, transform=where, va="center", fontsize=6, color="#555555")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, the same bytes each time.

    Args:
        figure: what to write.
        path: its suffix is the format: svg, pdf or png.
    """
    kind = path.suffix.removeprefix(".")
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with rc_context(STYLE):
        figure.savefig(scratch, format=kind, dpi=300, metadata=NO_DATE[kind])
    os.replace(scratch, path)
