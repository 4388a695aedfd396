"""The ``grid.yaml`` of an experiment: what is varied, what is controlled, and what everything is
compared with.

Nothing here imports torch, so that a mistake is reported at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from headcount.config.load import BASE_LOADER, read_yaml, restore_texts
from headcount.config.sections.evaluation import CorpusMetricName, SelectionMetric
from headcount.config.shipped import find_study, search_config, study_names
from headcount.errors import ConfigError, legal_names
from headcount.runs.folder import KEYS_WITHOUT_EFFECT

Control = Literal["fixed_width", "fixed_head_dim", "matched_parameters", "none"]
COMPARED = get_args(SelectionMetric)[:3]  # metrics of a report
SCORES = [f"validation/{name}" for name in get_args(SelectionMetric)]


@dataclass(frozen=True, kw_only=True)
class Select:
    """An inner axis. Each setting keeps the value with the best validation score.

    Attributes:
        over: the key and its values.
        by: the validation score, a column of ``metrics.csv``.
    """

    over: dict[str, list[Any]]
    by: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The content of ``grid.yaml``.

    Attributes:
        folder: of the experiment.
        configs: YAML files, as on the command line.
        control: what is held constant while the axes vary.
        settings: values of the axes, one mapping for each setting; the key ``configs`` is a file
            merged over the others.
        seeds: each setting is trained once with each.
        reference_cell: the setting that all others are compared with.
        overrides: values for all cells, over the files.
        select: the inner axis, or None.
        margin: the smallest difference that matters, by metric; empty if none is stated.
        varied_together: keys that are declared to change together, so that their effects cannot
            be told apart; axes, or keys that a file of the axis ``configs`` sets.
    """

    folder: Path
    configs: list[str]
    control: Control
    settings: list[dict[str, Any]]
    seeds: list[int]
    reference_cell: dict[str, Any]
    overrides: dict[str, Any]
    select: Select | None
    margin: dict[str, float]
    varied_together: list[str]

    @property
    def name(self) -> str:
        """The name of the experiment's folder."""
        return self.folder.resolve().name

    @property
    def file(self) -> Path:
        """The path of ``grid.yaml``."""
        return self.folder / "grid.yaml"

    @property
    def axes(self) -> list[str]:
        """Every key that some setting has, in order."""
        keys: dict[str, None] = {}
        for setting in self.settings:
            keys.update(dict.fromkeys(setting))
        return list(keys)

    @property
    def overlays(self) -> list[str]:
        """The files that some setting merges over the others."""
        return [setting["configs"] for setting in self.settings if "configs" in setting]

    def locate(self, config: str) -> str:
        """Return the path of a config file of this grid.

        It is relative to the current folder, the grid's, one above the grid's, or the package's.

        Raises:
            ConfigError: it is in none of them.
        """
        grid_folder = self.folder.resolve()
        for folder in (Path(), grid_folder, *grid_folder.parents):
            if os.path.isfile(folder / config):
                return config if folder == Path() else str(folder / config)
        named = search_config(config)
        if named is not None:
            return named
        raise ConfigError(
            f"{self.file}: {config}: no such file, seen from {Path.cwd()}, from {grid_folder} or "
            "from a folder above that, and no config of the package; legal: a YAML file"
        )

    def label(self, setting: dict[str, Any]) -> str:
        """Return a setting as text for folder names, as ``num_heads=4,norm=rmsnorm``."""
        # Keys are shortened to their last part, unless two have the same.
        keys = [*self.axes, *(self.select.over if self.select else ())]
        same_ending = Counter(key.split(".")[-1] for key in keys)

        parts = []
        for key, value in setting.items():
            if key == "configs":
                parts.append(Path(value).stem)
                continue
            short = key.split(".")[-1]
            # Heads by layer are written as 8-4-2.
            is_by_layer = isinstance(value, list) and all(type(item) is int for item in value)
            text = "-".join(map(str, value)) if is_by_layer else as_text(value)
            if isinstance(value, str):
                text = value  # as YAML, "no" would have quotation marks
            parts.append(f"{short if same_ending[short] == 1 else key}={text}")

        text = ",".join(parts)
        return "".join(c if c.isalnum() or c in "=,._+-" else "_" for c in text)


def as_text(value: Any) -> str:
    """Return a value as it is written after ``key=``."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()


def load_grid(folder: Path) -> Grid:
    """Read and check the ``grid.yaml`` of an experiment.

    Args:
        folder: of the experiment, or the name of a study of the package.

    Raises:
        ConfigError: one line that says where, which key, which value, and what would be legal.
    """
    folder = find_study(folder)
    file = folder / "grid.yaml"
    given = _read_file(file)
    parser = _Parser(file)
    parser.check_names(given)
    grid = Grid(
        folder=folder,
        configs=parser.texts("configs", given["configs"]),
        control=parser.control(given["control"]),
        settings=parser.settings(given["grid"]),
        seeds=parser.seeds(given["seeds"]),
        reference_cell=parser.mapping("reference_cell", given["reference_cell"]),
        overrides=parser.mapping("overrides", given.get("overrides", {})),
        select=parser.select(given.get("select")),
        margin=parser.margin(given.get("margin", {})),
        varied_together=parser.texts("varied_together", given.get("varied_together", [])),
    )
    parser.check(grid)
    return grid


def _read_file(file: Path) -> Any:
    try:
        given = OmegaConf.to_container(read_yaml(file))
        return restore_texts(given, yaml.load(file.read_text(encoding="utf-8"), BASE_LOADER))
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: no such file; legal: a folder with a grid.yaml, or a study of the package: "
            f"{', '.join(study_names())}"
        ) from None
    except (OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line]
        raise ConfigError(f"{file}: {'; '.join(lines)}") from None


LEGAL = {
    "configs": "a list of YAML files",
    "control": ", ".join(get_args(Control)),
    "grid": "a mapping of keys to lists of values, or a list of mappings of keys to values",
    "seeds": "a list of whole numbers, each once",
    "reference_cell": "one of the grid's cells, a mapping of keys to values",
    "overrides": "a mapping of keys to values",
    "margin": f"a mapping of {', '.join(COMPARED)} to the smallest difference that matters, "
    "above zero, as {rougeL: 0.5}",
    "varied_together": "a list of at least two keys that the grid varies",
    "select": f"{{over: {{KEY: [VALUE, ...]}}, by: SCORE}}, where SCORE is {', '.join(SCORES)}",
}
OPTIONAL = ("overrides", "select", "margin", "varied_together")
RENAMED = {"baseline": "reference_cell"}  # earlier names of keys


@dataclass(frozen=True)
class _Parser:
    """Converts the parts of a grid file, or rejects them with a one-line error."""

    file: Path

    def error(self, name: str, value: Any, why: str = "wrong value") -> ConfigError:
        key = name.split(".")[0]
        return ConfigError(f"{self.file}: {name}={value}: {why}; legal: {LEGAL[key]}")

    def check_names(self, given: Any) -> None:
        """Check that the file is a mapping with all keys and no other ones."""
        names = [field.name for field in fields(Grid) if field.name != "folder"]
        names = ["grid" if name == "settings" else name for name in names]
        if not isinstance(given, dict):
            raise ConfigError(
                f"{self.file}: wrong type {type(given).__name__}; legal: a mapping of "
                f"{', '.join(names)}"
            )
        for name, value in given.items():
            if name in names:
                continue
            if name in RENAMED:
                hint = f"did you mean {RENAMED[name]}?"
            else:
                hint = legal_names(str(name), names)
            raise ConfigError(f"{self.file}: {name!s}={value}: unknown key; {hint}")
        for name in names:
            if name not in given and name not in OPTIONAL:
                raise ConfigError(f"{self.file}: {name} is missing; legal: {LEGAL[name]}")

    def texts(self, name: str, value: Any) -> list[str]:
        if not isinstance(value, list) or (not value and name not in OPTIONAL):
            raise self.error(name, value)
        if not all(isinstance(item, str) for item in value):
            raise self.error(name, value)
        return value

    def control(self, value: Any) -> Control:
        if value not in get_args(Control):
            raise self.error("control", value)
        return value

    def seeds(self, value: Any) -> list[int]:
        if not isinstance(value, list) or not value:
            raise self.error("seeds", value)
        # A boolean is an int, too.
        if not all(type(seed) is int for seed in value) or len(set(value)) < len(value):
            raise self.error("seeds", value)
        return value

    def mapping(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.error(name, value)
        return value

    def settings(self, value: Any) -> list[dict[str, Any]]:
        """Return the settings: those listed, or the product of a mapping of lists."""
        if isinstance(value, list):
            settings = [self.mapping("grid", item) for item in value]
        else:
            lists = self.mapping("grid", value)
            for key, values in lists.items():
                if not isinstance(values, list) or not values:
                    raise self.error(f"grid.{key}", values)
            combinations = product(*lists.values())
            settings = [dict(zip(lists, values, strict=True)) for values in combinations]
        if not settings or not all(settings):
            raise self.error("grid", value, "a cell without axes")
        for setting in settings:
            if not isinstance(setting.get("configs", ""), str):
                raise ConfigError(
                    f"{self.file}: grid: configs={setting['configs']}: wrong value; legal: a YAML "
                    "file, merged over the others"
                )
        return settings

    def select(self, value: Any) -> Select | None:
        if value is None:
            return None
        inner = self.mapping("select", value)
        if set(inner) != {"over", "by"}:
            raise self.error("select", value)
        over = self.mapping("select.over", inner["over"])
        if len(over) != 1:
            raise self.error("select", value)
        [(key, values)] = over.items()
        if not isinstance(values, list) or not values:
            raise self.error("select", value)
        if len({as_text(each) for each in values}) < len(values):
            raise self.error(f"select.over.{key}", values, "a value is listed twice")
        if inner["by"] not in SCORES:
            raise self.error("select.by", inner["by"])
        return Select(over=over, by=inner["by"])

    def margin(self, value: Any) -> dict[str, float]:
        margins = self.mapping("margin", value)
        for metric, margin in margins.items():
            if metric in get_args(CorpusMetricName):
                why = f"{metric} is a score of the whole corpus, for which a study has no test"
                raise self.error("margin", value, why)
            is_number = isinstance(margin, int | float) and not isinstance(margin, bool)
            if metric not in COMPARED or not is_number or not 0 < margin < 100:
                raise self.error("margin", value)
        return margins

    def check(self, grid: Grid) -> None:
        """Check what depends on several keys."""
        for section, key in _keys_by_section(grid):
            self._check_key(grid, section, key)

        # Cells are told apart by their labels.
        settings: dict[str, dict[str, Any]] = {}
        for setting in grid.settings:
            label = grid.label(setting)
            other = settings.setdefault(label, setting)
            if other is setting:
                continue
            if other == setting:
                raise ConfigError(
                    f"{self.file}: grid: cell {label} is listed twice; legal: each cell once"
                )
            raise ConfigError(
                f"{self.file}: grid: {as_text(other)} and {as_text(setting)} are both named "
                f"{label}; legal: names that differ, as of a file configs/{label}-2.yaml"
            )

        # Names that lead to cells and axes.
        if grid.reference_cell not in grid.settings:
            shown = "; ".join(grid.label(setting) for setting in grid.settings)
            raise ConfigError(
                f"{self.file}: reference_cell={grid.reference_cell}: not a cell of the grid; "
                f"legal: {shown}"
            )
        if len(grid.varied_together) == 1:
            raise self.error("varied_together", grid.varied_together, "one key alone")

    def _check_key(self, grid: Grid, section: str, key: str) -> None:
        where = f"{self.file}: {section}"
        is_varied = section != "overrides"
        if key == "seed":
            raise ConfigError(f"{where}: seed is not set here; legal: seeds: [0, 1, 2]")
        if is_varied and f"{key}.".startswith(KEYS_WITHOUT_EFFECT):
            raise ConfigError(f"{where}: {key} changes no result; legal: keys of what is trained")
        if section == "select.over" and (key in grid.axes or key == "configs"):
            raise ConfigError(f"{where}: {key} is an axis of the grid; legal: another key")
        is_solved = grid.control == "matched_parameters" and key == "model.feedforward_size"
        if is_varied and is_solved:
            raise ConfigError(
                f"{where}: {key} is solved under control=matched_parameters; legal: another key"
            )


def _keys_by_section(grid: Grid) -> Iterator[tuple[str, str]]:
    for key in grid.axes:
        yield "grid", key
    for key in grid.select.over if grid.select else ():
        yield "select.over", key
    for key in grid.overrides:
        yield "overrides", key
