"""What the terminal shows of figures."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from headcount.evaluation.bootstrap import Difference, Figure
from headcount.evaluation.report import Report
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.evaluation.systems import System
from headcount.terminal import say

TITLES = ("ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum")
BEYOND = {
    "words": "words",
    "compression": "com-\npression",
    "novel_2grams": "novel\n2-grams",
    "repeated_3grams": "repeated\n3-grams",
    "coverage": "coverage",
    "density": "density",
    "empty": "empty",
    "cut": "cut",
}


def print_report(console: Console, title: str, report: Report) -> None:
    """Print what ROUGE sees and what it does not, how it was scored, and what is wrong."""
    print_systems(console, title, report.systems, report.signature)
    for alarm in report.alarms:
        say(console, f"alarm: {alarm}", style="bold red")


def print_systems(console: Console, title: str, systems: Sequence[System], signature: str) -> None:
    """Print the figures of systems, a row each, and how they were scored."""
    scores, beyond = _table(TITLES), _table(BEYOND.values())
    for system in systems:
        scores.add_row(system.name, *(_score(system.figures[kind]) for kind in ROUGE_TYPES))
        beyond.add_row(system.name, *(_mean(system.figures[name]) for name in BEYOND))
    say(console, f"\n{title}; F1 x 100 with 95 % interval", style="bold")
    console.print(scores)
    say(console, "\nWhat ROUGE does not see; lengths in words, shares in %", style="bold")
    console.print(beyond)
    say(console, f"\n{signature}")


def print_differences(
    console: Console, title: str, rows: Iterable[tuple[str, Sequence[Difference]]]
) -> None:
    """Print differences in the F1 of ROUGE_TYPES, a named row of them each."""
    table = _table(TITLES)
    for name, row in rows:
        table.add_row(
            name, *(f"{d.mean:+.2f}\n[{d.low:+.2f}, {d.high:+.2f}]\np {d.p:.4f}" for d in row)
        )
    say(console, f"\n{title}", style="bold")
    console.print(table)


def _table(columns: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
    table.add_column(no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _score(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.mean:.2f}\n[{figure.low:.2f}, {figure.high:.2f}]"


def _mean(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.mean:.1f}"
