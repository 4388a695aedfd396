"""An experiment is a folder: its ``grid.yaml`` says what is varied, what is held, and against what
it is compared.

Nothing here imports torch, so that a mistake is answered at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from headcount.config.load import is_file, read_yaml
from headcount.config.schema import RougeType
from headcount.errors import ConfigError, legal_names
from headcount.runs.folder import KEYS_WITHOUT_EFFECT

Control = Literal["fixed_width", "fixed_head_dim", "matched_parameters", "none"]
SCORES = [f"validation/{name}" for name in get_args(RougeType)]


@dataclass(frozen=True, kw_only=True)
class Select:
    """An inner axis of which each setting keeps the value that does best on validation.

    Attributes:
        over: the key and its values.
        by: the validation score, a column of ``metrics.csv``.
    """

    over: dict[str, list[Any]]
    by: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What ``grid.yaml`` says.

    Attributes:
        folder: the experiment's.
        configs: YAML files, as on the command line.
        control: what is held while the axes vary.
        settings: of each cell its axes; the key ``configs`` is a file laid over the others.
        seeds: each setting is trained once with each.
        baseline: the setting that all others are compared with.
        overrides: held in all cells, over the files.
        select: the inner axis, or None.
    """

    folder: Path
    configs: list[str]
    control: Control
    settings: list[dict[str, Any]]
    seeds: list[int]
    baseline: dict[str, Any]
    overrides: dict[str, Any]
    select: Select | None

    @property
    def name(self) -> str:
        """The experiment's name: its folder's."""
        return self.folder.resolve().name

    @property
    def file(self) -> Path:
        """Where all this stands."""
        return self.folder / "grid.yaml"

    @property
    def axes(self) -> list[str]:
        """Every key that some cell sets, in order."""
        return list(dict.fromkeys(key for setting in self.settings for key in setting))

    @property
    def overlays(self) -> list[str]:
        """The files that some cell lays over the others."""
        return [setting["configs"] for setting in self.settings if "configs" in setting]

    def locate(self, config: str) -> str:
        """Return where a config file of this grid is: seen from the current folder, the grid's, or
        one above the grid.

        Raises:
            ConfigError: it is in none of them.
        """
        here = self.folder.resolve()
        for folder in (Path(), here, *here.parents):
            if is_file(folder / config):
                return config if folder == Path() else str(folder / config)
        raise ConfigError(
            f"{self.file}: {config}: no such file, seen from {Path.cwd()}, from {here} or from a "
            "folder above that; "
            "legal: a YAML file"
        )

    def label(self, setting: dict[str, Any]) -> str:
        """Return a setting as text for folder names, as ``num_heads=4,copying=true``."""
        keys = [*self.axes, *(self.select.over if self.select else ())]
        last = Counter(key.split(".")[-1] for key in keys)
        parts = []
        for key, value in setting.items():
            short = key.split(".")[-1]
            shown = Path(value).stem if key == "configs" else as_text(value)
            parts.append(
                shown if key == "configs" else f"{short if last[short] == 1 else key}={shown}"
            )
        return "".join(c if c.isalnum() or c in "=,._+-" else "_" for c in ",".join(parts))


def as_text(value: Any) -> str:
    """Return a value as ``key=value`` takes it."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    )


def load_grid(folder: Path) -> Grid:
    """Read and check the ``grid.yaml`` of an experiment.

    Args:
        folder: the experiment's.

    Raises:
        ConfigError: one line that says where, which key, which value, and what would be legal.
    """
    file = folder / "grid.yaml"
    try:
        given = OmegaConf.to_container(read_yaml(file))
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: no such file; legal: a folder with a grid.yaml, as experiments/head_count"
        ) from None
    except (OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeError) as error:
        raise ConfigError(
            f"{file}: {'; '.join(line.strip() for line in str(error).splitlines() if line)}"
        ) from None
    names = [
        key.name if key.name != "settings" else "grid"
        for key in fields(Grid)
        if key.name != "folder"
    ]
    if not isinstance(given, dict):
        raise ConfigError(
            f"{file}: wrong type {type(given).__name__}; legal: a mapping of {', '.join(names)}"
        )
    for name, value in given.items():
        if name not in names:
            raise ConfigError(
                f"{file}: {name!s}={value}: unknown key; {legal_names(str(name), names)}"
            )
    for name in names:
        if name not in given and name not in ("overrides", "select"):
            raise ConfigError(f"{file}: {name} is missing; legal: {_LEGAL[name]}")
    read = _Reader(file)
    grid = Grid(
        folder=folder,
        configs=read.texts("configs", given["configs"]),
        control=read.control(given["control"]),
        settings=read.settings(given["grid"]),
        seeds=read.seeds(given["seeds"]),
        baseline=read.mapping("baseline", given["baseline"]),
        overrides=read.mapping("overrides", given.get("overrides", {})),
        select=read.select(given["select"]) if given.get("select") is not None else None,
    )
    read.check(grid)
    return grid


_LEGAL = {
    "configs": "a list of YAML files",
    "control": ", ".join(get_args(Control)),
    "grid": "a mapping of keys to lists of values, or a list of mappings of keys to values",
    "seeds": "a list of whole numbers, each once",
    "baseline": "one of the grid's cells, a mapping of keys to values",
    "overrides": "a mapping of keys to values",
    "select": f"{{over: {{KEY: [VALUE, ...]}}, by: SCORE}}, where SCORE is {', '.join(SCORES)}",
}


@dataclass(frozen=True)
class _Reader:
    """Takes the parts of a grid file, or refuses them in one line."""

    file: Path

    def refuse(self, name: str, value: Any, why: str = "wrong value") -> ConfigError:
        return ConfigError(
            f"{self.file}: {name}={value}: {why}; legal: {_LEGAL[name.split('.')[0]]}"
        )

    def texts(self, name: str, value: Any) -> list[str]:
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(each, str) for each in value)
        ):
            raise self.refuse(name, value)
        return value

    def control(self, value: Any) -> Control:
        if value not in get_args(Control):
            raise self.refuse("control", value)
        return value

    def seeds(self, value: Any) -> list[int]:
        whole = isinstance(value, list) and all(type(each) is int for each in value)
        if not whole or not value or len(set(value)) < len(value):
            raise self.refuse("seeds", value)
        return value

    def mapping(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.refuse(name, value)
        return value

    def settings(self, value: Any) -> list[dict[str, Any]]:
        if isinstance(value, list):
            settings = [self.mapping("grid", each) for each in value]
        else:
            lists = self.mapping("grid", value)
            for key, values in lists.items():
                if not isinstance(values, list) or not values:
                    raise self.refuse(f"grid.{key}", values)
            settings = [
                dict(zip(lists, values, strict=True)) for values in product(*lists.values())
            ]
        if not settings or not all(settings):
            raise self.refuse("grid", value, "a cell without axes")
        return settings

    def select(self, value: Any) -> Select:
        inner = self.mapping("select", value)
        if (
            set(inner) != {"over", "by"}
            or not isinstance(inner["over"], dict)
            or len(inner["over"]) != 1
        ):
            raise self.refuse("select", value)
        if not all(isinstance(values, list) and values for values in inner["over"].values()):
            raise self.refuse("select", value)
        if inner["by"] not in SCORES:
            raise self.refuse("select.by", inner["by"])
        return Select(over=inner["over"], by=inner["by"])

    def check(self, grid: Grid) -> None:
        """Check that the parts go together."""
        inner = list(grid.select.over) if grid.select else []
        for where, keys in (
            ("grid", grid.axes),
            ("select.over", inner),
            ("overrides", list(grid.overrides)),
        ):
            for key in keys:
                if key == "seed":
                    raise ConfigError(
                        f"{self.file}: {where}: seed is not set here; legal: seeds: [0, 1, 2]"
                    )
                if where != "overrides" and f"{key}.".startswith(KEYS_WITHOUT_EFFECT):
                    raise ConfigError(
                        f"{self.file}: {where}: {key} changes no result; legal: keys of what is "
                        "trained"
                    )
                if where == "select.over" and (key in grid.axes or key == "configs"):
                    raise ConfigError(
                        f"{self.file}: select.over: {key} is an axis of the grid; legal: another "
                        "key"
                    )
                if (
                    grid.control == "matched_parameters"
                    and key == "model.feedforward_size"
                    and where != "overrides"
                ):
                    raise ConfigError(
                        f"{self.file}: {where}: {key} is solved under "
                        "control=matched_parameters; legal: another key"
                    )
        labels = Counter(grid.label(setting) for setting in grid.settings)
        if twice := [label for label, number in labels.items() if number > 1]:
            raise ConfigError(
                f"{self.file}: grid: cell {twice[0]} is listed twice; legal: each cell once"
            )
        if grid.baseline not in grid.settings:
            shown = "; ".join(map(grid.label, grid.settings))
            raise ConfigError(
                f"{self.file}: baseline={grid.baseline}: not a cell of the grid; legal: {shown}"
            )
