"""Results as files.

``scores.json`` has the means of all systems, ``per_example_metrics.csv`` the model's example by
example.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path

import numpy as np

from headcount.config.schema import CorpusMetricName
from headcount.errors import ConfigError
from headcount.escape import csv_cell, csv_text
from headcount.evaluation.bootstrap import Values
from headcount.evaluation.corpus_metrics import CORPUS_METRICS, Statistics
from headcount.evaluation.report import Report
from headcount.evaluation.systems import EXAMPLE_METRICS, System
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile

STATISTICS = "_statistics"  # suffix of a column: the statistics of a corpus metric
MAX_FIELD = 2**31 - 1  # characters of an id in a CSV file; Python's own limit is 131,072


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An evaluation that is read back.

    Attributes:
        signature: how it was scored.
        rows: for the id of each example its row in ``values`` and ``statistics``.
        values: of the model, see ``System``.
        references: for the id of each example its references.
        summaries: for the id of each example the model's summary.
        statistics: for each corpus metric its statistics, see ``CorpusMetric``.
        system: what generated the summaries; None for one model whose search does not optimize
            the metric.
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
    report: Report,
    ids: Sequence[str],
    *,
    split: str,
    seed: int,
    step: int,
    system: str | None = None,
) -> None:
    """Write ``scores.json`` and ``per_example_metrics.csv``.

    Args:
        folder: to write into.
        report: on the model that is its first system.
        ids: of the examples.
        split: name of the split.
        seed: of the run.
        step: training steps of the model, of several the first.
        system: see ``Scored``.
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
        "systems": {system.name: _plain(system) for system in report.systems},
    }
    write_atomically(folder / RunFile.SCORES, json.dumps(scores, indent=2, ensure_ascii=False))


def _as_csv(model: System, ids: Sequence[str]) -> str:
    """Return the metrics of each example; of a corpus metric its score and its statistics."""
    header = ["id", *EXAMPLE_METRICS]
    for name in model.corpus:
        header.extend([name, f"{name}{STATISTICS}"])

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for index, (identifier, values) in enumerate(zip(ids, model.values.tolist(), strict=True)):
        row = [csv_cell(identifier), *("" if value != value else value for value in values)]
        for metric, statistics in model.corpus.values():
            counts = statistics[index].tolist()
            row.extend([metric.score_example(counts), " ".join(map(str, counts))])
        writer.writerow(row)
    return text.getvalue()


def read_results(folder: Path) -> Scored:
    """Read an evaluation back.

    Args:
        folder: a run folder, or an evaluation's within one.

    Raises:
        ConfigError: the folder has no results, or they are damaged.
    """
    csv.field_size_limit(MAX_FIELD)
    path = folder / RunFile.SCORES
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        system = scores.get("system")
        if not isinstance(system, str | None):
            raise TypeError(f"system={system} in scores.json")
        path = folder / RunFile.PER_EXAMPLE_METRICS
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        # Surplus fields of a row are under None, and missing ones are None.
        for number, row in enumerate(table, start=2):
            if None in row or None in row.values():
                raise ValueError(f"line {number} has not as many fields as the first one")
        rows = {csv_text(row["id"]): number for number, row in enumerate(table)}
        values = np.array([[float(row[name] or nan) for name in EXAMPLE_METRICS] for row in table])
        statistics: dict[CorpusMetricName, Statistics] = {
            name: np.array([[int(n) for n in row[f"{name}{STATISTICS}"].split()] for row in table])
            for name in CORPUS_METRICS
            if table and f"{name}{STATISTICS}" in table[0]
        }

        path = folder / RunFile.PREDICTIONS
        with path.open(encoding="utf-8") as file:
            predictions = [json.loads(line) for line in file]
        references = {prediction["id"]: prediction["references"] for prediction in predictions}
        summaries = {prediction["id"]: prediction["summary"] for prediction in predictions}

        path = folder
        if not len(table) == len(predictions) == len(rows) == len(rows.keys() & references):
            raise ValueError(
                "per_example_metrics.csv and predictions.jsonl do not have one row each for an id"
            )
        return Scored(
            signature=scores["signature"],
            rows=rows,
            values=values,
            references=references,
            summaries=summaries,
            statistics=statistics,
            system=system,
        )
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise ConfigError(
            f"{folder}: no {missing} in it; legal: a folder that train or evaluate has made"
        ) from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        csv.Error,
    ) as error:
        raise ConfigError(f"{path}: damaged results ({type(error).__name__}: {error})") from None


def _plain(system: System) -> dict[str, dict[str, float] | None]:
    return {
        name: None if estimate is None else asdict(estimate)
        for name, estimate in system.metrics.items()
    }
