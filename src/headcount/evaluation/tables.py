"""Tables of metrics for the terminal."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from headcount.evaluation.bootstrap import CorrectedDifference, Estimate
from headcount.evaluation.corpus_metrics import CORPUS_TITLES
from headcount.evaluation.report import ScoreReport
from headcount.evaluation.rouge import ROUGE_TITLES
from headcount.evaluation.systems import System
from headcount.terminal import print_on

STATISTICS_TITLES = {
    "words": "words",
    "compression": "com-\npression",
    "novel_2grams": "novel\n2-grams",
    "repeated_3grams": "repeated\n3-grams",
    "coverage": "coverage",
    "density": "density",
    "empty": "empty",
    "cut": "cut",
}


def print_report(console: Console, title: str, report: ScoreReport) -> None:
    """Print the metrics of all systems, the signature and the alarms."""
    print_systems(console, title, report.systems, report.signature)
    for alarm in report.alarms:
        print_on(console, f"alarm: {alarm}", style="bold red")


def print_systems(console: Console, title: str, systems: Sequence[System], signature: str) -> None:
    """Print the metrics of systems, one row each, and the signature."""
    rouge = _table(ROUGE_TITLES.values())
    for system in systems:
        rouge.add_row(system.name, *(_interval(system.metrics[name]) for name in ROUGE_TITLES))
    print_on(console, f"\n{title}; F1 x 100 with 95 % interval", style="bold")
    console.print(rouge)

    corpus_metrics = systems[0].corpus
    if corpus_metrics:
        corpus = _table(CORPUS_TITLES[name] for name in corpus_metrics)
        for system in systems:
            scores = (_interval(system.metrics[name]) for name in corpus_metrics)
            corpus.add_row(system.name, *scores)
        print_on(console, "\nScores of the corpus by sacrebleu, with 95 % interval", style="bold")
        console.print(corpus)

    statistics = _table(STATISTICS_TITLES.values())
    for system in systems:
        statistics.add_row(
            system.name, *(_mean(system.metrics[name]) for name in STATISTICS_TITLES)
        )
    print_on(console, "\nText statistics; lengths in words, shares in %", style="bold")
    console.print(statistics)
    print_on(console, f"\n{signature}")


def print_differences(
    console: Console,
    title: str,
    titles: Iterable[str],
    rows: Iterable[tuple[str, Sequence[CorrectedDifference]]],
) -> None:
    """Print a table of differences with their corrected p-values.

    Args:
        console: the console.
        title: heading of the table.
        titles: titles of the metrics, one column each.
        rows: name of each row, and its differences in these metrics.
    """
    table = _table(titles)
    for name, row in rows:
        cells = []
        for test in row:
            cells.append(f"{_interval(test, '+.2f')}\np {test.corrected_p:.4f}")
        table.add_row(name, *cells)
    print_on(console, f"\n{title}", style="bold")
    console.print(table)


def _table(columns: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
    table.add_column(no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _interval(estimate: Estimate | None, number_format: str = ".2f") -> str:
    if estimate is None:
        return "-"
    mean = format(estimate.mean, number_format)
    low = format(estimate.low, number_format)
    high = format(estimate.high, number_format)
    return f"{mean}\n[{low}, {high}]"


def _mean(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.mean:.1f}"
