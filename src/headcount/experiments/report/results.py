"""The results of a finished training, read from its run folder.

Every value is checked: a file may be truncated, or edited by hand or by a spreadsheet. An error is
one line that names the file.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headcount.config.load import SAFE_LOADER, as_dict, flatten
from headcount.errors import ConfigError
from headcount.evaluation.bootstrap import Estimate
from headcount.experiments.cell import Cell
from headcount.experiments.grid import Grid
from headcount.runs.checkpoint import is_selected
from headcount.runs.files import damage_as_config_error
from headcount.runs.folder import RunFile, has_effect, settings_of_run
from headcount.runs.scores import Scored, read_results

MODEL = "model"  # the system that the run has trained
ROLES = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished training.

    Attributes:
        cell: what was trained.
        scored: the scores of its test summaries, by example.
        step: number of training steps of the checkpoint.
        systems: for the model and the baselines, the mean of each metric; None where no example
            has it.
        costs: by name; empty without ``costs.json``.
        environments: in which it was trained, see ``runs/environment.py``; empty without
            ``environment.json``, which earlier versions did not write.
        data: the SHA-256 of each split; empty without ``data.json``.
        validation: the score that selects a value of the inner axis; 0 without one.
    """

    cell: Cell
    scored: Scored
    step: int
    systems: dict[str, dict[str, Estimate | None]]
    costs: dict[str, float | str]
    environments: list[dict[str, Any]]
    data: dict[str, str]
    validation: float


def read_result(cell: Cell, grid: Grid) -> Result:
    """Read the results of a finished training.

    Raises:
        ConfigError: a file is missing, damaged, or of another training; it is named.
    """
    check_config(cell)
    scored = read_results(cell.folder)
    scores = cell.folder / RunFile.SCORES
    with damage_as_config_error(scores, "train"):
        content = _read_mapping(scores)
        step = _whole_number(content, "step")
        systems = _read_systems(content["systems"])
    return Result(
        cell=cell,
        scored=scored,
        step=step,
        systems=systems,
        costs=_read_costs(cell.folder / RunFile.COSTS),
        environments=_read_environments(cell.folder / RunFile.ENVIRONMENT),
        data=_read_hashes(cell.folder / RunFile.DATA),
        validation=_read_validation(cell, grid.select.by) if grid.select else 0.0,
    )


def check_config(cell: Cell) -> None:
    """Check that the run folder's config is the cell's, where it can change a result.

    Raises:
        ConfigError: it is not, or it is damaged; the file and the key are named.
    """
    path = cell.folder / RunFile.CONFIG
    with damage_as_config_error(path, "train"):
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=SAFE_LOADER)
        written = flatten(config)
        trained = settings_of_run(config)
    for key, value in flatten(as_dict(cell.config)).items():
        # Another key that is new in the schema has the default of what earlier versions did.
        if key not in trained or trained[key] == value or not has_effect(key, cell.config):
            continue
        if key not in written:
            raise ConfigError(
                f"{path}: trained before {key} existed, as with {key}={trained[key]}, but cell "
                f"{cell.name} has {value}; legal: headcount ablate, after this folder was moved "
                "away, or a report by the version that trained it"
            )
        raise ConfigError(
            f"{path}: {key}={trained[key]}, but cell {cell.name} has {value}; legal: as train "
            "has written it"
        )


def _read_mapping(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{type(content).__name__} instead of a mapping")
    return content


def _whole_number(content: dict[str, Any], name: str) -> int:
    if type(content[name]) is not int:
        raise TypeError(f"{name}={content[name]} is not a whole number")
    return content[name]


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name}={value} is not a number")
    return value


def _read_systems(content: Any) -> dict[str, dict[str, Estimate | None]]:
    systems: dict[str, dict[str, Estimate | None]] = {}
    for system, metrics in content.items():
        systems[system] = {}
        for metric, estimate in metrics.items():
            where = f"systems.{system}.{metric}"
            systems[system][metric] = estimate and Estimate(
                mean=_number(estimate["mean"], f"{where}.mean"),
                low=_number(estimate["low"], f"{where}.low"),
                high=_number(estimate["high"], f"{where}.high"),
            )
    if MODEL not in systems:
        raise KeyError(f"systems.{MODEL}")
    return systems


def _read_costs(path: Path) -> dict[str, float | str]:
    if not path.exists():
        return {}
    with damage_as_config_error(path, "train"):
        costs: dict[str, float | str] = {}
        for name, value in _read_mapping(path).items():
            costs[name] = value if name == "device" else _number(value, name)
        return costs


def _read_environments(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with damage_as_config_error(path, "train"):
        environments = json.loads(path.read_text(encoding="utf-8"))
        for environment in environments:
            # Hours are counted by these, and the others are shown.
            for name in ("threads", "processes"):
                _whole_number(environment, name)
            for name in ("processor", "device"):
                if not isinstance(environment[name], str):
                    raise TypeError(f"{name}={environment[name]} is not a text")
            environment["packages"].items()
        return list(environments)


def _read_hashes(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with damage_as_config_error(path, "train"):
        content = _read_mapping(path)
        return {role: str(content[role]["sha256"]) for role in ROLES}


def _read_validation(cell: Cell, name: str) -> float:
    """Return a validation score of the selected checkpoint."""
    criterion = f"validation/{cell.config.evaluation.select_by}"
    path = cell.folder / RunFile.METRICS
    with damage_as_config_error(path, "train"), path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
        # DictReader collects surplus fields under None.
        if any(None in row for row in rows):
            raise ValueError("a row with more fields than the title row")

        # Select as the training did.
        best: float | None = None
        selected: dict[str, str] = {}
        for row in rows:
            if not row.get(criterion):
                continue
            score = float(row[criterion])
            if is_selected(score, best, cell.config.evaluation.selection_margin):
                selected = row
            best = score if best is None else max(score, best)
        return _number(float(selected[name]), name)
