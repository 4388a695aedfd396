"""The tables of a report: scores and costs of each setting, as Markdown, LaTeX, CSV and on the
terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from headcount.escape import csv_cell, latex, markdown
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.cell import Cell
from headcount.experiments.grid import as_text
from headcount.experiments.report.study import METRICS, SettingResult, Study

Lines = tuple[str, ...]  # the text of one table field, line by line

# Column: key of costs.json, unit, format.
COSTS = {
    "parameters (M)": ("parameters", 1e-6, ",.2f"),
    "training TFLOP": ("training_flops", 1e-12, ",.1f"),
    "tokens/s": ("tokens_per_second", 1, ",.0f"),
    "decoding, ms a summary": ("decode_ms_per_summary", 1, ",.1f"),
    "peak memory (MiB)": ("peak_memory_bytes", 2**-20, ",.0f"),
    "KV cache (MiB)": ("kv_cache_bytes", 2**-20, ",.2f"),
}
COST_KEYS = (
    "parameters",
    "training_flops",
    "training_tokens",
    "training_seconds",
    "tokens_per_second",
    "decode_ms_per_summary",
    "peak_memory_bytes",
    "kv_cache_bytes",
    "device",
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A table whose first column names the rows.

    Attributes:
        columns: their titles.
        settings: the rows of the settings.
        baselines: the rows of the extractive baselines and the human row.
    """

    columns: list[str]
    settings: list[list[Lines]]
    baselines: list[list[Lines]]

    def as_rows(self) -> list[list[str]]:
        """Return titles and rows, each field as one line."""
        rows = [self.columns]
        for row in self.settings + self.baselines:
            rows.append([" ".join(lines) for lines in row])
        return rows

    def as_markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        alignment = [":---"] + ["---:"] * (len(self.columns) - 1)
        rows = [[markdown(column) for column in self.columns], alignment]
        for name, *fields in self.settings + self.baselines:
            escaped_name = "<br>".join(map(markdown, name))
            rows.append([escaped_name, *("<br>".join(lines) for lines in fields)])
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def as_latex(self) -> str:
        """Return a tabular with the rules of booktabs.

        A row of several lines becomes several rows, the further ones in smaller type.
        """
        titles = " & ".join(latex(column) for column in self.columns)
        alignment = "l" + "r" * (len(self.columns) - 1)
        parts = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", rf"{titles} \\", r"\midrule"]
        parts += self._latex_rows(self.settings)
        if self.baselines:
            parts += [r"\midrule", *self._latex_rows(self.baselines)]
        return "\n".join([*parts, r"\bottomrule", r"\end{tabular}", ""])

    def _latex_rows(self, rows: Sequence[Sequence[Lines]]) -> list[str]:
        parts = []
        for row in rows:
            for number in range(max(map(len, row))):
                texts = [lines[number] if number < len(lines) else "" for lines in row]
                texts = [latex(texts[0]), *map(_latex_number, texts[1:])]

                # A leading bracket or star would be an argument of the row before.
                if texts[0].startswith(("[", "*")):
                    texts[0] = "{}" + texts[0]

                if number > 0:
                    texts = [rf"{{\scriptsize {text}}}" if text else text for text in texts]
                parts.append(" & ".join(texts) + r" \\")
        return parts

    def as_rich(self, columns: int) -> Table:
        """Return the first columns as a table for the terminal."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
        for number, column in enumerate(self.columns[:columns]):
            table.add_column(column, justify="right" if number else "left", no_wrap=number == 0)
        for row in self.settings + self.baselines:
            table.add_row(*("\n".join(lines) for lines in row[:columns]))
        return table


def score_block(study: Study) -> Block:
    """Return the scores of each setting with its difference from the reference cell, then the
    scores of the baselines."""
    settings = []
    for setting in study.settings:
        scores = [_score(setting, metric) for metric in METRICS]
        differences = [_difference(setting, metric) for metric in METRICS]
        settings.append([row_name(study, setting), *scores, *differences])

    baselines: list[list[Lines]] = []
    for name, estimates in study.baselines.items():
        scores = [(f"{e.mean:.2f}", f"[{e.low:.2f}, {e.high:.2f}]") for e in estimates.values()]
        baselines.append([(name,), *scores, *[("",)] * len(METRICS)])

    columns = [
        first_column(study),
        *METRICS.values(),
        *(f"Δ {title}" for title in METRICS.values()),
    ]
    return Block(columns=columns, settings=settings, baselines=baselines)


def cost_block(study: Study) -> Block:
    """Return the costs of each setting, means over its seeds."""
    settings = []
    for setting in study.settings:
        row = [row_name(study, setting)]
        for key, unit, number_format in COSTS.values():
            cost = setting.cost(key)
            row.append(("-" if cost is None else format(cost * unit, number_format),))
        settings.append(row)
    return Block(columns=[first_column(study), *COSTS], settings=settings, baselines=[])


def first_column(study: Study) -> str:
    """Return the title of the first column: the axis, if there is only one."""
    axes = study.grid.axes
    return axes[0].split(".")[-1] if len(axes) == 1 else "setting"


def row_name(study: Study, setting: SettingResult) -> Lines:
    """Return the name of a setting, the selected value of the inner axis, and its seeds where
    some are missing."""
    label = setting.cell.label
    lines = [label.split("=")[-1] if len(study.grid.axes) == 1 else label]
    for key, value in setting.cell.choice.items():
        lines.append(f"{key.split('.')[-1]}={as_text(value)}")
    if len(setting.seeds) < len(setting.cells):
        lines.append(f"seed {', '.join(map(str, setting.seeds))}")
    return tuple(lines)


def results_rows(study: Study) -> list[list[object]]:
    """Return the titles and a row for each finished training: axes, scores, costs, run folder."""
    axes = study.grid.axes
    inner = list(study.grid.select.over) if study.grid.select else []
    selected = {cell.name for setting in study.settings for cell in setting.cells}

    titles = ["cell", *axes, *inner, "seed"]
    if inner:
        titles.append("chosen")
    rows: list[list[object]] = [
        [*titles, "step", "examples", *EXAMPLE_METRICS, *COST_KEYS, "folder"]
    ]

    for result in study.results:
        cell = result.cell
        row: list[object] = [cell.name]
        row += [_axis_value(cell, key) for key in (*axes, *inner)]
        row.append(cell.seed)
        if inner:
            row.append(cell.name in selected)
        row += [result.scores["step"], result.scores["examples"]]
        model = result.scores["systems"]["model"]
        row += [model[name] and model[name]["mean"] for name in EXAMPLE_METRICS]
        row += [result.costs.get(key) for key in COST_KEYS]
        row.append(str(cell.folder))
        rows.append([round(value, 4) if isinstance(value, float) else value for value in row])
    return rows


def as_csv(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([csv_cell(value) for value in row])
    return text.getvalue()


def as_latex(name: str, blocks: Sequence[Block], caption: Sequence[str]) -> str:
    """Return blocks as one float over two columns of a paper.

    Args:
        name: of the study, for the label.
        blocks: one below the other.
        caption: sentences; a text in backquotes is set as code.
    """
    text = latex(" ".join(caption))
    text = re.sub(r"`([^`]*)`", r"\\texttt{\1}", text)
    text = text.replace("|", r"|\allowbreak ")
    label = re.sub(r"[^\w-]", "-", name, flags=re.ASCII)
    tables = "\n\\medskip\n".join(block.as_latex() for block in blocks)
    return (
        "% needs \\usepackage{booktabs}\n"
        "\\begin{table*}\n"
        "\\centering\n"
        "\\small\n"
        "\\setlength{\\tabcolsep}{4pt}\n"
        f"{tables}"
        f"\\caption{{{text}}}\n"
        f"\\label{{tab:{label}}}\n"
        "\\end{table*}\n"
    )


def _axis_value(cell: Cell, key: str) -> object:
    value = (cell.axes | cell.choice)[key]
    return value if isinstance(value, int | float | str) else as_text(value)


def _score(setting: SettingResult, metric: str) -> Lines:
    estimate = setting.estimates[metric]
    mean = f"{estimate.mean:.2f}"
    if estimate.sd is not None:
        mean += f" ± {estimate.sd:.2f}"
    return mean, f"[{estimate.low:.2f}, {estimate.high:.2f}]"


def _difference(setting: SettingResult, metric: str) -> Lines:
    if metric not in setting.comparisons:
        return ("baseline",) if setting.cell.is_reference else ("-",)
    comparison = setting.comparisons[metric]
    difference = comparison.difference
    interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    return f"{difference.mean:+.2f}", interval, p_as_text(comparison.corrected_p)


def p_as_text(p: float) -> str:
    """Return a p-value as text."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def _latex_number(text: str) -> str:
    """Return a text with its signs and comparisons in math mode."""
    escaped = latex(text).replace(r"\textless{}", "$<$")
    return re.sub(r"[+-](?=\d)", lambda sign: f"${sign[0]}$", escaped)
