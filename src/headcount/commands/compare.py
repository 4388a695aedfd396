"""The command that compares runs, example by example."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from headcount.errors import ConfigError
from headcount.evaluation.bootstrap import Difference, difference_from_resamples, differences, holm
from headcount.evaluation.comparison import Outputs
from headcount.evaluation.comparison_report import as_markdown, make_comparison
from headcount.evaluation.corpus_metrics import (
    CORPUS_TITLES,
    CorpusMetric,
    Statistics,
    resampled_scores,
)
from headcount.evaluation.rouge import ROUGE_TITLES, ROUGE_TYPES
from headcount.evaluation.signature import rouge_of_signature
from headcount.evaluation.systems import EXAMPLE_METRICS, System
from headcount.evaluation.tables import print_differences, print_systems
from headcount.page.comparison import describe_comparison
from headcount.page.html import COMPARISON, write_page
from headcount.runs.files import write_atomically
from headcount.runs.scores import Scored, read_results
from headcount.terminal import make_console, say

RESAMPLES = 10_000  # p-values are no finer than one in as many
TITLES = {**ROUGE_TITLES, **CORPUS_TITLES}


def compare(
    folders: Sequence[Path], *, report: Path | None = None, metric: str = "rougeL"
) -> None:
    """Print the metrics of runs side by side, on the examples that all have, and test how each
    differs from the first.

    The p-values are those of ROUGE F1 and of the corpus metrics that all runs have, corrected
    together for their number. They are about other documents: another seed of a training differs
    too.

    Args:
        folders: two or more, each a run's or an evaluation's. An evaluation of an ensemble or by
            minimum Bayes risk is marked as a system.
        report: file to write a report to: a page if its name ends in ``.html``, else Markdown.
        metric: the score of an example that the report is about.

    Raises:
        ConfigError: a folder has no results, the runs are not of the same data, scored alike, or
            they lack the metric.
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
    systems = []
    descriptions = []
    for name, run in zip(_names(folders), runs, strict=True):
        # What is no single model, or optimizes the metric, is marked.
        if run.system is not None:
            name = f"{name} (system)"
            descriptions.append(f"{name}: {run.system}")
        systems.append(_read_system(name, run, shared))
    legal = [*ROUGE_TYPES, *systems[0].corpus]
    if metric not in legal:
        raise ConfigError(
            f"compare: --metric {metric} is not a metric of these runs; legal: {', '.join(legal)}"
        )

    # Print them side by side.
    largest = max(len(run.rows) for run in runs)
    console = make_console()
    print_systems(console, f"{len(shared):,} of {largest:,} examples", systems, runs[0].signature)
    for description in descriptions:
        say(console, description)

    # Test the differences from the first, all as one family.
    tests = [_differences(system, systems[0]) for system in systems[1:]]
    corrected = iter(holm([test.p for row in tests for test in row.values()]))
    tests = [
        {name: replace(test, p=next(corrected)) for name, test in row.items()} for row in tests
    ]
    method = "paired bootstrap, two-sided, Holm-corrected"
    title = f"Minus {systems[0].name}, with 95 % interval and p ({method})"
    for names in (ROUGE_TYPES, tuple(systems[0].corpus)):
        if names:
            rows = [
                (system.name, [test[name] for name in names])
                for system, test in zip(systems[1:], tests, strict=True)
            ]
            print_differences(console, title, [TITLES[name] for name in names], rows)

    if report is not None:
        made = make_comparison(
            [
                _outputs(system, run, shared, metric)
                for system, run in zip(systems, runs, strict=True)
            ],
            [{TITLES[name]: test for name, test in row.items()} for row in tests],
            shared,
            [runs[0].references[identifier] for identifier in shared],
            metric=TITLES[metric],
            signature=runs[0].signature,
            rouge=rouge_of_signature(runs[0].signature),
        )
        is_page = report.suffix.lower() == ".html"
        text = write_page(COMPARISON, describe_comparison(made)) if is_page else as_markdown(made)
        write_atomically(report, text)
        say(console, f"\nreport: {report}")


def _read_system(name: str, run: Scored, shared: Sequence[str]) -> System:
    """Return the metrics of a run on the shared examples."""
    rows = [run.rows[identifier] for identifier in shared]
    corpus: dict[str, tuple[CorpusMetric, Statistics]] = {}
    for corpus_name, statistics in run.statistics.items():
        # Statistics are scored alike, whatever the tokenizer that they were counted with.
        corpus[corpus_name] = (CorpusMetric(corpus_name, "13a"), statistics[rows])
    return System(name=name, values=run.values[rows], corpus=corpus)


def _differences(system: System, first: System) -> dict[str, Difference]:
    """Test how a system differs from the first one in each metric."""
    columns = [EXAMPLE_METRICS.index(kind) for kind in ROUGE_TYPES]
    rouge = differences(system.values[:, columns], first.values[:, columns], RESAMPLES)
    tests = dict(zip(ROUGE_TYPES, rouge, strict=True))

    # The same examples are drawn for both systems, so the difference is paired.
    for name, (metric, statistics) in system.corpus.items():
        _, first_statistics = first.corpus[name]
        scores = [metric.score(each.sum(0).tolist()) for each in (statistics, first_statistics)]
        resampled = resampled_scores(metric, statistics, RESAMPLES)
        resampled -= resampled_scores(metric, first_statistics, RESAMPLES)
        tests[name] = difference_from_resamples(scores[0] - scores[1], resampled)
    return tests


def _outputs(system: System, run: Scored, shared: Sequence[str], metric: str) -> Outputs:
    """Return the summaries of a run on the shared examples, with their scores."""
    if metric in ROUGE_TYPES:
        scores = system.values[:, EXAMPLE_METRICS.index(metric)]
    else:
        corpus_metric, statistics = system.corpus[metric]
        scores = np.array([corpus_metric.score_example(row) for row in statistics.tolist()])
    return Outputs(
        name=system.name,
        summaries=[run.summaries[identifier] for identifier in shared],
        values=system.values,
        scores=scores,
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
    """Return the paths of folders relative to their deepest common folder."""
    parents = [folder.resolve().parent for folder in folders]
    return [os.path.relpath(folder.resolve(), os.path.commonpath(parents)) for folder in folders]
