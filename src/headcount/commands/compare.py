"""The command that compares runs, example by example."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headcount.errors import ConfigError
from headcount.evaluation.bootstrap import differences, holm
from headcount.evaluation.rouge import ROUGE_TITLES, ROUGE_TYPES
from headcount.evaluation.systems import EXAMPLE_METRICS, System
from headcount.evaluation.tables import print_differences, print_systems
from headcount.runs.scores import Scored, read_results
from headcount.terminal import make_console

RESAMPLES = 10_000  # p-values are no finer than one in as many


def compare(folders: Sequence[Path]) -> None:
    """Print the figures of runs side by side, on the examples that all have, and test how each
    differs from the first.

    The p-values are those of ROUGE F1, corrected together for their number. They are about other
    documents: another seed of a training differs too.

    Args:
        folders: two or more, each a run's or an evaluation's.

    Raises:
        ConfigError: a folder has no results, or the runs are not of the same data, scored alike.
    """
    if len(folders) < 2:
        raise ConfigError(f"compare: {len(folders)} folder; legal: two or more")
    runs = [read_results(folder) for folder in folders]
    shared = [
        identifier for identifier in runs[0].rows if all(identifier in run.rows for run in runs)
    ]
    if not shared:
        raise ConfigError(
            f"compare: {', '.join(map(str, folders))} have no example in common; legal: runs of "
            "one data set"
        )
    for folder, run in zip(folders, runs, strict=True):
        _check_alike(run, runs[0], shared, f"{folder} and {folders[0]}")
    values = [run.values[[run.rows[identifier] for identifier in shared]] for run in runs]
    systems = [
        System(name=name, values=of_run)
        for name, of_run in zip(_names(folders), values, strict=True)
    ]
    largest = max(len(run.rows) for run in runs)
    console = make_console()
    print_systems(console, f"{len(shared):,} of {largest:,} examples", systems, runs[0].signature)

    columns = [EXAMPLE_METRICS.index(kind) for kind in ROUGE_TYPES]
    tests = [
        differences(other[:, columns], values[0][:, columns], RESAMPLES) for other in values[1:]
    ]
    corrected = iter(holm([test.p for row in tests for test in row]))
    rows = [[replace(test, p=next(corrected)) for test in row] for row in tests]
    method = "paired bootstrap, two-sided, Holm-corrected"
    title = f"Minus {systems[0].name}, with 95 % interval and p ({method})"
    print_differences(
        console,
        title,
        ROUGE_TITLES.values(),
        [(system.name, row) for system, row in zip(systems[1:], rows, strict=True)],
    )


def _check_alike(run: Scored, first: Scored, shared: Sequence[str], folders: str) -> None:
    if run.signature != first.signature:
        raise ConfigError(
            f"compare: {folders} are scored unlike, {run.signature} and {first.signature}; "
            "legal: one signature; headcount evaluate RUN evaluation.references=... makes another"
        )
    for identifier in shared:
        if run.references[identifier] != first.references[identifier]:
            raise ConfigError(
                f"compare: {folders} have other references for {identifier}; legal: runs of one "
                "data set"
            )


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the paths of folders from where they part."""
    parents = [folder.resolve().parent for folder in folders]
    return [os.path.relpath(folder.resolve(), os.path.commonpath(parents)) for folder in folders]
