"""The tables of a report.

What each setting scores and costs, as Markdown, LaTeX, CSV and on the terminal.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from headcount.escape import csv_cell, latex, markdown
from headcount.evaluation.systems import FIGURES
from headcount.experiments.cell import Cell
from headcount.experiments.grid import as_text
from headcount.experiments.report.study import METRICS, Row, Study

Lines = tuple[str, ...]  # what stands in one place of a table, line under line

COSTS = {
    "parameters (M)": ("parameters", 1e-6, ",.2f"),
    "training TFLOP": ("training_flops", 1e-12, ",.1f"),
    "tokens/s": ("tokens_per_second", 1, ",.0f"),
    "decoding, ms a summary": ("decode_ms_per_summary", 1, ",.1f"),
    "peak memory (MiB)": ("peak_memory_bytes", 2**-20, ",.0f"),
    "KV cache (MiB)": ("kv_cache_bytes", 2**-20, ",.2f"),
}  # column: key of costs.json, unit, format
COST_KEYS = (
    *("parameters", "training_flops", "training_tokens", "training_seconds", "tokens_per_second"),
    *("decode_ms_per_summary", "peak_memory_bytes", "kv_cache_bytes", "device"),
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A table whose first column has names.

    Attributes:
        columns: their titles.
        settings: the rows of the study's settings.
        baselines: the rows of what takes no learning, and of people.
    """

    columns: list[str]
    settings: list[list[Lines]]
    baselines: list[list[Lines]]

    def as_rows(self) -> list[list[str]]:
        """Return titles and rows, each place as one line."""
        return [
            self.columns,
            *([" ".join(place) for place in row] for row in self.settings + self.baselines),
        ]

    def as_markdown(self) -> str:
        """Return a table as GitHub draws it."""
        rule = [":---", *("---:" for _ in self.columns[1:])]
        rows = [[*map(markdown, self.columns)], rule]
        for name, *places in self.settings + self.baselines:
            rows.append(
                ["<br>".join(map(markdown, name)), *("<br>".join(place) for place in places)]
            )
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def as_latex(self) -> str:
        """Return a tabular with the rules of booktabs.

        The further lines of a row stand below it, smaller.
        """
        head = " & ".join(latex(column) for column in self.columns)
        parts = [
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
        ]
        parts += self._latex_rows(self.settings)
        if self.baselines:
            parts += [r"\midrule", *self._latex_rows(self.baselines)]
        return "\n".join([*parts, r"\bottomrule", r"\end{tabular}", ""])

    def _latex_rows(self, rows: Sequence[Sequence[Lines]]) -> list[str]:
        parts = []
        for row in rows:
            for line in range(max(map(len, row))):
                texts = [place[line] if line < len(place) else "" for place in row]
                texts = [latex(texts[0]), *map(_number, texts[1:])]
                if texts[0].startswith(("[", "*")):
                    texts[0] = "{}" + texts[0]  # not an argument of the row before
                parts.append(
                    " & ".join(rf"{{\scriptsize {t}}}" if line and t else t for t in texts)
                    + r" \\"
                )
        return parts

    def as_rich(self, columns: int) -> Table:
        """Return the first columns as a table for the terminal."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
        for number, column in enumerate(self.columns[:columns]):
            table.add_column(column, justify="right" if number else "left", no_wrap=number == 0)
        for row in self.settings + self.baselines:
            table.add_row(*("\n".join(place) for place in row[:columns]))
        return table


def score_block(study: Study) -> Block:
    """Return the scores of each setting and its difference to the baseline, then the baselines."""
    columns = [*METRICS.values(), *(f"Δ {title}" for title in METRICS.values())]
    settings = [
        [
            name_of(study, row),
            *(_score(row, metric) for metric in METRICS),
            *(_gain(row, metric) for metric in METRICS),
        ]
        for row in study.rows
    ]
    baselines: list[list[Lines]] = [
        [
            (name,),
            *((f"{f.mean:.2f}", f"[{f.low:.2f}, {f.high:.2f}]") for f in figures.values()),
            *[("",)] * len(METRICS),
        ]
        for name, figures in study.baselines.items()
    ]
    return Block(columns=[heading(study), *columns], settings=settings, baselines=baselines)


def cost_block(study: Study) -> Block:
    """Return what each setting costs, the mean over its seeds."""
    settings = []
    for row in study.rows:
        costs = [(row.cost(key), unit, form) for key, unit, form in COSTS.values()]
        shown = ["-" if cost is None else format(cost * unit, form) for cost, unit, form in costs]
        settings.append([name_of(study, row), *((text,) for text in shown)])
    return Block(columns=[heading(study), *COSTS], settings=settings, baselines=[])


def heading(study: Study) -> str:
    """Return the title of the first column: the one axis that there is."""
    return study.grid.axes[0].split(".")[-1] if len(study.grid.axes) == 1 else "setting"


def name_of(study: Study, row: Row) -> Lines:
    """Return the name of a setting, with what was chosen for it, and its seeds where some are
    missing."""
    name = row.cell.label.split("=")[-1] if len(study.grid.axes) == 1 else row.cell.label
    more = [f"seed {', '.join(map(str, row.seeds))}"] if len(row.seeds) < len(row.cells) else []
    return (
        name,
        *(f"{key.split('.')[-1]}={as_text(value)}" for key, value in row.cell.choice.items()),
        *more,
    )


def results_rows(study: Study) -> list[list[object]]:
    """Return a row a finished training under a row of titles.

    Axes, scores, costs, and where it lies.
    """
    axes, inner = study.grid.axes, list(study.grid.select.over) if study.grid.select else []
    chosen = {cell.name for row in study.rows for cell in row.cells}
    titles = ["cell", *axes, *inner, "seed", *(["chosen"] if inner else []), "step", "examples"]
    rows: list[list[object]] = [[*titles, *FIGURES, *COST_KEYS, "folder"]]
    for result in study.results:
        cell, model = result.cell, result.scores["systems"]["model"]
        means = [model[name] and model[name]["mean"] for name in FIGURES]
        settings = [_plain(cell, key) for key in (*axes, *inner)]
        marks = [cell.name in chosen] if inner else []
        counts = [result.scores["step"], result.scores["examples"]]
        costs = [result.costs.get(key) for key in COST_KEYS]
        rows.append(
            [cell.name, *settings, cell.seed, *marks, *counts, *means, *costs, str(cell.folder)]
        )
    return [[round(v, 4) if isinstance(v, float) else v for v in row] for row in rows]


def as_csv(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([[*map(csv_cell, row)] for row in rows])
    return text.getvalue()


def as_latex(name: str, blocks: Sequence[Block], caption: Sequence[str]) -> str:
    """Return blocks as one float, two columns of a paper wide.

    Args:
        name: of the study, for the label.
        blocks: one below the other.
        caption: sentences.
    """
    said = re.sub(r"`([^`]*)`", r"\\texttt{\1}", latex(" ".join(caption))).replace(
        "|", r"|\allowbreak "
    )
    label = re.sub(r"[^\w-]", "-", name, flags=re.ASCII)
    inner = "\n\\medskip\n".join(block.as_latex() for block in blocks)
    head = "% needs \\usepackage{booktabs}\n\\begin{table*}\n\\centering\n\\small\n"
    head += "\\setlength{\\tabcolsep}{4pt}\n"
    return f"{head}{inner}\\caption{{{said}}}\n\\label{{tab:{label}}}\n\\end{{table*}}\n"


def _plain(cell: Cell, key: str) -> object:
    value = (cell.axes | cell.choice)[key]
    return value if isinstance(value, int | float | str) else as_text(value)


def _score(row: Row, metric: str) -> Lines:
    found = row.estimates[metric]
    spread = "" if found.sd is None else f" ± {found.sd:.2f}"
    return f"{found.mean:.2f}{spread}", f"[{found.low:.2f}, {found.high:.2f}]"


def _gain(row: Row, metric: str) -> Lines:
    if metric not in row.comparisons:
        return ("baseline",) if row.cell.is_baseline else ("-",)
    found = row.comparisons[metric]
    reach = f"[{found.difference.low:+.2f}, {found.difference.high:+.2f}]"
    return f"{found.difference.mean:+.2f}", reach, say_p(found.corrected_p)


def say_p(p: float) -> str:
    """Return a p-value as text."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def _number(text: str) -> str:
    """Return the numbers of a text as LaTeX sets them."""
    return re.sub(r"[+-](?=\d)", lambda sign: rf"${sign[0]}$", latex(text)).replace(
        r"\textless{}", "$<$"
    )
