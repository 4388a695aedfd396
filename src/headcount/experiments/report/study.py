"""What a study has found so far.

Its finished trainings, setting by setting, and each compared with the baseline.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headcount.errors import ConfigError
from headcount.escape import one_line
from headcount.evaluation.bootstrap import Figure
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.evaluation.systems import FIGURES
from headcount.experiments.cell import Cell
from headcount.experiments.grid import Grid
from headcount.experiments.launch.local import look
from headcount.experiments.launch.status_table import State
from headcount.experiments.report.statistics import (
    Comparison,
    Estimate,
    Scores,
    compare_family,
    estimate_mean,
)
from headcount.runs.folder import RunFile
from headcount.runs.scores import Scored, read_results

METRICS = dict(zip(ROUGE_TYPES[:3], ("ROUGE-1", "ROUGE-2", "ROUGE-L"), strict=True))


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished training.

    Attributes:
        cell: what was trained.
        scored: its test summaries, example by example.
        scores: the content of its ``scores.json``.
        costs: the content of its ``costs.json``; empty where there is none.
        validation: what the inner axis is chosen by; 0 without one.
    """

    cell: Cell
    scored: Scored
    scores: dict[str, Any]
    costs: dict[str, Any]
    validation: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """A setting of the grid, over its seeds.

    Attributes:
        cells: all of its trainings, finished or not; of an inner axis those with the value that
            was chosen.
        results: those that are finished, in the order of their seeds; at least one.
        estimates: of each of METRICS.
        comparisons: of each of METRICS with the baseline; empty for the baseline, and where no
            seed is in common.
    """

    cells: list[Cell]
    results: list[Result]
    estimates: dict[str, Estimate]
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    @property
    def cell(self) -> Cell:
        """Any of its trainings."""
        return self.cells[0]

    @property
    def seeds(self) -> list[int]:
        """Those that are finished."""
        return [result.cell.seed for result in self.results]

    def cost(self, name: str) -> float | None:
        """Return the mean of a cost over the seeds that have it; None where none has."""
        known = [result.costs[name] for result in self.results if name in result.costs]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study has found so far.

    Attributes:
        grid: its grid.
        cells: all trainings, in the grid's order.
        results: every finished training, in the grid's order.
        unfinished: every other one, and what became of it.
        rows: a setting each, in the grid's order; without those of which nothing is finished.
        baselines: what takes no learning, and people, by name; of each the figure of each of
            METRICS.
        signature: how all was scored.
        examples: how many all are compared on.
    """

    grid: Grid
    cells: list[Cell]
    results: list[Result]
    unfinished: list[tuple[Cell, State]]
    rows: list[Row]
    baselines: dict[str, dict[str, Figure]]
    signature: str
    examples: int

    @property
    def baseline(self) -> Row | None:
        """The setting that all others are compared with, if it has a finished training."""
        return next((row for row in self.rows if row.cell.is_baseline), None)


def read_study(grid: Grid, cells: Sequence[Cell]) -> Study:
    """Read the finished trainings of a study and compare its settings.

    Args:
        grid: the checked grid.
        cells: all of its cells.

    Raises:
        ConfigError: nothing is finished; a finished run folder is damaged; two were not scored
            alike.
    """
    states = [(cell, look(cell)) for cell in cells]
    results = [_read_result(cell, grid) for cell, state in states if state == "finished"]
    if not results:
        raise ConfigError(
            f"{grid.folder}: no training of {len(cells)} is finished; legal: after headcount "
            f"ablate {grid.folder}"
        )
    ids = _shared_examples(results)
    rows = [_make_row(_chosen(label, cells, results), results, ids) for label in _labels(results)]
    _compare(rows, ids)
    first = next((row for row in rows if row.cell.is_baseline), rows[0]).results[0]
    return Study(
        grid=grid,
        cells=list(cells),
        results=results,
        unfinished=[(cell, state) for cell, state in states if state != "finished"],
        rows=rows,
        baselines=_baselines(first.scores["systems"]),
        signature=first.scored.signature,
        examples=len(ids),
    )


def _read_result(cell: Cell, grid: Grid) -> Result:
    scored = read_results(cell.folder)
    path = cell.folder / RunFile.COSTS
    try:
        return Result(
            cell=cell,
            scored=scored,
            scores=json.loads((cell.folder / RunFile.SCORES).read_text(encoding="utf-8")),
            costs=json.loads(path.read_text(encoding="utf-8")) if path.exists() else {},
            validation=_read_validation(cell, grid.select.by) if grid.select else 0.0,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{cell.folder}: damaged results ({type(error).__name__}: {error})"
        ) from None


def _read_validation(cell: Cell, name: str) -> float:
    """Return a validation score of the checkpoint that was kept."""
    kept_by = f"validation/{cell.config.evaluation.select_by}"
    with (cell.folder / RunFile.METRICS).open(encoding="utf-8", newline="") as file:
        validations = [row for row in csv.DictReader(file) if row.get(kept_by)]
    return float(max(validations, key=lambda row: float(row[kept_by]))[name])


def _shared_examples(results: Sequence[Result]) -> list[str]:
    """Return the ids of the examples that all runs have a score of."""
    first = results[0]
    for result in results:
        if result.scored.signature != first.scored.signature:
            raise ConfigError(
                f"{result.cell.folder} and {first.cell.folder} are scored unlike, "
                f"{result.scored.signature} and "
                f"{first.scored.signature}; legal: one signature in a study"
            )
    columns = [FIGURES.index(metric) for metric in METRICS]
    known = [
        {
            name
            for name, row in result.scored.rows.items()
            if np.isfinite(result.scored.values[row, columns]).all()
        }
        for result in results
    ]
    shared = set.intersection(*known)
    if len(shared) < 2:
        raise ConfigError(
            f"{first.cell.folder.parent}: its runs have {len(shared)} test examples in common; "
            "legal: at least 2"
        )
    return [name for name in first.scored.rows if name in shared]


def _labels(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.cell.label for result in results))


def _chosen(label: str, cells: Sequence[Cell], results: Sequence[Result]) -> list[Cell]:
    """Return the cells of a setting.

    Of an inner axis those with the value that did best on validation, over seeds.
    """
    scores: dict[str, list[float]] = {}
    for result in results:
        if result.cell.label == label:
            scores.setdefault(str(result.cell.choice), []).append(result.validation)
    best = max(scores, key=lambda choice: float(np.mean(scores[choice])))
    return [cell for cell in cells if cell.label == label and str(cell.choice) == best]


def _make_row(cells: list[Cell], results: Sequence[Result], ids: Sequence[str]) -> Row:
    names = {cell.name for cell in cells}
    finished = [result for result in results if result.cell.name in names]
    estimates = {metric: estimate_mean(_values(finished, metric, ids)) for metric in METRICS}
    return Row(cells=cells, results=finished, estimates=estimates)


def _values(results: Sequence[Result], metric: str, ids: Sequence[str]) -> Scores:
    """Return a metric of some runs, (seeds, examples)."""
    column = FIGURES.index(metric)
    return np.stack(
        [r.scored.values[[r.scored.rows[name] for name in ids], column] for r in results]
    )


def _compare(rows: Sequence[Row], ids: Sequence[str]) -> None:
    """Compare each setting with the baseline on the seeds that both have.

    All settings and metrics are one family.
    """
    baseline = next((row for row in rows if row.cell.is_baseline), None)
    if baseline is None:
        return
    shared = {row.cell.label: set(row.seeds) & set(baseline.seeds) for row in rows}
    others = [row for row in rows if row is not baseline and shared[row.cell.label]]
    pairs = []
    for metric in METRICS:
        for row in others:
            both = (
                [r for r in each.results if r.cell.seed in shared[row.cell.label]]
                for each in (row, baseline)
            )
            mine, theirs = (_values(results, metric, ids) for results in both)
            pairs.append((mine, theirs))
    asked = [(metric, row) for metric in METRICS for row in others]
    for (metric, row), comparison in zip(asked, compare_family(pairs), strict=True):
        row.comparisons[metric] = comparison


def _baselines(
    systems: dict[str, dict[str, dict[str, float] | None]],
) -> dict[str, dict[str, Figure]]:
    found = {}
    for name, figures in systems.items():
        known = {metric: Figure(**given) for metric in METRICS if (given := figures[metric])}
        if name not in ("model", "shuffled") and len(known) == len(METRICS):
            found[one_line(name)] = known
    return found
