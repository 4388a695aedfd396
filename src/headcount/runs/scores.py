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

from headcount.errors import ConfigError
from headcount.escape import csv_cell, csv_text
from headcount.evaluation.bootstrap import Values
from headcount.evaluation.report import Report
from headcount.evaluation.systems import FIGURES, System
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What is read back of an evaluation.

    Attributes:
        signature: how it was scored.
        rows: for the id of each example its row in ``values``.
        values: of the model, see ``System``.
        references: for the id of each example its references.
    """

    signature: str
    rows: dict[str, int]
    values: Values
    references: dict[str, list[str]]


def write_results(
    folder: Path, report: Report, ids: Sequence[str], *, split: str, seed: int, step: int
) -> None:
    """Write ``scores.json`` and ``per_example_metrics.csv``.

    Args:
        folder: to write into.
        report: on the model that is its first system.
        ids: of the examples.
        split: name of the split.
        seed: of the run.
        step: training steps of the model.
    """
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["id", *FIGURES])
    for identifier, values in zip(ids, report.systems[0].values.tolist(), strict=True):
        writer.writerow(
            [csv_cell(identifier), *("" if value != value else value for value in values)]
        )
    write_atomically(folder / RunFile.PER_EXAMPLE_METRICS, rows.getvalue())
    scores = {
        "split": split,
        "examples": len(ids),
        "seed": seed,
        "step": step,
        "signature": report.signature,
        "alarms": report.alarms,
        "systems": {system.name: _plain(system) for system in report.systems},
    }
    write_atomically(folder / RunFile.SCORES, json.dumps(scores, indent=2, ensure_ascii=False))


def read_results(folder: Path) -> Scored:
    """Read an evaluation back.

    Args:
        folder: a run folder, or an evaluation's within one.

    Raises:
        ConfigError: the folder has no results, or they are damaged.
    """
    try:
        signature = json.loads((folder / RunFile.SCORES).read_text(encoding="utf-8"))["signature"]
        with (folder / RunFile.PER_EXAMPLE_METRICS).open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        with (folder / RunFile.PREDICTIONS).open(encoding="utf-8") as file:
            predictions = [json.loads(line) for line in file]
        rows = {csv_text(row["id"]): number for number, row in enumerate(table)}
        references = {prediction["id"]: prediction["references"] for prediction in predictions}
        if not len(table) == len(predictions) == len(rows) == len(rows.keys() & references):
            raise ValueError(
                "per_example_metrics.csv and predictions.jsonl do not have one row each for an id"
            )
        values = np.array([[float(row[name] or nan) for name in FIGURES] for row in table])
        return Scored(signature=signature, rows=rows, values=values, references=references)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise ConfigError(
            f"{folder}: no {missing} in it; legal: a folder that train or evaluate has made"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder}: damaged results ({type(error).__name__}: {error})") from None


def _plain(system: System) -> dict[str, dict[str, float] | None]:
    return {
        name: None if figure is None else asdict(figure) for name, figure in system.figures.items()
    }
