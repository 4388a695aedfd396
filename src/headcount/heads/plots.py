"""The plots of an analysis of heads: heat maps, pruning curves, and the attention of each head on
one document."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from headcount.heads.analysis import SCOPE_ALL, Analysis, HeadResult
from headcount.heads.attention_maps import AttentionMap
from headcount.plot_style import STYLE, save_figure

Values = NDArray[np.float64]
FORMATS = ("svg", "pdf", "png")


@dataclass(frozen=True, kw_only=True)
class Line:
    """How the curve of an order is drawn.

    Attributes:
        color: from the palette for colour-blind readers of Okabe and Ito (2008).
        marker: matplotlib's marker of the points.
        dashes: matplotlib's style of the line.
        label: text in the legend.
        width: width of the line, in points.
    """

    color: str
    marker: str
    dashes: str
    label: str
    width: float = 1.2

    @property
    def style(self) -> dict[str, Any]:
        """Arguments of matplotlib's ``plot``."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.dashes,
            "linewidth": self.width,
            "markersize": 3,
        }


LINES = {
    "gradient": Line(color="#0072B2", marker="o", dashes="-", label="gradient importance"),
    "one_off": Line(color="#D55E00", marker="s", dashes="--", label="loss without the head"),
    "confidence": Line(color="#CC79A7", marker="^", dashes="-.", label="confidence"),
    "gates": Line(color="#009E73", marker="D", dashes="-", label="learned gates"),
    "reverse": Line(
        color="#000000", marker="x", dashes=":", label="reverse of loss without", width=0.9
    ),
}
HEAT_MAP_MEASURES: dict[str, Callable[[HeadResult], float]] = {
    "importance (normalized)": lambda result: result.normalized_importance,
    "change of loss, head off": lambda result: result.loss_changes["zero"].mean,
    "change of ROUGE, head off": lambda result: result.rouge_changes["zero"].mean,
    "confidence": lambda result: result.confidence,
}


def save_plot(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Save a plot as SVG, PDF and PNG, and return the paths."""
    paths = [folder / f"{name}.{suffix}" for suffix in FORMATS]
    for path in paths:
        save_figure(figure, path)
    return paths


def draw_heat_maps(analysis: Analysis) -> Figure:
    """Draw a heat map of layers x heads for every measure (rows) and site (columns)."""
    sites = analysis.sites
    with rc_context(STYLE):
        size = (1.2 + 1.9 * len(sites), 0.5 + 1.25 * len(HEAT_MAP_MEASURES))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(HEAT_MAP_MEASURES), len(sites), squeeze=False)

        # The panels of a measure share a colour scale; for a change it is symmetric around zero.
        for number, (title, measure) in enumerate(HEAT_MAP_MEASURES.items()):
            row = panels[number]
            grids = [_grid(analysis, site, measure) for site in sites]
            limit = max(float(np.nanmax(np.abs(grid))) for grid in grids) or 1.0
            is_change = title.startswith("change")
            for panel, site, grid in zip(row, sites, grids, strict=True):
                image = panel.imshow(
                    grid,
                    cmap="PuOr_r" if is_change else "cividis",
                    vmin=-limit if is_change else 0.0,
                    vmax=limit,
                    aspect="auto",
                )
                panel.set_xticks(range(grid.shape[1]))
                panel.set_yticks(range(grid.shape[0]))
                panel.set_title(site if number == 0 else "")
                panel.set_xlabel("head" if number == len(HEAT_MAP_MEASURES) - 1 else "")
            row[0].set_ylabel("layer")
            figure.colorbar(image, ax=list(row), label=title, shrink=0.9)
    return figure


def _grid(analysis: Analysis, site: str, measure: Callable[[HeadResult], float]) -> Values:
    """Return a measure as [layers, heads]; NaN where a pruned layer has fewer heads."""
    results = [result for result in analysis.heads if result.head.site == site]
    layers = 1 + max(result.head.layer for result in results)
    heads = 1 + max(result.head.index for result in results)
    grid = np.full((layers, heads), np.nan)
    for result in results:
        grid[result.head.layer, result.head.index] = measure(result)
    return grid


def draw_curves(analysis: Analysis) -> Figure:
    """Draw ROUGE against the number of heads kept, with the range of the random orders, one panel
    for each scope."""
    scopes = list(dict.fromkeys(curve.scope for curve in analysis.curves))
    with rc_context(STYLE):
        figure, panels = panel_grid(len(scopes))
        for panel, scope in zip(panels, scopes, strict=True):
            _draw_scope(panel, analysis, scope)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def panel_grid(number: int) -> tuple[Figure, list[Any]]:
    """Return a figure with a number of panels, at most two in a row, with a common y-axis."""
    columns = max(1, min(2, number))
    rows = max(1, -(-number // columns))
    figure = Figure(figsize=(3.3 * columns, 0.4 + 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel in panels.flat[number:]:
        panel.set_axis_off()
    return figure, list(panels.flat[:number])


def scope_title(scope: str) -> str:
    """Return the title of the panel of a scope."""
    return "all heads" if scope == SCOPE_ALL else f"{scope} heads only"


def _draw_scope(panel: Any, analysis: Analysis, scope: str) -> None:
    curves = [curve for curve in analysis.curves if curve.scope == scope]
    kept = [point.kept for point in curves[0].points]

    # Random orders as a band from the lowest to the highest.
    random = [curve for curve in curves if curve.order.startswith("random")]
    scores = np.array([[point.score for point in curve.points] for curve in random])
    panel.fill_between(
        kept,
        scores.min(0),
        scores.max(0),
        color="#999999",
        alpha=0.35,
        linewidth=0,
        label=f"{len(random)} random orders",
    )

    # A line for each method and for the reverse control.
    for curve in curves:
        if curve.order in LINES:
            line = LINES[curve.order]
            values = [point.score for point in curve.points]
            panel.plot(kept, values, label=line.label, **line.style)

    panel.axhline(analysis.score, color="#767676", linewidth=0.6)
    panel.set_title(scope_title(scope), loc="left")
    panel.set_xticks(kept)
    panel.set_xlabel("heads kept")
    panel.set_ylabel(analysis.rouge)


def draw_attention(
    maps: Sequence[AttentionMap], results: Sequence[HeadResult], *, columns: int = 8
) -> Figure:
    """Draw small multiples of every head's attention on one document, sorted by site and role.

    Args:
        maps: of all blocks on the document.
        results: of the heads, for their roles.
        columns: panels in a row.
    """
    by_block = {attention.block: attention for attention in maps}

    # Sites keep their order. Within a site, heads of the same role are adjacent, and those without
    # one come last: "~" sorts after every letter.
    sites = list(dict.fromkeys(result.head.site for result in results))

    def panel_order(index: int) -> tuple[int, list[str], int]:
        result = results[index]
        return sites.index(result.head.site), result.held_roles[:1] or ["~"], index

    order = sorted(range(len(results)), key=panel_order)
    columns = min(columns, len(order))
    rows = math.ceil(len(order) / columns)

    with rc_context(STYLE):
        figure = Figure(figsize=(0.95 * columns, 1.15 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for panel in panels.flat:
            panel.set_axis_off()
        for panel, index in zip(panels.flat, order, strict=False):
            head = results[index].head
            weights = by_block[head.block].weights[head.index]
            panel.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            role = results[index].held_roles[:1]
            panel.set_title(f"{head}\n{role[0] if role else ' '}", fontsize=5)
    return figure
