"""The results of a study: its finished trainings, grouped by setting, each setting compared with
the reference cell."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headcount.errors import ConfigError
from headcount.escape import one_line
from headcount.evaluation import bootstrap
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.cell import Cell
from headcount.experiments.grid import Grid
from headcount.experiments.launch.local import read_state
from headcount.experiments.launch.status_table import State
from headcount.experiments.report.statistics import (
    Comparison,
    Estimate,
    Scores,
    compare_family,
    estimate_mean,
)
from headcount.runs.checkpoint import selection_key
from headcount.runs.folder import RunFile
from headcount.runs.scores import Scored, read_results

METRICS = dict(zip(ROUGE_TYPES[:3], ("ROUGE-1", "ROUGE-2", "ROUGE-L"), strict=True))


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished training.

    Attributes:
        cell: what was trained.
        scored: the scores of its test summaries, by example.
        scores: the content of its ``scores.json``.
        costs: the content of its ``costs.json``; empty if there is none.
        validation: the score that selects a value of the inner axis; 0 without one.
    """

    cell: Cell
    scored: Scored
    scores: dict[str, Any]
    costs: dict[str, Any]
    validation: float


@dataclass(frozen=True, kw_only=True)
class SettingResult:
    """A setting of the grid, over its seeds.

    Attributes:
        cells: all of its trainings, finished or not; with an inner axis only those with the
            selected value.
        results: the finished ones, in the order of their seeds; at least one.
        estimates: the mean of each of METRICS.
        comparisons: of each of METRICS with the reference cell; empty for the reference cell
            itself, and without a common seed.
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
        """The seeds of the finished trainings."""
        return [result.cell.seed for result in self.results]

    def cost(self, name: str) -> float | None:
        """Return the mean of a cost over the seeds that have it; None if none has it."""
        known = [result.costs[name] for result in self.results if name in result.costs]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Study:
    """The results of a study, also of a half-finished one.

    Attributes:
        grid: its grid.
        cells: all trainings, in the grid's order.
        results: every finished training, in the grid's order.
        unfinished: every other training with its state.
        settings: in the grid's order, without those that have no finished training.
        baselines: the extractive baselines and the human row, by name; of each its score by
            METRICS.
        signature: how everything was scored.
        examples: number of test examples that all trainings are compared on.
    """

    grid: Grid
    cells: list[Cell]
    results: list[Result]
    unfinished: list[tuple[Cell, State]]
    settings: list[SettingResult]
    baselines: dict[str, dict[str, bootstrap.Estimate]]
    signature: str
    examples: int

    @property
    def reference_cell(self) -> SettingResult | None:
        """The setting that all others are compared with, if it has a finished training."""
        return _find_reference(self.settings)


def read_study(grid: Grid, cells: Sequence[Cell]) -> Study:
    """Read the finished trainings of a study and compare its settings.

    Args:
        grid: the checked grid.
        cells: all of its cells.

    Raises:
        ConfigError: nothing is finished, a finished run folder is damaged, or two trainings were
            scored differently.
    """
    results = []
    unfinished: list[tuple[Cell, State]] = []
    for cell in cells:
        state = read_state(cell)
        if state == "finished":
            results.append(_read_result(cell, grid))
        else:
            unfinished.append((cell, state))
    if not results:
        raise ConfigError(
            f"{grid.folder}: no training of {len(cells)} is finished; legal: after headcount "
            f"ablate {grid.folder}"
        )

    # One result for each setting, compared on the examples that all trainings have.
    ids = _shared_examples(results)
    settings = []
    for label in dict.fromkeys(result.cell.label for result in results):
        selected = _select_cells(label, cells, results)
        settings.append(_summarize_setting(selected, results, ids))
    _compare(settings, ids)

    # Baselines are the same for all trainings.
    first = (_find_reference(settings) or settings[0]).results[0]
    return Study(
        grid=grid,
        cells=list(cells),
        results=results,
        unfinished=unfinished,
        settings=settings,
        baselines=_read_baselines(first.scores["systems"]),
        signature=first.scored.signature,
        examples=len(ids),
    )


def _read_result(cell: Cell, grid: Grid) -> Result:
    scored = read_results(cell.folder)
    costs = cell.folder / RunFile.COSTS
    try:
        return Result(
            cell=cell,
            scored=scored,
            scores=json.loads((cell.folder / RunFile.SCORES).read_text(encoding="utf-8")),
            costs=json.loads(costs.read_text(encoding="utf-8")) if costs.exists() else {},
            validation=_read_validation(cell, grid.select.by) if grid.select else 0.0,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{cell.folder}: damaged results ({type(error).__name__}: {error})"
        ) from None


def _read_validation(cell: Cell, name: str) -> float:
    """Return a validation score of the selected checkpoint."""
    criterion = f"validation/{cell.config.evaluation.select_by}"
    with (cell.folder / RunFile.METRICS).open(encoding="utf-8", newline="") as file:
        validations = [row for row in csv.DictReader(file) if row.get(criterion)]

    # Of equal ones ``max`` takes the first; the checkpoint is that of the latest.
    def key(row: dict[str, str]) -> tuple[float, float]:
        return selection_key(float(row[criterion]), float(row["validation/loss"]))

    return float(max(reversed(validations), key=key)[name])


def _shared_examples(results: Sequence[Result]) -> list[str]:
    """Return the ids of the examples that all trainings have a score for."""
    first = results[0]
    for result in results:
        if result.scored.signature != first.scored.signature:
            raise ConfigError(
                f"{result.cell.folder} and {first.cell.folder} are scored unlike, "
                f"{result.scored.signature} and "
                f"{first.scored.signature}; legal: one signature in a study"
            )

    columns = [EXAMPLE_METRICS.index(metric) for metric in METRICS]
    shared = set(first.scored.rows)
    for result in results:
        are_known = np.isfinite(result.scored.values[:, columns])
        shared &= {name for name, row in result.scored.rows.items() if are_known[row].all()}

    if len(shared) < 2:
        raise ConfigError(
            f"{first.cell.folder.parent}: its runs have {len(shared)} test examples in common; "
            "legal: at least 2"
        )
    return [name for name in first.scored.rows if name in shared]


def _select_cells(label: str, cells: Sequence[Cell], results: Sequence[Result]) -> list[Cell]:
    """Return the cells of a setting.

    With an inner axis, those with the value that has the best mean validation score over seeds.
    """
    scores: dict[str, list[float]] = {}
    for result in results:
        if result.cell.label == label:
            scores.setdefault(str(result.cell.choice), []).append(result.validation)
    best = max(scores, key=lambda choice: float(np.mean(scores[choice])))
    return [cell for cell in cells if cell.label == label and str(cell.choice) == best]


def _summarize_setting(
    cells: list[Cell], results: Sequence[Result], ids: Sequence[str]
) -> SettingResult:
    names = {cell.name for cell in cells}
    finished = [result for result in results if result.cell.name in names]
    estimates = {metric: estimate_mean(_scores(finished, metric, ids)) for metric in METRICS}
    return SettingResult(cells=cells, results=finished, estimates=estimates)


def _scores(results: Sequence[Result], metric: str, ids: Sequence[str]) -> Scores:
    """Return a metric of some trainings, (seeds, examples)."""
    column = EXAMPLE_METRICS.index(metric)
    scores = []
    for result in results:
        rows = [result.scored.rows[name] for name in ids]
        scores.append(result.scored.values[rows, column])
    return np.stack(scores)


def _find_reference(settings: Sequence[SettingResult]) -> SettingResult | None:
    return next((setting for setting in settings if setting.cell.is_reference), None)


def _compare(settings: Sequence[SettingResult], ids: Sequence[str]) -> None:
    """Compare each setting with the reference cell on their common seeds.

    All settings and metrics are one family.
    """
    reference = _find_reference(settings)
    if reference is None:
        return

    # Pair the scores of each setting and metric by seed.
    compared = []
    pairs = []
    for metric in METRICS:
        for setting in settings:
            common = set(setting.seeds) & set(reference.seeds)
            if setting is reference or not common:
                continue
            cell_results = [r for r in setting.results if r.cell.seed in common]
            reference_results = [r for r in reference.results if r.cell.seed in common]
            cell_scores = _scores(cell_results, metric, ids)
            pairs.append((cell_scores, _scores(reference_results, metric, ids)))
            compared.append((setting, metric))

    for (setting, metric), comparison in zip(compared, compare_family(pairs), strict=True):
        setting.comparisons[metric] = comparison


def _read_baselines(
    systems: dict[str, dict[str, dict[str, float] | None]],
) -> dict[str, dict[str, bootstrap.Estimate]]:
    """Return the systems that are no model and have all of METRICS."""
    baselines = {}
    for name, scores in systems.items():
        known = {
            metric: bootstrap.Estimate(**given) for metric in METRICS if (given := scores[metric])
        }
        if name not in ("model", "shuffled") and len(known) == len(METRICS):
            baselines[one_line(name)] = known
    return baselines
