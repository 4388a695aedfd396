"""``headcount ablate --until-decided``: adds seeds where a study is undecided, by the
group-sequential rule of ``report/sequential.py``.

A comparison is decided when it is better, worse, or equal within the margin, in every metric with
a margin. Each look trains the undecided settings and the reference cell with more seeds. Looks and
seeds are recorded, so that the same command resumes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.grid import Grid
from headcount.experiments.launch.local import Launch, read_state
from headcount.experiments.report.results import read_result
from headcount.experiments.report.sequential import plan_looks, reject
from headcount.experiments.report.statistics import MIN_SEEDS, CellComparison
from headcount.experiments.report.study import Study, read_study
from headcount.experiments.seeds import (
    AddedSeeds,
    Look,
    Usage,
    extend_cells,
    lock_added_seeds,
    read_added_seeds,
    write_added_seeds,
)
from headcount.experiments.verdicts import Verdict
from headcount.terminal import print_on
from headcount.wording import count_nouns

HOUR = 3600  # seconds

Verdicts = dict[str, dict[str, Verdict]]  # by label and metric


def train_until_decided(
    grid: Grid, cells: Sequence[Cell], *, workers: int, budget: float | None, console: Console
) -> int:
    """Train a study, and add seeds to undecided settings until all are decided.

    Args:
        grid: the checked grid.
        cells: of the grid, without additions.
        workers: trainings at a time.
        budget: hours of this and all earlier launches after which no more seeds are added; those
            of the grid are trained in any case. None: no limit.
        console: where to show it.

    Returns:
        An exit status: 0 if all trainings are finished, whatever is undecided.

    Raises:
        ConfigError: the rule does not apply to the study, or no longer, because seeds were added
            by hand; a file of a training, or the record of added seeds, is damaged.
    """
    looks = plan_looks(len(grid.seeds))
    while True:
        # After a look, undecided settings get the seeds of the next one, within the budget.
        with lock_added_seeds(cells):
            added = _read_checked(grid, cells)
            is_over = _is_over(grid, added, looks)
            if added.looks and not is_over:
                added = _add_seeds(grid, added, looks)
                hours_used = added.usage.hours
                extended = extend_cells(grid, cells, added)
                hours_needed = _hours_needed(grid, extended, added.usage, workers)
                if budget is not None and hours_used + hours_needed > budget:
                    print_on(
                        console,
                        f"--budget {budget:g}: {hours_used:.1f} hours are used, those of earlier "
                        f"launches too, and the next look would take about {hours_needed:.1f}; "
                        "the same command with a larger budget continues",
                    )
                    return 0
                write_added_seeds(cells, added)

        # Train what is not finished. The hours count also if that fails or is stopped.
        extended = extend_cells(grid, cells, added)
        open_before = _count_open(extended)
        begin = time.monotonic()
        try:
            status = Launch(extended, grid.name, workers=workers, console=console).run()
        finally:
            if open_before:
                hours = (time.monotonic() - begin) / HOUR
                trainings = open_before - _count_open(extended)
                _record_usage(grid, cells, hours, workers=workers, trainings=trainings)
        if status != 0 or is_over:
            return status

        # Look at the results, and record the verdicts, unless another launch just has.
        looks_before = len(added.looks)
        with lock_added_seeds(cells):
            added = _read_checked(grid, cells)
            if len(added.looks) > looks_before:
                continue
            look = take_look(read_study(grid, extended), added, looks)
            added = replace(added, looks=[*added.looks, look])
            write_added_seeds(cells, added)
        undecided = count_nouns(len(added.undecided(grid.margin)), "setting")
        print_on(console, f"\nlook after {look.seeds} seeds: {undecided} undecided")


def _read_checked(grid: Grid, cells: Sequence[Cell]) -> AddedSeeds:
    """Return what was added to a study; others may have added seeds by hand since it was launched.

    Raises:
        ConfigError: the rule does not apply to the study.
    """
    added = read_added_seeds(grid, cells)
    check_rule(grid, added)
    return added


def _is_over(grid: Grid, added: AddedSeeds, looks: Sequence[int]) -> bool:
    """Whether all settings are decided, or the last look has been taken."""
    if not added.looks:
        return False
    return not added.undecided(grid.margin) or len(added.looks) == len(looks)


def check_rule(grid: Grid, added: AddedSeeds) -> None:
    """Check that the rule applies to a study, and that its error rate would hold.

    Raises:
        ConfigError: it does not, with the reason.
    """
    # The grid.
    if not grid.margin:
        raise ConfigError(
            f"{grid.file}: margin is missing: without one, nothing is ever equal; legal with "
            "--until-decided: margin: {rougeL: 0.5}"
        )
    if grid.select:
        raise ConfigError(
            f"{grid.file}: select: the sequential rule knows no inner axis; legal with "
            "--until-decided: a grid without select"
        )
    if len(grid.seeds) < MIN_SEEDS:
        raise ConfigError(
            f"{grid.file}: seeds={grid.seeds}: too few for a first look at how seeds vary; legal "
            f"with --until-decided: {MIN_SEEDS} seeds, as [0, 1, 2]"
        )

    # What was done by hand.
    if added.by_hand:
        raise ConfigError(
            f"{grid.folder}: seeds {added.by_hand} were added by hand, so that the error rate of "
            "--until-decided would not hold; legal: a study without them"
        )


def take_look(study: Study, added: AddedSeeds, looks: Sequence[int]) -> Look:
    """Return the verdicts of a look.

    Two families are tested: that a difference is zero, over all metrics, and that it is as large
    as the margin, over the metrics with one. Settings that an earlier look has decided are not
    tested again.

    Args:
        study: its results so far.
        added: with the earlier looks.
        looks: the plan: number of seeds at each.
    """
    number = len(added.looks)
    earlier = added.verdicts()
    by_label = {setting.cell.label: setting for setting in study.settings if setting.comparisons}
    comparisons: dict[tuple[str, str], CellComparison] = {}
    for setting in by_label.values():
        for metric, comparison in setting.comparisons.items():
            comparisons[setting.cell.label, metric] = comparison

    # What earlier looks have rejected, and what is still tested.
    different = set()
    equal = set()
    for pair in comparisons:
        verdict = _earlier(earlier, pair)
        if verdict in ("better", "worse"):
            different.add(pair)
        elif verdict == "equal within the margin":
            equal.add(pair)
    open_labels = added.undecided(study.grid.margin) if number else {*by_label}
    tested = []
    for pair in comparisons:
        label, _ = pair
        if label in open_labels and pair not in different | equal:
            tested.append(pair)
    with_margin = [pair for pair in comparisons if comparisons[pair].margin is not None]

    # Test them at the levels of this look, each family by itself.
    new_different = reject(
        {pair: comparisons[pair].p for pair in tested},
        open_hypotheses=len(comparisons) - len(different),
        look=number,
        looks=tuple(looks),
    )
    new_equal = reject(
        {pair: p for pair in tested if (p := comparisons[pair].equivalence_p) is not None},
        open_hypotheses=len(with_margin) - len(equal),
        look=number,
        looks=tuple(looks),
    )

    # What is rejected by both tests is equal within the margin: it is different, but too little.
    verdicts: Verdicts = {}
    for pair in tested:
        label, metric = pair
        verdicts.setdefault(label, {})[metric] = "undecided"
        if pair in new_equal:
            verdicts[label][metric] = "equal within the margin"
        elif pair in new_different:
            is_better = comparisons[pair].difference.mean > 0
            verdicts[label][metric] = "better" if is_better else "worse"
    return Look(
        seeds=looks[number],
        verdicts=verdicts,
        reference_cell=study.grid.label(study.grid.reference_cell),
        margin=study.grid.margin,
        trainings=[result.cell.folder.name for result in study.results],
    )


def _earlier(verdicts: Verdicts, pair: tuple[str, str]) -> Verdict | None:
    label, metric = pair
    return verdicts.get(label, {}).get(metric)


def _add_seeds(grid: Grid, added: AddedSeeds, looks: Sequence[int]) -> AddedSeeds:
    """Return the additions with which undecided settings and the reference cell have the seeds of
    the next look.

    New seeds are the whole numbers that follow the largest one.
    """
    total = looks[len(added.looks)]
    first = max(grid.seeds) + 1
    seeds = list(range(first, first + total - len(grid.seeds)))
    by_rule = dict(added.by_rule)
    for label in [grid.label(grid.reference_cell), *added.undecided(grid.margin)]:
        by_rule[label] = seeds
    return replace(added, by_rule=by_rule)


def _count_open(cells: Sequence[Cell]) -> int:
    return sum(read_state(cell) != "finished" for cell in cells)


def _record_usage(
    grid: Grid, cells: Sequence[Cell], hours: float, *, workers: int, trainings: int
) -> None:
    """Add the hours of a launch to the record of a study."""
    with lock_added_seeds(cells):
        added = read_added_seeds(grid, cells)
        usage = Usage(
            hours=added.usage.hours + hours,
            worker_hours=added.usage.worker_hours + hours * workers,
            trainings=added.usage.trainings + trainings,
        )
        write_added_seeds(cells, replace(added, usage=usage))


def _hours_needed(grid: Grid, cells: Sequence[Cell], usage: Usage, workers: int) -> float:
    """Return the hours of the open trainings, each as long as those of earlier launches on
    average, from their start to their scores.

    If earlier launches have finished none, because the study was trained without this rule, each
    is as long as the training steps and the decoding that finished runs have recorded.
    """
    number_open = _count_open(cells)
    if usage.trainings:
        return number_open * usage.worker_hours / usage.trainings / workers

    seconds = []
    for cell in cells:
        if read_state(cell) == "finished":
            result = read_result(cell, grid)
            training = result.costs.get("training_seconds")
            decoding = result.costs.get("decode_ms_per_summary")
            if isinstance(training, int | float) and isinstance(decoding, int | float):
                seconds.append(training + decoding / 1000 * len(result.scored.rows))
    if not seconds:
        return 0.0
    return number_open * sum(seconds) / len(seconds) / workers / HOUR
