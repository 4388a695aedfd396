"""The content of a study's page: its figure, its tables, and summaries by each setting."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headcount.escape import map_texts, printable
from headcount.evaluation.bootstrap import Estimate
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.grid import as_text
from headcount.experiments.report.findings import setting_name
from headcount.experiments.report.plot import STYLES, TEXT_HEIGHT, choose_axis, separate
from headcount.experiments.report.results import MODEL, Result
from headcount.experiments.report.statistics import CellComparison, StudyEstimate
from headcount.experiments.report.study import METRICS, SettingResult, Study
from headcount.experiments.report.tables import COSTS, ResultTable, p_as_text
from headcount.experiments.report.write import StudyReport
from headcount.experiments.verdicts import CAVEAT_MARK, COLORS, SYMBOLS, WORDS
from headcount.page.examples import choose_examples
from headcount.runs.folder import RunFile

DOCUMENTS = 20  # number of documents whose summaries are shown
MARGIN = 0.06  # blank space above and below the marks of the figure, as a share of their range


def describe_study(report: StudyReport, folder: Path) -> dict[str, Any]:
    """Return what the page of a study shows, as JSON.

    Args:
        report: the report of the study.
        folder: the folder of the page; links to run folders are relative to it.
    """
    study = report.study
    counts = f"{len(study.results)} of {len(study.cells)} trainings"
    state = "half-finished, " if study.unfinished else ""

    content = {
        "name": study.grid.name,
        "subtitle": f"{state}{counts}, {study.examples:,} test examples",
        "state": report.state,
        "findings": report.findings,
        "method": report.method,
        "metrics": [_describe_metric(study, metric) for metric in METRICS],
        "axis": _describe_axis(study),
        "styles": [{"color": color, "marker": marker} for color, marker, _ in STYLES],
        "verdicts": _describe_verdicts(study),
        "settings": [_describe_setting(setting, report, folder) for setting in study.settings],
        "seeds": sorted(set().union(*(setting.seeds for setting in study.settings))),
        "documents": _describe_documents(study),
        "tables": [
            _score_table(study, report.scores),
            _cost_table(study, report.costs),
            *_selection_tables(study),
            _training_table(study, folder),
            *_corpus_tables(study, report.corpus),
        ],
    }
    shown: dict[str, Any] = map_texts(printable, content)
    return shown


def _describe_metric(study: Study, metric: str) -> dict[str, Any]:
    """Return the range of the figure of a metric, and its baselines."""
    # The figure shows the baselines, the interval of each setting, and a dot for each seed.
    means = {name: scores[metric].mean for name, scores in study.baselines.items()}
    drawn = list(means.values())
    for setting in study.settings:
        estimate = setting.estimates[metric]
        drawn += [estimate.low, estimate.high]
        means_of_seeds = [_mean(result, metric) for result in setting.results]
        drawn += [score for score in means_of_seeds if score is not None]

    # If all are equal, the range would be empty.
    margin = MARGIN * (max(drawn) - min(drawn)) or 1.0
    low = min(drawn) - margin
    high = max(drawn) + margin

    # Names of baselines with close scores are moved apart, so that they do not overlap.
    in_order = sorted(means, key=lambda name: means[name])
    labels = separate([means[name] for name in in_order], (high - low) * TEXT_HEIGHT)
    baselines = []
    for name, label in zip(in_order, labels, strict=True):
        baselines.append({"name": name, "mean": _rounded(means[name]), "label": _rounded(label)})
    return {
        "key": metric,
        "title": METRICS[metric],
        "low": _rounded(low),
        "high": _rounded(high),
        "baselines": baselines,
    }


def _describe_axis(study: Study) -> dict[str, Any]:
    """Return the horizontal axis: the settings' positions on it, by the line that joins them."""
    axis = choose_axis(list({cell.label: cell for cell in study.cells}.values()))
    finished = {setting.cell.label: number for number, setting in enumerate(study.settings)}
    series = []
    for name, line in axis.series.items():
        points = []
        for label, position in line.items():
            if label in finished:
                points.append([finished[label], position])
        series.append({"name": name, "points": points})
    return {
        "title": axis.title,
        "ticks": [[position, text.replace("\n", ", ")] for position, text in axis.ticks.items()],
        "series": series,
        "joined": axis.joined,
    }


def _describe_verdicts(study: Study) -> list[dict[str, str]]:
    """Return the verdicts that occur in the study, for the legend."""
    occurring = set()
    for setting in study.settings:
        for comparison in setting.comparisons.values():
            occurring.add(comparison.verdict)
    described = []
    for verdict, color in COLORS.items():
        if verdict in occurring:
            described.append({"name": verdict, "symbol": SYMBOLS[verdict], "color": color})
    return described


def _describe_setting(setting: SettingResult, report: StudyReport, folder: Path) -> dict[str, Any]:
    estimates = setting.estimates.items()
    comparisons = setting.comparisons.items()
    return {
        "name": setting_name(setting.cell),
        "notes": _notes(setting),
        "isReference": setting.cell.is_reference,
        "estimates": {metric: _describe_estimate(each) for metric, each in estimates},
        "comparisons": {metric: _describe_comparison(each) for metric, each in comparisons},
        "costs": _describe_costs(setting, report.costs.columns[1:]),
        "runs": [_describe_run(result, folder) for result in setting.results],
    }


def _notes(setting: SettingResult) -> list[str]:
    """Return what distinguishes a setting: its values, and how many of its seeds are finished."""
    notes = ["the reference"] if setting.cell.is_reference else []
    for key, value in setting.cell.choice.items():
        notes.append(f"{key.split('.')[-1]}={as_text(value)}")
    if len(setting.seeds) < len(setting.cells):
        notes.append(f"{len(setting.seeds)} of {len(setting.cells)} seeds")
    return notes


def _describe_estimate(estimate: StudyEstimate) -> dict[str, float | None]:
    return {
        "mean": _rounded(estimate.mean),
        "low": _rounded(estimate.low),
        "high": _rounded(estimate.high),
        "sd": None if estimate.sd is None else _rounded(estimate.sd),
    }


def _describe_comparison(comparison: CellComparison) -> dict[str, Any]:
    verdict = comparison.verdict
    seeds = comparison.planned_seeds
    notes = [f"{seeds} seeds would decide"] if seeds else []
    if comparison.next_look:
        notes.append(comparison.next_look)
    if comparison.caveat:
        notes.append(comparison.caveat)
    return {
        **_describe_estimate(comparison.difference),
        "p": p_as_text(comparison.corrected_p),
        "verdict": WORDS[verdict],
        "symbol": f"{SYMBOLS[verdict]}{CAVEAT_MARK if comparison.caveat else ''}",
        "color": COLORS[verdict],
        "note": ", ".join(notes),
    }


def _describe_costs(setting: SettingResult, titles: Sequence[str]) -> list[list[str]]:
    costs = []
    for title, (key, unit, number_format) in zip(titles, COSTS.values(), strict=True):
        value = setting.cost(key)
        if value is not None:
            costs.append([title, format(value * unit, number_format)])
    return costs


def _describe_run(result: Result, folder: Path) -> dict[str, Any]:
    return {
        "seed": result.cell.seed,
        "scores": {metric: _rounded_or_none(_mean(result, metric)) for metric in METRICS},
        "page": _link(folder, result.cell.folder / RunFile.ATTENTION_PAGE),
    }


def _describe_documents(study: Study) -> list[dict[str, Any]]:
    """Return each setting's summaries of a fixed random sample of the test documents."""
    results: list[Result] = []
    for setting in study.settings:
        results += setting.results
    first = results[0].scored

    # Only documents that every training has a summary of can be compared.
    ids = []
    for name in first.rows:
        if all(name in result.scored.rows for result in results):
            ids.append(name)

    documents = []
    for number in choose_examples(DOCUMENTS, len(ids)):
        name = ids[number]
        summaries = []
        for setting in study.settings:
            summaries.append([_describe_summary(result, name) for result in setting.results])
        documents.append(
            {"id": name, "references": first.references[name], "summaries": summaries}
        )
    return documents


def _describe_summary(result: Result, name: str) -> dict[str, Any]:
    values = result.scored.values[result.scored.rows[name]]
    scores = {}
    for metric in METRICS:
        score = float(values[EXAMPLE_METRICS.index(metric)])
        scores[metric] = None if math.isnan(score) else round(score, 2)
    return {"seed": result.cell.seed, "text": result.scored.summaries[name], "scores": scores}


def _score_table(study: Study, block: ResultTable) -> dict[str, Any]:
    # The texts of the fields are those of the report; here each gets the number it sorts by.
    rows = []
    for number, (setting, fields) in enumerate(zip(study.settings, block.settings, strict=True)):
        sort: list[float | None] = [number]
        sort += [setting.estimates[metric].mean for metric in METRICS]
        compared = [setting.comparisons.get(metric) for metric in METRICS]
        sort += [None if each is None else each.difference.mean for each in compared]
        # Verdicts sort by the number of metrics that are better minus the number that are worse.
        verdicts = [each.verdict for each in compared if each is not None]
        sort.append(verdicts.count("better") - verdicts.count("worse") if verdicts else None)
        row = _row(number, fields, sort)
        # The lines after those of the verdicts are notes.
        row["cells"][-1]["colors"] = [COLORS[verdict] for verdict in verdicts]
        rows.append(row)

    for (_, *fields), (name, scores) in zip(block.baselines, study.baselines.items(), strict=True):
        rows.append(_baseline_row(name, fields, scores))
    return _table("Scores", block.columns, rows, texts=(0, len(block.columns) - 1))


def _baseline_row(
    name: str, fields: Sequence[Sequence[str]], scores: dict[str, Estimate]
) -> dict[str, Any]:
    sort: list[float | None] = [None]
    sort += [scores[metric].mean for metric in METRICS]
    sort += [None] * (len(fields) - len(METRICS))
    return _row(None, [(name,), *fields], sort)


def _corpus_tables(study: Study, block: ResultTable | None) -> list[dict[str, Any]]:
    """Return the table of BLEU and chrF, if there is one.."""
    if block is None:
        return []
    rows = []
    for number, fields in enumerate(block.settings + block.baselines):
        setting = number if number < len(study.settings) else None
        means = [_leading_number(lines[0]) for lines in fields[1:]]
        rows.append(_row(setting, fields, [setting, *means]))
    return [_table("Scores of the whole test split", block.columns, rows, texts=(0,))]


def _leading_number(text: str) -> float | None:
    """Return the mean that a field begins with; None if it has none."""
    mean = text.split(" ")[0]
    return None if mean == "-" else float(mean)


def _cost_table(study: Study, block: ResultTable) -> dict[str, Any]:
    rows = []
    for number, (setting, fields) in enumerate(zip(study.settings, block.settings, strict=True)):
        costs = [setting.cost(key) for key, _, _ in COSTS.values()]
        rows.append(_row(number, fields, [number, *costs]))
    return _table("Costs, means over seeds", block.columns, rows, texts=(0,))


def _selection_tables(study: Study) -> list[dict[str, Any]]:
    """Return a table with the validation scores of each setting's values of the inner axis; none
    without one."""
    if study.grid.select is None:
        return []
    rows = []
    for number, setting in enumerate(study.settings):
        for position, candidate in enumerate(setting.candidates):
            [value] = candidate.choice.values()
            mean = candidate.mean
            seeds = len(candidate.scores)
            fields = [
                [setting_name(setting.cell)],
                [as_text(value)],
                ["-" if mean is None else f"{mean:.2f}"],
                [f"{seeds} of {candidate.trainings}"],
                ["selected" if candidate.is_selected else ""],
            ]
            sort = [number, position, mean, seeds, int(candidate.is_selected)]
            rows.append(_row(number, fields, sort))

    [key] = study.grid.select.over
    score = f"mean {study.grid.select.by}"
    columns = ["setting", key.split(".")[-1], score, "seeds", "selected"]
    return [_table("Selection on validation", columns, rows, texts=(0, 1, 4))]


def _training_table(study: Study, folder: Path) -> dict[str, Any]:
    """Return a row for each training of the study, with a link to its attention page."""
    rows = []
    for number, setting in enumerate(study.settings):
        for result in setting.results:
            means = [_mean(result, metric) for metric in METRICS]
            fields = [
                [setting_name(setting.cell)],
                [str(result.cell.seed)],
                *(["-" if mean is None else f"{mean:.2f}"] for mean in means),
                [result.cell.folder.name],
            ]
            row = _row(number, fields, [number, result.cell.seed, *means, None])
            row["cells"][-1]["link"] = _link(folder, result.cell.folder / RunFile.ATTENTION_PAGE)
            rows.append(row)
    columns = ["setting", "seed", *METRICS.values(), "attention"]
    return _table("Trainings", columns, rows, texts=(0, len(columns) - 1))


def _table(
    title: str, columns: Sequence[str], rows: list[dict[str, Any]], *, texts: Sequence[int]
) -> dict[str, Any]:
    described = []
    for number, column in enumerate(columns):
        described.append({"title": column, "kind": "text" if number in texts else "number"})
    return {"title": title, "columns": described, "rows": rows}


def _row(
    setting: int | None, fields: Sequence[Sequence[str]], sort: Sequence[float | None]
) -> dict[str, Any]:
    """Return a row of a table.

    Args:
        setting: number of the setting; None for a baseline, which stays below the settings.
        fields: the lines of text in each field.
        sort: the number by which each field is sorted; None: below all numbers.
    """
    cells: list[dict[str, Any]] = []
    for lines, value in zip(fields, sort, strict=True):
        cells.append({"lines": list(lines), "sort": _rounded_or_none(value)})
    return {"setting": setting, "last": setting is None, "cells": cells}


def _mean(result: Result, metric: str) -> float | None:
    """Return the model's mean score over test examples; None if the metric was not computed."""
    score = result.systems[MODEL].get(metric)
    return score.mean if score else None


def _link(folder: Path, target: Path) -> str | None:
    """Return the URL of a file relative to a folder; None: there is no such file."""
    if not target.is_file():
        return None
    path = os.path.relpath(target.resolve(), folder.resolve())
    return quote(Path(path).as_posix())


def _rounded(value: float) -> float:
    return round(float(value), 4)


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else _rounded(value)
