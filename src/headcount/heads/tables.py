"""The tables of an analysis of heads: every measure as CSV; a summary as Markdown, as LaTeX and in
the terminal."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from headcount.escape import csv_table, latex, markdown
from headcount.heads.analysis import KINDS, Analysis, HeadResult
from headcount.heads.roles import CROSS_ROLES, SELF_ROLES
from headcount.terminal import print_on

ROLES = tuple(dict.fromkeys((*SELF_ROLES, *CROSS_ROLES)))
Field = str | int | float  # of a row in CSV


def heads_csv(analysis: Analysis) -> str:
    """Return a row for each head with every measure; fields without a value are empty."""
    rows = [_csv_row(result) for result in analysis.heads]
    return as_csv(list(rows[0]), [list(row.values()) for row in rows])


def _csv_row(result: HeadResult) -> dict[str, Field]:
    row: dict[str, Field] = {
        "site": result.head.site,
        "layer": result.head.layer,
        "head": result.head.index,
        "importance": result.importance,
        "normalized_importance": result.normalized_importance,
        "confidence": result.confidence,
        "entropy": result.entropy,
        "distance": result.distance,
        "gate_score": result.gate_score,
    }

    for kind in KINDS:
        changes = {"loss": result.loss_changes[kind], "rouge": result.rouge_changes[kind]}
        for name, change in changes.items():
            row[f"{kind}_{name}"] = change.mean
            row[f"{kind}_{name}_low"] = change.low
            row[f"{kind}_{name}_high"] = change.high
            row[f"{kind}_{name}_p"] = change.p
            row[f"{kind}_{name}_corrected_p"] = change.corrected_p

    for role in ROLES:
        score = result.roles.get(role)
        row[f"{role}_score"] = score.score if score else math.nan
        row[f"{role}_expected"] = score.expected if score else math.nan
        row[f"{role}_p"] = score.p if score else math.nan
        row[f"{role}_corrected_p"] = score.corrected_p if score else math.nan
    row["roles"] = " ".join(result.held_roles)
    return row


def curves_csv(analysis: Analysis) -> str:
    """Return a row for each point of each pruning curve."""
    header = [
        "scope",
        "order",
        "heads",
        "kept",
        "loss",
        analysis.rouge,
        "difference",
        "low",
        "high",
        "p",
        "p_margin",
    ]

    rows: list[list[Field]] = []
    for curve in analysis.curves:
        for point in curve.points:
            rows.append(
                [
                    curve.scope,
                    curve.order,
                    curve.heads,
                    point.kept,
                    point.loss,
                    point.score,
                    point.difference,
                    point.low,
                    point.high,
                    point.p,
                    point.p_margin,
                ]
            )
    return as_csv(header, rows)


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Field]]) -> str:
    """Return a table as CSV, its numbers with six digits."""
    return csv_table([header, *rows], number_format=".6g")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the summary table.

    Attributes:
        title: in Markdown and in W&B.
        short: in the terminal; ``{rouge}`` is the ROUGE type of the analysis.
        latex: in LaTeX.
        describe: returns the formatted value of a head.
        is_text: whether values are texts, which are aligned left.
    """

    title: str
    short: str
    latex: str
    describe: Callable[[HeadResult], str]
    is_text: bool = False


def _describe_rouge(result: HeadResult) -> str:
    change = result.rouge_changes["zero"]
    return f"{change.mean:+.2f} [{change.low:+.1f}, {change.high:+.1f}]"


SUMMARY = (
    Column(
        title="site",
        short="site",
        latex="site",
        describe=lambda result: result.head.site,
        is_text=True,
    ),
    Column(
        title="layer", short="layer", latex="layer", describe=lambda result: str(result.head.layer)
    ),
    Column(
        title="head", short="head", latex="head", describe=lambda result: str(result.head.index)
    ),
    Column(
        title="importance",
        short="imp.",
        latex="imp.",
        describe=lambda result: f"{result.normalized_importance:.2f}",
    ),
    Column(
        title="change of loss without it",
        short="loss",
        latex=r"$\Delta$ loss",
        describe=lambda result: f"{result.loss_changes['zero'].mean:+.4f}",
    ),
    Column(
        title="change of ROUGE without it",
        short="{rouge}",
        latex=r"$\Delta$ ROUGE",
        describe=_describe_rouge,
    ),
    Column(
        title="corrected p",
        short="p",
        latex="$p$",
        describe=lambda result: f"{result.rouge_changes['zero'].corrected_p:.3f}",
    ),
    Column(
        title="confidence",
        short="conf.",
        latex="conf.",
        describe=lambda result: f"{result.confidence:.2f}",
    ),
    Column(
        title="roles",
        short="roles",
        latex="roles",
        describe=lambda result: ", ".join(result.held_roles) or "-",
        is_text=True,
    ),
)


def summary_rows(analysis: Analysis) -> list[list[str]]:
    """Return the values of ``SUMMARY`` for each head."""
    return [[column.describe(result) for column in SUMMARY] for result in analysis.heads]


def as_markdown(analysis: Analysis) -> str:
    """Return the summary table in Markdown."""
    titles = " | ".join(column.title for column in SUMMARY)
    lines = ["| " + titles + " |"]
    lines.append("|" + "".join("---|" if column.is_text else "---:|" for column in SUMMARY))
    for row in summary_rows(analysis):
        lines.append("| " + " | ".join(markdown(cell) for cell in row) + " |")
    return "\n".join(lines) + "\n"


def as_latex(analysis: Analysis) -> str:
    """Return the summary table in LaTeX; it needs the package booktabs."""
    alignment = "".join("l" if column.is_text else "r" for column in SUMMARY)
    titles = " & ".join(column.latex for column in SUMMARY)
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", titles + r" \\", r"\midrule"]
    for row in summary_rows(analysis):
        lines.append(" & ".join(latex(cell) for cell in row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def print_heads(console: Console, title: str, analysis: Analysis) -> None:
    """Print the summary table."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for column in SUMMARY:
        table.add_column(
            column.short.format(rouge=analysis.rouge),
            justify="left" if column.is_text else "right",
            no_wrap=column.title != "roles",
        )

    # A line separates the sites.
    previous_site = ""
    for row in summary_rows(analysis):
        site = row[0]
        if previous_site and site != previous_site:
            table.add_section()
        previous_site = site
        table.add_row(*row)

    print_on(console, f"\n{title}", style="bold")
    console.print(table)
    print_on(
        console,
        "imp.: |d loss / d gate|, normalized in its block; loss and ROUGE: change when the "
        "head is off (zero), with 95 % interval over documents; p: corrected (Holm)",
    )
