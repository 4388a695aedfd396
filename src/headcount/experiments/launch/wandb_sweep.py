"""Registers a study as a W&B sweep: agents on any number of machines train its cells.

An agent runs ``headcount ablate EXPERIMENT KEY=VALUE...``, which trains the one cell with these
values in its own run folder, as any launch does.
"""

from collections.abc import Sequence
from typing import Any

import wandb
from rich.console import Console

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.cells import fingerprint_study
from headcount.experiments.grid import Grid
from headcount.terminal import print_on


def make_sweep(grid: Grid, cells: Sequence[Cell], *, smoke: bool = False) -> dict[str, Any]:
    """Return the sweep's configuration in W&B's format.

    An agent reads the study's files when it starts a cell. Its command contains the fingerprint
    of the registered study, so that a study whose files have changed since is rejected.

    Args:
        grid: the checked grid.
        cells: all of its cells.
        smoke: whether these are cells of ``--smoke``.
    """
    parameters = _axis_parameters(grid, cells)
    for key in cells[0].choice:
        parameters[key] = _without_repeats([cell.choice[key] for cell in cells])
    parameters["seed"] = _without_repeats([cell.seed for cell in cells])

    command = ["${env}", "${interpreter}", "-P", "-m", "headcount", "ablate", str(grid.folder)]
    command += ["--expect", fingerprint_study(cells)]
    if smoke:
        command.append("--smoke")
    score = f"validation/{cells[0].config.evaluation.select_by}"
    return {
        "name": grid.name,
        "program": "headcount",
        "method": "grid",
        "metric": {"name": score, "goal": "maximize"},
        "parameters": {key: {"values": values} for key, values in parameters.items()},
        "command": [*command, "${args_no_hyphens}"],
    }


def _axis_parameters(grid: Grid, cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """Return the axes with their values if the cells are their product, otherwise the labels."""
    settings = [cell.setting for cell in cells]
    axes = {}
    size = 1
    for key in grid.axes:
        axes[key] = _without_repeats([setting.get(key) for setting in settings])
        size *= len(axes[key])

    have_all_axes = all(set(setting) == set(grid.axes) for setting in settings)
    if size == len(grid.settings) and have_all_axes:
        return axes
    return {"cell": _without_repeats([cell.label for cell in cells])}


def register_sweep(sweep: dict[str, Any], cells: Sequence[Cell], console: Console) -> None:
    """Register a sweep and print how an agent is started.

    Args:
        sweep: its configuration.
        cells: of the study; their ``tracking`` section has entity and project.
        console: where to print.

    Raises:
        ConfigError: W&B has no key, or cannot be reached.
    """
    tracking = cells[0].config.tracking
    try:
        if not wandb.login(prompt=False):
            raise ConfigError("--where wandb: no key is configured; legal: after wandb login")
        identifier = wandb.sweep(sweep, entity=tracking.entity, project=tracking.project)
    except wandb.Error as error:
        raise ConfigError(f"--where wandb: {str(error).splitlines()[0]}") from None
    where = f"{wandb.env.get_entity()}/{wandb.env.get_project()}/{identifier}"
    print_on(console, f"on each machine, in the repository's folder: wandb agent {where}")


def _without_repeats(values: Sequence[Any]) -> list[Any]:
    return [value for number, value in enumerate(values) if value not in values[:number]]
