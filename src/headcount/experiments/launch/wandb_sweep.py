"""Registers a study as a W&B sweep: agents on any number of machines pull its cells.

An agent runs ``headcount ablate EXPERIMENT KEY=VALUE...``, which trains the one cell that has
these values, by ``headcount train`` in the cell's own run folder, as any launch does.
"""

from typing import Any

import wandb
from rich.console import Console

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.cells import fingerprint_study
from headcount.experiments.grid import Grid
from headcount.terminal import say


def make_sweep(grid: Grid, cells: list[Cell], *, smoke: bool = False) -> dict[str, Any]:
    """Return the sweep's configuration, as W&B has it.

    An agent reads the study's files when it starts a cell. The command names the study that was
    registered, so that a study whose files have been edited since is rejected.

    Its parameters are the axes where the cells are their product; otherwise the cells' labels.
    Seeds and the inner axis are parameters of their own.

    Args:
        grid: the checked grid.
        cells: all of its cells.
        smoke: whether these are cells of ``--smoke``.
    """
    settings = [cell.setting for cell in cells]
    axes = {key: _each_once([setting.get(key) for setting in settings]) for key in grid.axes}
    product = 1
    for values in axes.values():
        product *= len(values)
    if product != len(grid.settings) or any(
        set(setting) != set(grid.axes) for setting in settings
    ):
        axes = {"cell": _each_once([cell.label for cell in cells])}
    axes |= {key: _each_once([cell.choice[key] for cell in cells]) for key in cells[0].choice}
    axes |= {"seed": _each_once([cell.seed for cell in cells])}
    command = ["${env}", "${interpreter}", "-P", "-m", "headcount", "ablate", str(grid.folder)]
    options = ["--expect", fingerprint_study(cells), *(["--smoke"] if smoke else [])]
    return {
        "name": grid.name,
        "program": "headcount",
        "method": "grid",
        "metric": {
            "name": f"validation/{cells[0].config.evaluation.select_by}",
            "goal": "maximize",
        },
        "parameters": {key: {"values": values} for key, values in axes.items()},
        "command": [*command, *options, "${args_no_hyphens}"],
    }


def register_sweep(sweep: dict[str, Any], cells: list[Cell], console: Console) -> None:
    """Register a sweep and say how an agent is started.

    Args:
        sweep: its configuration.
        cells: of the study; their ``tracking`` says where.
        console: where to say it.

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
    say(console, f"on each machine, in the repository's folder: wandb agent {where}")


def _each_once(values: list[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]
