"""The tables of a report: scores and costs of each setting, as Markdown, LaTeX, CSV and on the
terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from headcount.escape import latex, markdown
from headcount.evaluation.corpus_metrics import CORPUS_TITLES
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.cell import Cell
from headcount.experiments.grid import as_text
from headcount.experiments.report.environments import TIMES, why_times_are_not_comparable
from headcount.experiments.report.results import MODEL, Result
from headcount.experiments.report.statistics import MAX_PLANNED_SEEDS
from headcount.experiments.report.study import ABBREVIATIONS, METRICS, SettingResult, Study
from headcount.experiments.verdicts import CAVEAT_MARK, COLORS, SYMBOLS, WORDS, Verdict

Lines = tuple[str, ...]  # the text of one table field, line by line
LATEX_BREAK = r" \\ "
MAX_NAME_LENGTH = 16  # characters in a line of a setting's name in LaTeX
MAX_TITLE_LENGTH = 12  # characters in a line of a LaTeX column title
SEED_PREFIX = "seed "  # begins the line of a row name that lists the seeds

# Column: key of costs.json, unit, format.
COSTS = {
    "parameters (M)": ("parameters", 1e-6, ",.2f"),
    "training TFLOP": ("training_flops", 1e-12, ",.1f"),
    "tokens/s": ("tokens_per_second", 1, ",.0f"),
    "decoding, ms per summary": ("decode_ms_per_summary", 1, ",.1f"),
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

# A number as tables show it, with its standard deviation: 24.25 ± 0.31.
NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<whole>[\d,]+)(\.(?P<decimals>\d+))?( ± (?P<sd>[\d.]+))?")


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """A table whose first column names the rows.

    Attributes:
        columns: their titles.
        settings: the rows of the settings.
        baselines: the rows of the extractive baselines and the human row.
        has_verdicts: whether the last column shows verdicts.
    """

    columns: list[str]
    settings: list[list[Lines]]
    baselines: list[list[Lines]]
    has_verdicts: bool = False

    def as_rows(self) -> list[list[str]]:
        """Return titles and rows, each field as one line."""
        rows = [self.columns]
        for row in self.settings + self.baselines:
            rows.append([" ".join(lines) for lines in row])
        return rows

    def as_markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        alignment = [":---"] + ["---:"] * (len(self.columns) - 1)
        if self.has_verdicts:
            alignment[-1] = ":---"
        rows = [[markdown(column) for column in self.columns], alignment]
        for name, *fields in self.settings + self.baselines:
            escaped_name = "<br>".join(map(markdown, name))
            rows.append([escaped_name, *("<br>".join(lines) for lines in fields)])
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def as_latex(self) -> str:
        """Return a tabular with the rules of booktabs and the number columns of siunitx.

        A row of several lines becomes several rows, the further ones in smaller type.
        """
        rows = self.settings + self.baselines
        formats = []
        for column in range(len(self.columns)):
            formats.append(_latex_format([row[column][0] for row in rows]))
        titles = [_latex_title(column) for column in self.columns]
        parts = [
            rf"\begin{{tabular}}{{@{{}}{''.join(['l', *formats[1:]])}@{{}}}}",
            r"\toprule",
            rf"{' & '.join(titles)} \\",
            r"\midrule",
        ]
        parts += self._latex_rows(self.settings)
        if self.baselines:
            parts += [r"\midrule", *self._latex_rows(self.baselines)]
        return "\n".join([*parts, r"\bottomrule", r"\end{tabular}", ""])

    def _latex_rows(self, rows: Sequence[Sequence[Lines]]) -> list[str]:
        parts = []
        for name, *fields in rows:
            texts = [_break_name(name), *fields]
            for number in range(max(map(len, texts))):
                line = [lines[number] if number < len(lines) else "" for lines in texts]
                parts.append(self._latex_line(line, is_first=number == 0))
        return parts

    def _latex_line(self, texts: Sequence[str], *, is_first: bool) -> str:
        """Return one line of a row: a name, numbers and, at the end, a verdict."""
        name, *numbers = texts
        verdicts = [_latex_verdict(numbers.pop())] if self.has_verdicts else []
        escaped = [_latex_number(text, is_small=not is_first) for text in numbers]
        return " & ".join([_latex_name(name), *escaped, *verdicts]) + r" \\"

    def as_rich(self, columns: int) -> Table:
        """Return the first columns, and the verdicts, as a table for the terminal."""
        shown = list(range(columns))
        if self.has_verdicts:
            shown.append(len(self.columns) - 1)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
        for number in shown:
            is_text = number == 0 or number >= columns
            justify: Literal["left", "right"] = "left" if is_text else "right"
            table.add_column(self.columns[number], justify=justify, no_wrap=is_text)
        for name, *fields in self.settings + self.baselines:
            row = [_break_name(name), *fields]
            table.add_row(*(_rich_field(row[number]) for number in shown))
        return table


def score_table(study: Study) -> ResultTable:
    """Return the scores of each setting with its difference from the reference cell, then the
    scores of the baselines."""
    settings = []
    for setting in study.settings:
        scores = [_score(setting, metric) for metric in METRICS]
        differences = [_difference(setting, metric) for metric in METRICS]
        settings.append([row_name(study, setting), *scores, *differences, _verdicts(setting)])

    # Baselines have neither differences nor a verdict.
    nothing: list[Lines] = [("",)] * (len(METRICS) + 1)
    baselines: list[list[Lines]] = []
    for name, estimates in study.baselines.items():
        scores = [(f"{e.mean:.2f}", f"[{e.low:.2f}, {e.high:.2f}]") for e in estimates.values()]
        baselines.append([(name,), *scores, *nothing])

    columns = [
        first_column(study),
        *METRICS.values(),
        *(f"Δ {title}" for title in METRICS.values()),
        "verdict",
    ]
    return ResultTable(columns=columns, settings=settings, baselines=baselines, has_verdicts=True)


def cost_table(study: Study) -> ResultTable:
    """Return the costs of each setting, means over its seeds.

    Titles of times that are not comparable end with a star.
    """
    settings = []
    for setting in study.settings:
        row = [row_name(study, setting)]
        for key, unit, number_format in COSTS.values():
            cost = setting.cost(key)
            row.append(("-" if cost is None else format(cost * unit, number_format),))
        settings.append(row)

    marked = set(TIMES) if why_times_are_not_comparable(study) else set()
    columns = [first_column(study)]
    for title, (key, _, _) in COSTS.items():
        columns.append(f"{title}*" if key in marked else title)
    return ResultTable(columns=columns, settings=settings, baselines=[])


def corpus_table(study: Study) -> ResultTable | None:
    """Return BLEU and chrF of each setting, means over its seeds, then those of the baselines;
    None if they were not computed."""
    metrics = study.corpus_metrics
    if not metrics:
        return None
    settings = []
    for setting in study.settings:
        row = [row_name(study, setting)]
        for metric in metrics:
            scores = [result.systems[MODEL][metric] for result in setting.results]
            row.append(_mean_over_seeds([score.mean for score in scores if score]))
        settings.append(row)

    baselines: list[list[Lines]] = []
    for name in study.baselines:
        row = [(name,)]
        for metric in metrics:
            baseline = study.results[0].systems.get(name, {}).get(metric)
            row.append(("-" if baseline is None else f"{baseline.mean:.2f}",))
        baselines.append(row)
    titles = [CORPUS_TITLES[metric] for metric in metrics]
    return ResultTable(
        columns=[first_column(study), *titles], settings=settings, baselines=baselines
    )


def _mean_over_seeds(scores: Sequence[float]) -> Lines:
    mean = f"{np.mean(scores):.2f}"
    return (f"{mean} ± {np.std(scores, ddof=1):.2f}" if len(scores) > 1 else mean,)


def first_column(study: Study) -> str:
    """Return the title of the first column: the axis, if there is only one."""
    axes = study.grid.axes
    return axes[0].split(".")[-1] if len(axes) == 1 else "setting"


def row_name(study: Study, setting: SettingResult) -> Lines:
    """Return the name of a setting, the selected value of the inner axis, and its seeds where
    some are missing or where they are not those of the reference cell."""
    label = setting.cell.label
    lines = [label.split("=")[-1] if len(study.grid.axes) == 1 else label]
    for key, value in setting.cell.choice.items():
        lines.append(f"{key.split('.')[-1]}={as_text(value)}")
    if len(setting.seeds) < len(setting.cells) or setting.seeds != study.usual_seeds:
        lines.append(f"{SEED_PREFIX}{', '.join(map(str, setting.seeds))}")
    return tuple(lines)


def results_rows(study: Study) -> list[list[object]]:
    """Return the titles and a row for each finished training: axes, scores, costs, run folder."""
    # With an inner axis, which of its values was selected, and by which score.
    axes = study.grid.axes
    inner = list(study.grid.select.over) if study.grid.select else []
    selected: set[str] = set()
    for setting in study.settings:
        selected.update(cell.name for cell in setting.cells)

    titles = ["cell", *axes, *inner, "seed"]
    if study.grid.select:
        titles += ["selected", study.grid.select.by]
    metrics = [*EXAMPLE_METRICS, *study.corpus_metrics]
    rows: list[list[object]] = [[*titles, "step", "examples", *metrics, *COST_KEYS, "folder"]]

    for result in study.results:
        cell = result.cell
        row: list[object] = [cell.name]
        row += [_axis_value(cell, key) for key in (*axes, *inner)]
        row.append(cell.seed)
        if inner:
            row += [cell.name in selected, _rounded(result.validation)]
        row += [result.step, len(result.scored.rows)]

        # Scores and costs are rounded; the values of the grid, as a learning rate of 1.0e-5, not.
        row += [_rounded(score) for score in _model_scores(result, metrics)]
        row += [_rounded(result.costs.get(key)) for key in COST_KEYS]
        row.append(str(cell.folder))
        rows.append(row)
    return rows


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def _model_scores(result: Result, metrics: Sequence[str]) -> list[float | None]:
    """Return the mean, or the score of the corpus, in each metric; None where no example has
    one."""
    means: list[float | None] = []
    for name in metrics:
        estimate = result.systems[MODEL].get(name)
        means.append(None if estimate is None else estimate.mean)
    return means


def as_latex(name: str, tables: Sequence[ResultTable], captions: Sequence[Sequence[str]]) -> str:
    """Return each table as a float over two columns of a paper.

    Args:
        name: of the study, for the labels.
        tables: the first one is labelled ``tab:NAME``, the others ``tab:NAME-2`` and so on.
        captions: sentences for each table; a text in backquotes is set as code.
    """
    label = re.sub(r"[^\w-]", "-", name, flags=re.ASCII)
    parts = ["% needs \\usepackage{booktabs,siunitx,xcolor}\n"]
    for number, (table, caption) in enumerate(zip(tables, captions, strict=True), start=1):
        # The caption; a signature may break at its bars.
        text = latex(" ".join(caption))
        text = re.sub(r"`([^`]*)`", r"\\texttt{\1}", text)
        text = text.replace("|", r"|\allowbreak ")
        suffix = f"-{number}" if number > 1 else ""

        parts.append(
            "\\begin{table*}\n"
            "\\centering\n"
            "\\footnotesize\n"
            "\\setlength{\\tabcolsep}{2pt}\n"
            "\\sisetup{group-digits=integer, group-minimum-digits=4, group-separator={,}, "
            "retain-explicit-plus, separate-uncertainty}\n"
            f"{table.as_latex()}"
            f"\\caption{{{text}}}\n"
            f"\\label{{tab:{label}{suffix}}}\n"
            "\\end{table*}\n"
        )
    return "\n".join(parts)


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
        return ("reference",) if setting.cell.is_reference else ("-",)
    comparison = setting.comparisons[metric]
    difference = comparison.difference
    interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    return f"{difference.mean:+.2f}", interval, p_as_text(comparison.corrected_p)


def _verdicts(setting: SettingResult) -> Lines:
    """Return the verdict in each metric; in brackets the seeds that would decide. The next look
    of a sequential rule, and fewer than three seeds, are named last."""
    lines = []
    for metric, comparison in setting.comparisons.items():
        verdict = comparison.verdict
        line = f"{ABBREVIATIONS[metric]} {SYMBOLS[verdict]} {WORDS[verdict]}"
        if comparison.planned_seeds:
            line += f" ({comparison.seeds_to_decide or f'>{MAX_PLANNED_SEEDS}'})"
        lines.append(line)

    # All metrics are looked at together, and compared on the same seeds.
    next_looks = {comparison.next_look for comparison in setting.comparisons.values()}
    lines += [next_look for next_look in next_looks if next_look]
    caveats = {comparison.caveat for comparison in setting.comparisons.values()}
    lines += [f"{CAVEAT_MARK} {caveat.partition(':')[0]}" for caveat in caveats if caveat]
    return tuple(lines) or ("",)


def p_as_text(p: float) -> str:
    """Return a p-value as text."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def _find_verdict(line: str) -> Verdict | None:
    for verdict, symbol in SYMBOLS.items():
        if f" {symbol} " in line:
            return verdict
    return None


def _rich_field(lines: Sequence[str]) -> Text:
    text = Text()
    for number, line in enumerate(lines):
        verdict = _find_verdict(line)
        text.append("\n" if number else "")
        text.append(line, style=COLORS[verdict] if verdict else "")
    return text


def _latex_format(texts: Sequence[str]) -> str:
    """Return the column type for some fields: that of siunitx if there are numbers."""
    numbers = [match for text in texts if (match := NUMBER.fullmatch(text))]
    if not numbers:
        return "l"
    signs = "+" if any(match["sign"] for match in numbers) else ""
    whole = max(len(match["whole"].replace(",", "")) for match in numbers)
    decimals = max(len(match["decimals"] or "") for match in numbers)

    # siunitx counts the digits of an uncertainty without its decimal point.
    sds = [match["sd"].replace(".", "").lstrip("0") for match in numbers if match["sd"]]
    uncertainty = f"({max(1, *map(len, sds))})" if sds else ""
    return f"S[table-format={signs}{whole}.{decimals}{uncertainty}]"


def _latex_title(title: str) -> str:
    lines = [latex(line) for line in textwrap.wrap(title, MAX_TITLE_LENGTH)]
    return rf"{{\shortstack{{{LATEX_BREAK.join(lines)}}}}}"


def _break_name(name: Lines) -> list[str]:
    """Break a name into short lines: a long one would make the table too wide.

    The first line is the setting's label, whose axes are separated by commas. A list of seeds may
    break at its blanks.
    """
    label, *rest = name
    lines = []
    for part in [*label.split(","), *rest]:
        key, equals, value = part.partition("=")
        if len(part) > MAX_NAME_LENGTH and equals:
            lines += [f"{key}=", value]
        elif part.startswith(SEED_PREFIX):
            lines += textwrap.wrap(part, MAX_NAME_LENGTH)
        else:
            lines.append(part)
    return lines


def _latex_name(text: str) -> str:
    # The braces also keep a leading bracket or star from being an argument of the row before.
    return rf"{{\scriptsize {latex(text)}}}" if text else ""


def _latex_number(text: str, *, is_small: bool) -> str:
    """Return a field of a number column; what is no number is set in braces."""
    if not text:
        return ""
    if not is_small and NUMBER.fullmatch(text):
        return text.replace(",", "").replace(" ± ", r" \pm ")
    escaped = latex(text).replace(r"\textless{}", "$<$")
    escaped = re.sub(r"[+-](?=\d)", lambda sign: f"${sign[0]}$", escaped)
    return rf"{{\scriptsize {escaped}}}"


def _latex_verdict(text: str) -> str:
    verdict = _find_verdict(text)
    if verdict is None:
        return rf"{{\scriptsize {latex(text)}}}" if text else ""
    metric, words = text.split(f" {SYMBOLS[verdict]} ")
    color = COLORS[verdict].removeprefix("#")
    return rf"{{\scriptsize {latex(metric)} \textcolor[HTML]{{{color}}}{{{latex(words)}}}}}"
