"""From a grid to its cells: each with its whole config and a run folder that this config decides.

Nothing here imports torch, but for the one control that has to count parameters.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from headcount import compose
from headcount.config import Config, ConfigError, legal_names, user_path
from headcount.experiments.grid import Grid, as_text
from headcount.training.folder import has_effect, write_whole

SMOKE = "configs/smoke.yaml"
MAX_TAG_LENGTH = 64  # W&B rejects longer ones
MAX_NAME_LENGTH = 128  # of a W&B run or group
MAX_FOLDER_LENGTH = 150  # bytes of a cell's folder name; 255 with its suffixes is the limit of most file systems


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of a study.

    Attributes:
        name: ``num_heads=4,seed=0``; with an inner axis ``num_heads=4,learning_rate=0.001,seed=0``.
        label: the same without seed and inner axis, as ``Grid.label`` has it.
        setting: its axes as the grid gives them.
        axes: every axis of the grid with its value here, also where the grid leaves it to the config.
        choice: the inner axis with its value here; empty without ``select``.
        seed: of this training.
        is_baseline: whether all others are compared with this setting.
        files: config files, in order.
        overrides: ``key=value`` each, over the files.
        config: the checked config.
        plain: the same as a nested dict.
        fingerprint: of all in the config that can change a result; no two cells of a study have the same.
        folder: the run folder, whether or not it is there.
    """

    name: str
    label: str
    setting: dict[str, Any]
    axes: dict[str, Any]
    choice: dict[str, Any]
    seed: int
    is_baseline: bool
    files: list[str]
    overrides: list[str]
    config: Config
    plain: dict[str, Any]
    fingerprint: str
    folder: Path

    @property
    def log(self) -> Path:
        """What the training printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def config_file(self) -> Path:
        """The resolved config that the training is started from."""
        return self.folder.with_name(f"{self.folder.name}.yaml")

    def write_config(self, group: str) -> None:
        """Write the resolved config of the training, as it was when the study was launched.

        The files of the study may be edited while it runs. A training that read them again would be another one than
        the fingerprint in its folder's name says.

        Args:
            group: what its W&B run belongs to.
        """
        tags = [f"{key}={value}" for key, value in (self.axes | self.choice | {"seed": self.seed}).items()]
        plain = copy.deepcopy(self.plain)
        plain["run"]["folder"] = str(self.folder)
        plain["tracking"] |= {
            "group": shorten(group, MAX_NAME_LENGTH),
            "name": shorten(self.name, MAX_NAME_LENGTH),
            "tags": [shorten(tag, MAX_TAG_LENGTH) for tag in tags],
        }
        write_whole(self.config_file, compose.to_yaml(plain))

    def command(self) -> list[str]:
        """Return the command that trains this cell, or resumes its training, from ``config_file``.

        With ``-P`` Python imports nothing from the current folder.
        """
        return [sys.executable, "-P", "-m", "headcount", "train", str(self.config_file)]


def shorten(text: str, limit: int) -> str:
    """Return a text within a limit of bytes; of a longer one the beginning, and a digest that tells it from others."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: limit - 9].decode(errors='ignore')}-{digest}"


def make_cells(grid: Grid, *, smoke: bool = False) -> list[Cell]:
    """Resolve every cell of a grid, in the grid's order, the seeds of a setting side by side.

    Args:
        grid: the checked grid.
        smoke: lay ``configs/smoke.yaml`` over all but models and axes, with the first seed and value of the inner axis.

    Raises:
        ConfigError: a cell that has no valid config, by name; two cells that are the same.
    """
    inner = [{key: value} for key, values in grid.select.over.items() for value in values] if grid.select else [{}]
    seeds = grid.seeds
    short = _smoke(grid) if smoke else {}
    if smoke:
        inner, seeds = inner[:1], seeds[:1]
    cells = [
        _resolve(grid, setting, choice, seed, short) for setting in grid.settings for choice in inner for seed in seeds
    ]
    if grid.control == "matched_parameters":
        from headcount.experiments.controls import match_parameters

        cells = [
            _resolve(grid, cell.setting, cell.choice, cell.seed, short, size)
            for cell, size in zip(cells, match_parameters(cells), strict=True)
        ]
    same: dict[str, str] = {}
    for cell in cells:
        if (other := same.setdefault(cell.fingerprint, cell.name)) != cell.name:
            raise ConfigError(f"{grid.file}: cell {cell.name} is the same training as cell {other}; legal: each once")
    return cells


def fingerprint_study(cells: list[Cell]) -> str:
    """Return 8 hex digits of everything that can change a result of a study."""
    return hashlib.sha256("".join(sorted(cell.fingerprint for cell in cells)).encode()).hexdigest()[:8]


def check_study(experiment: Path, cells: list[Cell], expected: str) -> None:
    """Reject a study that is not the one that was registered.

    Raises:
        ConfigError: its grid or a config file has changed.
    """
    found = fingerprint_study(cells)
    if found != expected:
        raise ConfigError(
            f"--expect={expected}: {experiment} is another study now, {found}: its grid or a config file has changed "
            "since the sweep was registered; legal: the files as they were, or a new sweep"
        )


def pick_cells(cells: list[Cell], wanted: list[str]) -> list[Cell]:
    """Return the cells that have certain values.

    Args:
        cells: of a grid.
        wanted: ``KEY=VALUE`` each, an axis, ``seed`` or ``cell``, which is a label; values may be spelled as in Python.

    Raises:
        ConfigError: no cell has them.
    """
    for word in wanted:
        name, _, value = word.partition("=")
        values = {cell.name: (cell.axes | cell.choice | {"seed": cell.seed, "cell": cell.label}) for cell in cells}
        if not all(name in each for each in values.values()):
            raise ConfigError(f"{word}: not what cells differ in; {legal_names(name, list(values[cells[0].name]))}")
        picked = [cell for cell in cells if value in (as_text(values[cell.name][name]), str(values[cell.name][name]))]
        if not picked:
            legal = ", ".join(dict.fromkeys(as_text(each[name]) for each in values.values()))
            raise ConfigError(f"{word}: no such cell; legal: {legal}")
        cells = picked
    return cells


def _resolve(
    grid: Grid,
    setting: dict[str, Any],
    choice: dict[str, Any],
    seed: int,
    short: dict[str, Any],
    feedforward_size: int | None = None,
) -> Cell:
    solved = {} if feedforward_size is None else {"model.feedforward_size": feedforward_size}
    own = {key: value for key, value in setting.items() if key != "configs"} | choice | {"seed": seed}
    given = grid.overrides | short | own | solved
    named = [*grid.configs, *([setting["configs"]] if "configs" in setting else [])]
    files = [grid.locate(file) for file in named]
    overrides = [f"{key}={as_text(value)}" for key, value in given.items()]
    label = grid.label(setting)
    name = ",".join([label, *([grid.label(choice)] if choice else []), f"seed={seed}"])
    config, plain = compose.load(files, overrides, said=f"{grid.file}: cell {name}")
    known, fingerprint = compose.flatten(plain), _fingerprint(plain)
    return Cell(
        name=name,
        label=label,
        setting=setting,
        axes={key: setting["configs"] if key == "configs" else known[key] for key in grid.axes},
        choice=choice,
        seed=seed,
        is_baseline=setting == grid.baseline,
        files=files,
        overrides=overrides,
        config=config,
        plain=plain,
        fingerprint=fingerprint,
        folder=user_path("run.directory", config.run.directory)
        / f"{grid.name}{'-smoke' if short else ''}"
        / f"{shorten(name, MAX_FOLDER_LENGTH)}-{fingerprint}",
    )


def read_keys(file: str) -> dict[str, Any]:
    """Return what a config file sets, as dotted names and values."""
    return compose.flatten(OmegaConf.to_container(compose.read_yaml(file)))


def _smoke(grid: Grid) -> dict[str, Any]:
    """Return what makes a training short: its models stay, for they are what a study tries."""
    file = grid.locate(SMOKE)
    compose.load([file], [])  # rejects what it cannot read
    return {key: value for key, value in read_keys(file).items() if not key.startswith("model.")}


def _fingerprint(plain: dict[str, Any]) -> str:
    """Return 8 hex digits of what differs from the defaults and can change a result.

    A key that is new in the schema changes no fingerprint, so that what was trained before it is still found.
    """
    differs = {key: value for key, value in compose.changed(plain).items() if has_effect(key, plain)}
    return hashlib.sha256(json.dumps(differs, sort_keys=True).encode()).hexdigest()[:8]
