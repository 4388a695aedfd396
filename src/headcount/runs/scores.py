"""The scores of an evaluation as files.

``scores.json`` has the mean of each metric for all systems, ``per_example_metrics.csv`` the
model's metrics for each example.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path

import numpy as np

from headcount.config.sections.evaluation import CorpusMetricName
from headcount.escape import csv_table, csv_text
from headcount.evaluation.bootstrap import Values
from headcount.evaluation.corpus_metrics import CORPUS_METRICS, Statistics
from headcount.evaluation.report import ScoreReport
from headcount.evaluation.systems import EXAMPLE_METRICS, System
from headcount.runs.files import damage_as_config_error, write_atomically
from headcount.runs.folder import RunFile

STATISTICS = "_statistics"  # suffix of a column: the statistics of a corpus metric
WRITER = "train or evaluate"  # the commands that write these files
MAX_FIELD = 2**31 - 1  # characters of an id in a CSV file; Python's own limit is 131,072


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The results of a finished evaluation.

    Attributes:
        signature: the settings of the scores, as one text.
        rows: the row of each example in ``values`` and ``statistics``, by its id.
        values: metrics of the model, as in ``System``.
        references: the references of each example, by its id.
        summaries: the model's summary of each example, by its id.
        statistics: statistics of each corpus metric, as in ``CorpusMetric``.
        system: description of an ensemble, or of a search that optimizes the metric; None for
            one model with another search.
    """

    signature: str
    rows: dict[str, int]
    values: Values
    references: dict[str, list[str]]
    summaries: dict[str, str]
    statistics: dict[CorpusMetricName, Statistics]
    system: str | None = None


def write_results(
    folder: Path,
    report: ScoreReport,
    ids: Sequence[str],
    *,
    split: str,
    seed: int,
    step: int,
    system: str | None = None,
) -> None:
    """Write ``scores.json`` and ``per_example_metrics.csv``.

    Args:
        folder: the folder to write into.
        report: the report; its first system is the model.
        ids: ids of the examples.
        split: name of the split.
        seed: seed of the run.
        step: number of training steps of the model; of an ensemble, of its first one.
        system: as in ``Scored``.
    """
    write_atomically(folder / RunFile.PER_EXAMPLE_METRICS, _as_csv(report.systems[0], ids))
    scores = {
        "split": split,
        "examples": len(ids),
        "seed": seed,
        "step": step,
        "system": system,
        "signature": report.signature,
        "alarms": report.alarms,
        "systems": {each.name: _as_dicts(each) for each in report.systems},
    }
    write_atomically(folder / RunFile.SCORES, json.dumps(scores, indent=2, ensure_ascii=False))


def _as_csv(model: System, ids: Sequence[str]) -> str:
    """Return a row for each example: its metrics, and score and statistics of corpus metrics.

    The statistics of examples can be summed for the corpus score of any sample, as the bootstrap
    needs it.
    """
    header = ["id", *EXAMPLE_METRICS]
    for name in model.corpus:
        header.extend([name, f"{name}{STATISTICS}"])

    rows: list[list[object]] = [[*header]]
    for index, (identifier, values) in enumerate(zip(ids, model.values.tolist(), strict=True)):
        row = [identifier, *values]
        for metric, statistics in model.corpus.values():
            counts = statistics[index].tolist()
            row.extend([metric.score_example(counts), " ".join(map(str, counts))])
        rows.append(row)
    return csv_table(rows)


def read_results(folder: Path) -> Scored:
    """Read the results of an evaluation.

    Args:
        folder: a run folder, or the folder of an evaluation.

    Raises:
        ConfigError: the folder has no results, or they are damaged.
    """
    path = folder / RunFile.SCORES
    with damage_as_config_error(path, WRITER):
        scores = json.loads(path.read_text(encoding="utf-8"))
        signature = scores["signature"]
        if not isinstance(signature, str):
            raise TypeError(f"signature={signature} is not a text")
        system = scores.get("system")
        if not isinstance(system, str | None):
            raise TypeError(f"system={system} in scores.json")

    path = folder / RunFile.PER_EXAMPLE_METRICS
    with damage_as_config_error(path, WRITER):
        table = _read_table(path)
        rows = {csv_text(row["id"]): number for number, row in enumerate(table)}
        values = np.array([_values(row) for row in table])
        statistics = _read_statistics(table)

    path = folder / RunFile.PREDICTIONS
    with damage_as_config_error(path, WRITER):
        with path.open(encoding="utf-8") as file:
            predictions = [json.loads(line) for line in file]
        references = {prediction["id"]: prediction["references"] for prediction in predictions}
        summaries = {prediction["id"]: prediction["summary"] for prediction in predictions}

    # Both tables must have the same examples, each once.
    with damage_as_config_error(folder, WRITER):
        if not len(table) == len(predictions) == len(rows) == len(rows.keys() & references):
            raise ValueError(
                "per_example_metrics.csv and predictions.jsonl do not have one row each for an id"
            )
    return Scored(
        signature=signature,
        rows=rows,
        values=values,
        references=references,
        summaries=summaries,
        statistics=statistics,
        system=system,
    )


def _read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file whose rows all have the same fields.

    Raises:
        ValueError: a row has more or fewer fields than the header.
    """
    csv.field_size_limit(MAX_FIELD)
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))

    # DictReader stores surplus fields under the key None, and None for missing ones.
    for number, row in enumerate(table, start=2):
        if None in row or None in row.values():
            raise ValueError(f"line {number} has not as many fields as the first one")
    return table


def _values(row: dict[str, str]) -> list[float]:
    return [float(row[name] or nan) for name in EXAMPLE_METRICS]


def _read_statistics(table: list[dict[str, str]]) -> dict[CorpusMetricName, Statistics]:
    """Return the statistics of the corpus metrics that a table has."""
    statistics: dict[CorpusMetricName, Statistics] = {}
    for name in CORPUS_METRICS:
        column = f"{name}{STATISTICS}"
        if table and column in table[0]:
            counts = [row[column].split() for row in table]
            statistics[name] = np.array(counts, dtype=np.int64)
    return statistics


def _as_dicts(system: System) -> dict[str, dict[str, float] | None]:
    """Return the estimates of a system for JSON; None for a metric that no example has."""
    return {
        name: None if estimate is None else asdict(estimate)
        for name, estimate in system.metrics.items()
    }
