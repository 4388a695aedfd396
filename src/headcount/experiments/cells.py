"""From a grid to its cells: each with its whole config and a run folder that this config decides.

Nothing here imports torch, but for the one control that has to count parameters.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from headcount.config import load as compose
from headcount.config.load import as_dict
from headcount.config.paths import user_path
from headcount.errors import ConfigError, legal_names
from headcount.experiments.cell import MAX_FOLDER_LENGTH, Cell, fingerprint, read_keys, shorten
from headcount.experiments.grid import Grid, as_text

SMOKE = "configs/smoke.yaml"


def make_cells(grid: Grid, *, smoke: bool = False) -> list[Cell]:
    """Resolve every cell of a grid, in the grid's order, the seeds of a setting side by side.

    Args:
        grid: the checked grid.
        smoke: lay ``configs/smoke.yaml`` over all but models and axes, with the first seed and
            value of the inner axis.

    Raises:
        ConfigError: a cell that has no valid config, by name; two cells that are the same.
    """
    inner = (
        [{key: value} for key, values in grid.select.over.items() for value in values]
        if grid.select
        else [{}]
    )
    seeds = grid.seeds
    short = _smoke(grid) if smoke else {}
    if smoke:
        inner, seeds = inner[:1], seeds[:1]
    cells = [
        _resolve(grid, setting, choice, seed, short)
        for setting in grid.settings
        for choice in inner
        for seed in seeds
    ]
    if grid.control == "matched_parameters":
        # Counting parameters takes torch, which no other grid has to wait for.
        from headcount.experiments.controls import match_parameters

        cells = [
            _resolve(grid, cell.setting, cell.choice, cell.seed, short, size)
            for cell, size in zip(cells, match_parameters(cells), strict=True)
        ]
    same: dict[str, str] = {}
    for cell in cells:
        if (other := same.setdefault(cell.fingerprint, cell.name)) != cell.name:
            raise ConfigError(
                f"{grid.file}: cell {cell.name} is the same training as cell {other}; legal: "
                "each once"
            )
    return cells


def fingerprint_study(cells: list[Cell]) -> str:
    """Return 8 hex digits of everything that can change a result of a study."""
    return hashlib.sha256(
        "".join(sorted(cell.fingerprint for cell in cells)).encode()
    ).hexdigest()[:8]


def check_study(experiment: Path, cells: list[Cell], expected: str) -> None:
    """Reject a study that is not the one that was registered.

    Raises:
        ConfigError: its grid or a config file has changed.
    """
    found = fingerprint_study(cells)
    if found != expected:
        raise ConfigError(
            f"--expect={expected}: {experiment} is another study now, {found}: its grid or a "
            "config file has changed "
            "since the sweep was registered; legal: the files as they were, or a new sweep"
        )


def pick_cells(cells: list[Cell], wanted: list[str]) -> list[Cell]:
    """Return the cells that have certain values.

    Args:
        cells: of a grid.
        wanted: ``KEY=VALUE`` each, an axis, ``seed`` or ``cell``, which is a label; values may be
            spelled as in Python.

    Raises:
        ConfigError: no cell has them.
    """
    for word in wanted:
        name, _, value = word.partition("=")
        values = {
            cell.name: (cell.axes | cell.choice | {"seed": cell.seed, "cell": cell.label})
            for cell in cells
        }
        if not all(name in each for each in values.values()):
            raise ConfigError(
                f"{word}: not what cells differ in; "
                f"{legal_names(name, list(values[cells[0].name]))}"
            )
        picked = [
            cell
            for cell in cells
            if value in (as_text(values[cell.name][name]), str(values[cell.name][name]))
        ]
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
    own = (
        {key: value for key, value in setting.items() if key != "configs"}
        | choice
        | {"seed": seed}
    )
    given = grid.overrides | short | own | solved
    named = [*grid.configs, *([setting["configs"]] if "configs" in setting else [])]
    files = [grid.locate(file) for file in named]
    overrides = [f"{key}={as_text(value)}" for key, value in given.items()]
    label = grid.label(setting)
    name = ",".join([label, *([grid.label(choice)] if choice else []), f"seed={seed}"])
    config = compose.load(files, overrides, said=f"{grid.file}: cell {name}")
    known = compose.flatten(as_dict(config))
    cell_fingerprint = fingerprint(config)
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
        fingerprint=cell_fingerprint,
        folder=user_path("run.directory", config.run.directory)
        / f"{grid.name}{'-smoke' if short else ''}"
        / f"{shorten(name, MAX_FOLDER_LENGTH)}-{cell_fingerprint}",
    )


def _smoke(grid: Grid) -> dict[str, Any]:
    """Return what makes a training short: its models stay, for they are what a study tries."""
    file = grid.locate(SMOKE)
    compose.load([file], [])  # rejects what it cannot read
    return {key: value for key, value in read_keys(file).items() if not key.startswith("model.")}
