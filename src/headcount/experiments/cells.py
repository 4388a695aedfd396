"""From a grid to its cells: each with its resolved config and the run folder that this config
determines.

Nothing here imports torch, except for the control that has to count parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
        smoke: merge ``configs/smoke.yaml`` over everything but models and axes; only the first
            seed and the first value of the inner axis.

    Raises:
        ConfigError: a cell without a valid config, by name; two cells that are the same.
    """
    # --smoke takes the first value of the inner axis and the first seed.
    choices: list[dict[str, Any]] = [{}]
    if grid.select:
        [(key, values)] = grid.select.over.items()
        choices = [{key: value} for value in values]
    seeds = grid.seeds
    smoke_overrides: dict[str, Any] = {}
    if smoke:
        choices = choices[:1]
        seeds = seeds[:1]
        smoke_overrides = _smoke_overrides(grid)

    cells = []
    for setting in grid.settings:
        for choice in choices:
            for seed in seeds:
                cells.append(_resolve(grid, setting, choice, seed, smoke_overrides))

    # Checks that need all cells.
    if grid.control == "matched_parameters":
        cells = _match_parameters(grid, cells, smoke_overrides)
    _reject_repeated(grid, cells)
    _check_declared(grid)
    _check_selection(grid, cells)
    return cells


def _match_parameters(
    grid: Grid, cells: Sequence[Cell], smoke_overrides: dict[str, Any]
) -> list[Cell]:
    """Return the cells with the feed-forward size that gives all the same parameters."""
    # Counting parameters needs torch, which no other grid has to import.
    from headcount.experiments.controls import match_parameters

    matched = []
    for cell, size in zip(cells, match_parameters(cells), strict=True):
        matched.append(_resolve(grid, cell.setting, cell.choice, cell.seed, smoke_overrides, size))
    return matched


def _reject_repeated(grid: Grid, cells: Sequence[Cell]) -> None:
    earlier: dict[str, Cell] = {}
    for cell in cells:
        other = earlier.setdefault(cell.fingerprint, cell)
        if other is not cell:
            raise ConfigError(
                f"{grid.file}: cell {cell.name} is the same training as cell {other.name}; "
                "legal: each once"
            )


def _check_declared(grid: Grid) -> None:
    """Check that the keys that are declared to vary together are varied."""
    varied = [key for key in grid.axes if key != "configs"]
    for file in dict.fromkeys(grid.overlays):
        varied += read_keys(grid.locate(file))
    for key in grid.varied_together:
        if key not in varied:
            raise ConfigError(
                f"{grid.file}: varied_together: {key} is not varied by the grid; "
                f"{legal_names(key, list(dict.fromkeys(varied)))}"
            )


def _check_selection(grid: Grid, cells: Sequence[Cell]) -> None:
    """Check that the trainings compute the score that selects a value of the inner axis."""
    if grid.select is None:
        return
    for cell in cells:
        computed = [f"validation/{name}" for name in cell.config.evaluation.computed]
        if grid.select.by not in computed:
            metric = grid.select.by.removeprefix("validation/")
            raise ConfigError(
                f"{grid.file}: select.by={grid.select.by}: cell {cell.name} does not compute it; "
                f"legal: {', '.join(computed)}, or evaluation.metrics with {metric}"
            )


def fingerprint_study(cells: Sequence[Cell]) -> str:
    """Return 8 hex digits of everything that can change a result of a study."""
    fingerprints = sorted(cell.fingerprint for cell in cells)
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()[:8]


def check_study(experiment: Path, cells: Sequence[Cell], expected: str) -> None:
    """Reject a study that has changed since it was registered.

    Raises:
        ConfigError: its grid or a config file has changed.
    """
    found = fingerprint_study(cells)
    if found != expected:
        raise ConfigError(
            f"--expect={expected}: {experiment} is another study now, {found}: its grid or a "
            "config file has changed since the sweep was registered; legal: the files as they "
            "were, or a new sweep"
        )


def pick_cells(cells: list[Cell], wanted: Sequence[str]) -> list[Cell]:
    """Return the cells that have certain values.

    Args:
        cells: of a grid.
        wanted: ``KEY=VALUE`` each, where KEY is an axis, ``seed`` or ``cell`` (the label); values
            may be spelled as in Python, and as the grid spells them: 0 where the config has 0.0.

    Raises:
        ConfigError: no cell has them.
    """
    for condition in wanted:
        # The value of this key in each cell.
        key, _, text = condition.partition("=")
        values = []
        picked = []
        for cell in cells:
            known = cell.axes | cell.choice | {"seed": cell.seed, "cell": cell.label}
            if key not in known:
                names = legal_names(key, list(known))
                raise ConfigError(f"{condition}: not what cells differ in; {names}")
            values.append(known[key])

            # Sweeps hand out the value as the grid gives it.
            as_given = cell.setting.get(key, known[key])
            spellings = (as_text(known[key]), str(known[key]), as_text(as_given), str(as_given))
            if text in spellings:
                picked.append(cell)

        # Cells with the wanted value are left for the next condition.
        if not picked:
            legal = ", ".join(dict.fromkeys(as_text(value) for value in values))
            raise ConfigError(f"{condition}: no such cell; legal: {legal}")
        cells = picked
    return cells


def _resolve(
    grid: Grid,
    setting: dict[str, Any],
    choice: dict[str, Any],
    seed: int,
    smoke_overrides: dict[str, Any],
    feedforward_size: int | None = None,
) -> Cell:
    """Return a cell with its resolved config.

    Args:
        grid: the checked grid.
        setting: values of the axes.
        choice: the value of the inner axis, or nothing.
        seed: of the training.
        smoke_overrides: what ``--smoke`` changes, or nothing.
        feedforward_size: as solved for by ``matched_parameters``.
    """
    # Later values win: the grid's, --smoke's, the cell's own, the solved one.
    values = grid.overrides | smoke_overrides
    values |= {key: value for key, value in setting.items() if key != "configs"}
    values |= choice | {"seed": seed}
    if feedforward_size is not None:
        values["model.feedforward_size"] = feedforward_size
    overrides = [f"{key}={as_text(value)}" for key, value in values.items()]

    configs = list(grid.configs)
    if "configs" in setting:
        configs.append(setting["configs"])
    files = [grid.locate(config) for config in configs]

    # The name, which messages about the config begin with.
    label = grid.label(setting)
    parts = [label, grid.label(choice), f"seed={seed}"] if choice else [label, f"seed={seed}"]
    name = ",".join(parts)
    config = compose.load(files, overrides, where=f"{grid.file}: cell {name}")

    resolved = compose.flatten(as_dict(config))
    # A list of cells may have an overlay in some of them only.
    resolved["configs"] = setting.get("configs")
    axes = {key: resolved[key] for key in grid.axes}
    config_fingerprint = fingerprint(config)
    study_folder = grid.name + ("-smoke" if smoke_overrides else "")
    run_folder = f"{shorten(name, MAX_FOLDER_LENGTH)}-{config_fingerprint}"
    return Cell(
        name=name,
        label=label,
        setting=setting,
        axes=axes,
        choice=choice,
        seed=seed,
        is_reference=setting == grid.reference_cell,
        files=files,
        overrides=overrides,
        config=config,
        fingerprint=config_fingerprint,
        folder=user_path("run.directory", config.run.directory) / study_folder / run_folder,
    )


def _smoke_overrides(grid: Grid) -> dict[str, Any]:
    """Return what makes a training short, except for models: they are what a study compares."""
    file = grid.locate(SMOKE)
    compose.load([file], [])  # rejects what it cannot read
    return {key: value for key, value in read_keys(file).items() if not key.startswith("model.")}
