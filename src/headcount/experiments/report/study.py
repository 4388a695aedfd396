"""The results of a study: its finished trainings, grouped by setting, each setting compared with
the reference cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headcount.errors import ConfigError
from headcount.escape import one_line
from headcount.evaluation import bootstrap
from headcount.evaluation.corpus_metrics import CORPUS_METRICS
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.cell import Cell
from headcount.experiments.grid import COMPARED, Grid
from headcount.experiments.launch.local import read_state
from headcount.experiments.launch.status_table import State
from headcount.experiments.report.results import MODEL, Result, read_result
from headcount.experiments.report.sequential import plan_looks
from headcount.experiments.report.statistics import (
    CellComparison,
    Scores,
    StudyEstimate,
    compare_family,
    estimate_mean,
)
from headcount.experiments.seeds import AddedSeeds

METRICS = dict(zip(COMPARED, ("ROUGE-1", "ROUGE-2", "ROUGE-L"), strict=True))
ABBREVIATIONS = {"rouge1": "R1", "rouge2": "R2", "rougeL": "RL"}
# Systems of a run that are not baselines of a study.
SYSTEMS_OF_THE_MODEL = (MODEL, "shuffled")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A value of the inner axis in a setting.

    Attributes:
        choice: the inner axis with this value.
        scores: validation scores of the finished trainings, in the order of their seeds.
        trainings: number of all trainings, finished or not.
        is_selected: whether the setting is reported with this value.
    """

    choice: dict[str, Any]
    scores: list[float]
    trainings: int
    is_selected: bool

    @property
    def mean(self) -> float | None:
        """The mean of the scores; None if no training is finished."""
        return float(np.mean(self.scores)) if self.scores else None


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
        candidates: the values of the inner axis, in the grid's order; empty without one.
    """

    cells: list[Cell]
    results: list[Result]
    estimates: dict[str, StudyEstimate]
    comparisons: dict[str, CellComparison] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)

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
        known = []
        for result in self.results:
            value = result.costs.get(name)
            if isinstance(value, int | float):
                known.append(value)
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
        added: seeds that were added after the launch.
    """

    grid: Grid
    cells: list[Cell]
    results: list[Result]
    unfinished: list[tuple[Cell, State]]
    settings: list[SettingResult]
    baselines: dict[str, dict[str, bootstrap.Estimate]]
    signature: str
    examples: int
    added: AddedSeeds = field(default_factory=AddedSeeds)

    @property
    def corpus_metrics(self) -> list[str]:
        """The metrics of the whole corpus, BLEU and chrF, that all trainings have computed."""
        computed: list[str] = []
        for name in CORPUS_METRICS:
            if all(result.systems[MODEL].get(name) for result in self.results):
                computed.append(name)
        return computed

    @property
    def reference_cell(self) -> SettingResult | None:
        """The setting that all others are compared with, if it has a finished training."""
        return _find_reference(self.settings)

    @property
    def usual_seeds(self) -> list[int]:
        """The finished seeds of the reference cell; without one, those of all settings."""
        if self.reference_cell is not None:
            return self.reference_cell.seeds
        return sorted({seed for setting in self.settings for seed in setting.seeds})


def read_study(grid: Grid, cells: Sequence[Cell], added: AddedSeeds | None = None) -> Study:
    """Read the finished trainings of a study and compare its settings.

    Args:
        grid: the checked grid.
        cells: all of its cells, those of added seeds too.
        added: what was added, with the verdicts of the sequential rule.

    Raises:
        ConfigError: nothing is finished, a finished run folder is damaged, or two trainings had
            different data or were scored differently.
    """
    results = []
    unfinished: list[tuple[Cell, State]] = []
    for cell in cells:
        state = read_state(cell)
        if state == "finished":
            results.append(read_result(cell, grid))
        else:
            unfinished.append((cell, state))
    if not results:
        raise ConfigError(
            f"{grid.folder}: no training of {len(cells)} is finished; legal: after headcount "
            f"ablate {grid.folder}"
        )

    # Average each setting over its seeds, and compare it on the examples that all have scored.
    _check_comparable(results)
    ids = _shared_examples(results)
    settings = []
    for label in dict.fromkeys(result.cell.label for result in results):
        of_setting = [cell for cell in cells if cell.label == label]
        candidates = _find_candidates(of_setting, results)
        [choice] = [each.choice for each in candidates if each.is_selected]
        selected = [cell for cell in of_setting if cell.choice == choice]
        shown = candidates if grid.select else []
        settings.append(_summarize_setting(selected, results, ids, shown))
    _compare(settings, ids, grid)
    added = added or AddedSeeds()
    _apply_decisions(settings, added, grid)

    # Baselines have the same scores in all trainings.
    first = (_find_reference(settings) or settings[0]).results[0]
    return Study(
        grid=grid,
        cells=list(cells),
        results=results,
        unfinished=unfinished,
        settings=settings,
        baselines=_baselines(first.systems),
        signature=first.scored.signature,
        examples=len(ids),
        added=added,
    )


def _check_comparable(results: Sequence[Result]) -> None:
    """Check that all trainings had the same data, test examples and signature.

    Raises:
        ConfigError: two of them differ; they are named.
    """
    first = results[0]
    for result in results:
        # Equality is transitive, so that comparing each with the first one is enough.
        both = f"{result.cell.folder} and {first.cell.folder}"
        if result.data != first.data:
            raise ConfigError(
                f"{both} have different data (SHA-256 in data.json); legal: one data set in a "
                "study"
            )

        if result.scored.signature != first.scored.signature:
            raise ConfigError(
                f"{both} are scored differently, {result.scored.signature} and "
                f"{first.scored.signature}; legal: one signature in a study"
            )

        different = _different_examples(result, first)
        if different:
            raise ConfigError(
                f"{both} are scored on different examples: {len(different)} of them, as "
                f"{different[0][:100]}, are missing in one or have other references; legal: one "
                "test set in a study"
            )


def _different_examples(result: Result, other: Result) -> list[str]:
    """Return the ids that only one of two trainings has, or whose references differ."""
    references = result.scored.references
    other_references = other.scored.references
    ids = {**references, **other_references}
    return [name for name in ids if references.get(name) != other_references.get(name)]


def _shared_examples(results: Sequence[Result]) -> list[str]:
    """Return the ids of the examples that have a score: those without a reference have none."""
    columns = [EXAMPLE_METRICS.index(metric) for metric in METRICS]
    first = results[0]
    shared = set(first.scored.rows)
    for result in results:
        are_known = np.isfinite(result.scored.values[:, columns])
        shared &= {name for name, row in result.scored.rows.items() if are_known[row].all()}

    if len(shared) < 2:
        raise ConfigError(
            f"{first.cell.folder.parent}: its runs have {len(shared)} test examples with a score; "
            "legal: at least 2"
        )
    return [name for name in first.scored.rows if name in shared]


def _find_candidates(cells: Sequence[Cell], results: Sequence[Result]) -> list[Candidate]:
    """Return the values of the inner axis in a setting; without one, a single candidate.

    The selected one has the best mean validation score among those with the most finished
    trainings: the mean of fewer seeds may be the highest by chance.

    Args:
        cells: of the setting.
        results: of the study.
    """
    # The trainings of each value, and the scores of the finished ones.
    score_of = {result.cell.name: result.validation for result in results}
    choices: list[dict[str, Any]] = []
    for cell in cells:
        if cell.choice not in choices:
            choices.append(cell.choice)
    candidates = []
    for choice in choices:
        names = [cell.name for cell in cells if cell.choice == choice]
        scores = [score_of[name] for name in names if name in score_of]
        candidates.append(
            Candidate(choice=choice, scores=scores, trainings=len(names), is_selected=False)
        )

    # ``max`` returns the first of equal values.
    best = max(candidates, key=lambda each: (len(each.scores), each.mean or 0.0))
    return [replace(each, is_selected=each is best) for each in candidates]


def _summarize_setting(
    cells: list[Cell], results: Sequence[Result], ids: Sequence[str], candidates: list[Candidate]
) -> SettingResult:
    names = {cell.name for cell in cells}
    finished = [result for result in results if result.cell.name in names]
    estimates = {metric: estimate_mean(_scores(finished, metric, ids)) for metric in METRICS}
    return SettingResult(cells=cells, results=finished, estimates=estimates, candidates=candidates)


def _scores(results: Sequence[Result], metric: str, ids: Sequence[str]) -> Scores:
    """Return a metric of some trainings, (seeds, examples)."""
    column = EXAMPLE_METRICS.index(metric)
    scores = []
    for result in results:
        rows = [result.scored.rows[name] for name in ids]
        scores.append(result.scored.values[rows, column])
    return np.stack(scores)


def count_planned(grid: Grid) -> int:
    """Return how many settings a study compares with the reference cell when it is finished."""
    return len(grid.settings) - 1


def _find_reference(settings: Sequence[SettingResult]) -> SettingResult | None:
    return next((setting for setting in settings if setting.cell.is_reference), None)


def _compare(settings: Sequence[SettingResult], ids: Sequence[str], grid: Grid) -> None:
    """Compare each setting with the reference cell on their common seeds.

    All settings of the grid and metrics are one family, also those that have no results yet; those
    with a margin are another one, for equivalence.
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
            reference_scores = _scores(reference_results, metric, ids)
            pairs.append((cell_scores, reference_scores))
            compared.append((setting, metric))

    # Settings that cannot be compared yet belong to the family, too.
    pending = count_planned(grid) - len(pairs) // len(METRICS)
    pending_margins = [grid.margin.get(metric) for metric in METRICS] * pending
    margins = [grid.margin.get(metric) for _, metric in compared]
    comparisons = compare_family(pairs, margins, pending_margins)
    for (setting, metric), comparison in zip(compared, comparisons, strict=True):
        setting.comparisons[metric] = comparison


def _apply_decisions(settings: Sequence[SettingResult], added: AddedSeeds, grid: Grid) -> None:
    """Set the verdicts of the sequential rule, if there was a look."""
    # A later look tests only what earlier ones left undecided, so the last verdict holds.
    for look in added.looks:
        for setting in settings:
            for metric, verdict in look.verdicts.get(setting.cell.label, {}).items():
                if metric in setting.comparisons:
                    setting.comparisons[metric] = replace(
                        setting.comparisons[metric], decision=verdict, decision_seeds=look.seeds
                    )

    # A setting that is decided in each metric with a margin is not looked at again.
    plan = plan_looks(len(grid.seeds))
    if len(added.looks) == len(plan):
        return
    open_labels = added.undecided(grid.margin)
    for setting in settings:
        for metric, comparison in setting.comparisons.items():
            if comparison.decision == "undecided" and setting.cell.label in open_labels:
                setting.comparisons[metric] = replace(
                    comparison, next_look_seeds=plan[len(added.looks)]
                )


def _baselines(
    systems: dict[str, dict[str, bootstrap.Estimate | None]],
) -> dict[str, dict[str, bootstrap.Estimate]]:
    """Return the extractive baselines and the human row that have all of METRICS."""
    baselines = {}
    for name, scores in systems.items():
        if name in SYSTEMS_OF_THE_MODEL:
            continue
        known = {}
        for metric in METRICS:
            score = scores.get(metric)
            if score is not None:
                known[metric] = score
        if len(known) == len(METRICS):
            baselines[one_line(name)] = known
    return baselines
