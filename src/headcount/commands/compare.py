"""The command ``compare``: compare runs on the same test examples."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headcount.errors import ConfigError
from headcount.evaluation.bootstrap import (
    CorrectedDifference,
    Difference,
    difference_from_resamples,
    differences,
    holm,
)
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
from headcount.runs.folder import RunFile
from headcount.runs.scores import Scored, read_results
from headcount.terminal import make_console, print_on

RESAMPLES = 10_000  # the smallest possible p-value is about 1 / RESAMPLES
TITLES = {**ROUGE_TITLES, **CORPUS_TITLES}


def compare(
    folders: Sequence[Path], *, report: Path | None = None, metric: str = "rougeL"
) -> None:
    """Print the metrics of runs side by side, on their common examples, and test the difference of
    each run from the first.

    ROUGE F1 and the corpus metrics are tested, and all p-values are corrected together. They
    generalize to other documents, not to other training seeds.

    Args:
        folders: two or more folders of runs or evaluations. An evaluation of an ensemble or by
            minimum Bayes risk is marked as a system.
        report: file to write a report to: a page if its name ends in ``.html``, else Markdown.
        metric: the score of an example by which the report compares the runs.

    Raises:
        ConfigError: a folder has no results, the runs have no common examples or different
            signatures, or they do not have the metric.
    """
    if len(folders) < 2:
        raise ConfigError(f"compare: {len(folders)} folder; legal: two or more")
    runs = [read_results(folder) for folder in folders]
    shared = _shared_examples(folders, runs)
    systems = [
        _read_system(name, run, shared) for name, run in zip(_names(folders), runs, strict=True)
    ]
    legal = [*ROUGE_TYPES, *systems[0].corpus]
    if metric not in legal:
        raise ConfigError(
            f"compare: --metric {metric} is not a metric of these runs; legal: {', '.join(legal)}"
        )

    # Print the systems side by side.
    console = make_console()
    largest = max(len(run.rows) for run in runs)
    print_systems(console, f"{len(shared):,} of {largest:,} examples", systems, runs[0].signature)
    for system, run in zip(systems, runs, strict=True):
        if run.system is not None:
            print_on(console, f"{system.name}: {run.system}")

    # Test the differences from the first system.
    tests = _test_differences(systems)
    method = "paired bootstrap, two-sided, Holm-corrected"
    title = f"Minus {systems[0].name}, with 95 % interval and p ({method})"
    for names in (ROUGE_TYPES, tuple(systems[0].corpus)):
        if not names:
            continue
        rows = []
        for system, row in zip(systems[1:], tests, strict=True):
            rows.append((system.name, [row[name] for name in names]))
        print_differences(console, title, [TITLES[name] for name in names], rows)

    if report is not None:
        signature_file = folders[0] / RunFile.SCORES
        _write_report(report, systems, runs, shared, tests, metric, signature_file)
        print_on(console, f"\nreport: {report}")


def _write_report(
    report: Path,
    systems: Sequence[System],
    runs: Sequence[Scored],
    shared: Sequence[str],
    tests: Sequence[dict[str, CorrectedDifference]],
    metric: str,
    signature_file: Path,
) -> None:
    outputs = []
    for system, run in zip(systems, runs, strict=True):
        outputs.append(_outputs(system, run, shared, metric))
    titled_tests = []
    for row in tests:
        titled_tests.append({TITLES[name]: test for name, test in row.items()})

    comparison = make_comparison(
        outputs,
        titled_tests,
        shared,
        [runs[0].references[identifier] for identifier in shared],
        metric=TITLES[metric],
        signature=runs[0].signature,
        rouge=rouge_of_signature(runs[0].signature, signature_file),
    )
    text = as_markdown(comparison)
    if report.suffix.lower() == ".html":
        text = write_page(COMPARISON, describe_comparison(comparison))
    write_atomically(report, text)


def _shared_examples(folders: Sequence[Path], runs: Sequence[Scored]) -> list[str]:
    """Return the ids of the examples that all runs have.

    Raises:
        ConfigError: there is none, or the runs have different signatures or references.
    """
    shared = []
    for identifier in runs[0].rows:
        if all(identifier in run.rows for run in runs):
            shared.append(identifier)
    if not shared:
        raise ConfigError(
            f"compare: {', '.join(map(str, folders))} have no example in common; legal: runs of "
            "one data set"
        )
    for folder, run in zip(folders, runs, strict=True):
        _check_comparable(run, runs[0], shared, f"{folder} and {folders[0]}")
    return shared


def _read_system(name: str, run: Scored, shared: Sequence[str]) -> System:
    """Return the metrics of a run on the shared examples.

    An ensemble, and a search that optimizes the metric, are marked in the name.
    """
    if run.system is not None:
        name = f"{name} (system)"
    rows = [run.rows[identifier] for identifier in shared]
    corpus: dict[str, tuple[CorpusMetric, Statistics]] = {}
    for corpus_name, statistics in run.statistics.items():
        # The statistics are counted already, so the tokenizer has no effect.
        corpus[corpus_name] = (CorpusMetric(corpus_name, "13a"), statistics[rows])
    return System(name=name, values=run.values[rows], corpus=corpus)


def _test_differences(systems: Sequence[System]) -> list[dict[str, CorrectedDifference]]:
    """Test the difference of each system from the first one in each metric.

    All p-values are corrected together (Holm 1979).
    """
    tests = [_differences(system, systems[0]) for system in systems[1:]]
    p_values: list[float] = []
    for row in tests:
        p_values.extend(test.p for test in row.values())

    corrected = iter(holm(p_values))
    corrected_tests = []
    for row in tests:
        corrected_row = {}
        for name, test in row.items():
            corrected_row[name] = CorrectedDifference(
                mean=test.mean, low=test.low, high=test.high, p=test.p, corrected_p=next(corrected)
            )
        corrected_tests.append(corrected_row)
    return corrected_tests


def _differences(system: System, first: System) -> dict[str, Difference]:
    """Test the difference of a system from the first one in each metric."""
    columns = [EXAMPLE_METRICS.index(kind) for kind in ROUGE_TYPES]
    rouge = differences(system.values[:, columns], first.values[:, columns], RESAMPLES)
    tests = dict(zip(ROUGE_TYPES, rouge, strict=True))

    # The resamples of both systems have the same examples, so their difference is paired.
    for name, (metric, statistics) in system.corpus.items():
        _, first_statistics = first.corpus[name]
        score = metric.score(statistics.sum(0).tolist())
        first_score = metric.score(first_statistics.sum(0).tolist())
        resampled = resampled_scores(metric, statistics, RESAMPLES)
        resampled -= resampled_scores(metric, first_statistics, RESAMPLES)
        tests[name] = difference_from_resamples(score - first_score, resampled)
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


def _check_comparable(run: Scored, first: Scored, shared: Sequence[str], folders: str) -> None:
    if run.signature != first.signature:
        raise ConfigError(
            f"compare: {folders} are scored differently, {run.signature} and {first.signature}; "
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
