"""The command ``ablate``: train the cells of a study."""

from pathlib import Path
from typing import Literal

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.cells import check_study, make_cells, pick_cells
from headcount.experiments.grid import Grid, load_grid
from headcount.experiments.seeds import add_by_hand, extend_cells, read_added_seeds, record_by_hand
from headcount.terminal import SafeConsole, make_console

Where = Literal["local", "slurm", "wandb"]


def ablate(
    experiment: Path,
    only: list[str],
    *,
    where: Where = "local",
    workers: int | None = None,
    slurm: list[str] | None = None,
    retry: bool = False,
    dry_run: bool = False,
    smoke: bool = False,
    seeds: str | None = None,
    until_decided: bool = False,
    budget: float | None = None,
    expect: str | None = None,
) -> int:
    """Train every cell of a study that is not yet finished.

    Args:
        experiment: a folder with a grid.yaml.
        only: values as ``KEY=VALUE``; only the cells with these values are trained.
        where: on this machine, as a SLURM job array, or by the agents of a W&B sweep.
        workers: number of trainings at a time; None: 1, or the number of cores with ``smoke``.
        slurm: options of SLURM as ``KEY=VALUE``.
        retry: also train the cells that failed before.
        dry_run: print the plan with its costs, and start no training.
        smoke: train a few steps of each cell, in a separate folder.
        seeds: additional seeds for all settings, separated by commas.
        until_decided: add seeds to the undecided settings.
        budget: number of hours of all launches with ``until_decided`` after which it adds no more
            seeds; those of the grid are trained in any case.
        expect: fingerprint of the study, with which a job was submitted; the study must not have
            changed since then.

    Returns:
        The exit status: 0 if all cells are finished.

    Raises:
        ConfigError: the study, a value or an option is wrong.
    """
    # Reject options that have no effect together.
    if slurm and where != "slurm":
        raise ConfigError(
            f"--slurm {slurm[0]} does nothing with --where {where}; legal: --where slurm"
        )
    if until_decided and (where != "local" or smoke or only or seeds):
        raise ConfigError(
            "--until-decided trains a whole study on this machine; legal: without --where, "
            "--smoke, --seeds and KEY=VALUE"
        )
    if budget is not None and not until_decided:
        raise ConfigError(f"--budget {budget:g} does nothing alone; legal: with --until-decided")
    if seeds is not None and where == "wandb":
        raise ConfigError(
            f"--seeds {seeds} does nothing with --where wandb; legal: seeds in grid.yaml"
        )

    # The cells of the grid, those with added seeds, and those that the command selects.
    grid = load_grid(experiment)
    grid_cells = make_cells(grid, smoke=smoke)
    if expect is not None:
        check_study(experiment, grid_cells, expect)
    added = read_added_seeds(grid, grid_cells)
    if seeds is not None:
        added = add_by_hand(grid, added, seeds)
    if added.seeds() and where == "wandb":
        raise ConfigError(
            f"--where wandb: {grid.folder} has added seeds {added.seeds()}, which agents on other "
            "machines do not know; legal: --where local or slurm, or these seeds in grid.yaml"
        )
    all_cells = extend_cells(grid, grid_cells, added, smoke=smoke)
    cells = pick_cells(all_cells, only)

    # Errors up to here are reported without the seconds that importing torch takes.
    from headcount.experiments.controls import check_controls
    from headcount.experiments.launch.local import read_state
    from headcount.experiments.report.results import check_config

    console = make_console()
    check_controls(grid, all_cells)
    for cell in all_cells:
        if read_state(cell) == "finished":
            check_config(cell)  # before hours of trainings that no report could compare with it
    if until_decided:
        # Before a plan is printed, or failures are forgotten.
        from headcount.experiments.until_decided import check_rule

        check_rule(grid, added)
    if dry_run:
        from headcount.experiments.plan import print_plan
        from headcount.training.step_time import time_step

        print_plan(grid, cells, workers=workers or 1, time_step=time_step, console=console)
        return 0

    # Start the trainings.
    if seeds is not None:
        record_by_hand(grid, grid_cells, seeds)
    if where == "wandb":
        from headcount.experiments.launch.wandb_sweep import make_sweep, register_sweep

        register_sweep(make_sweep(grid, grid_cells, smoke=smoke), grid_cells, console)
        return 0
    if until_decided:
        from headcount.experiments.launch.local import forget_failure
        from headcount.experiments.until_decided import train_until_decided

        for cell in cells if retry else ():
            forget_failure(cell)
        return train_until_decided(
            grid, grid_cells, workers=workers or 1, budget=budget, console=console
        )
    return _launch(grid, cells, console, where, workers, slurm or [], retry=retry, smoke=smoke)


def _launch(
    grid: Grid,
    cells: list[Cell],
    console: SafeConsole,
    where: Where,
    workers: int | None,
    slurm: list[str],
    *,
    retry: bool,
    smoke: bool,
) -> int:
    """Train cells on this machine or on SLURM, and return the exit status."""
    from headcount.experiments.launch.local import Launch, count_cores, forget_failure

    if retry:
        for cell in cells:
            forget_failure(cell)
    if where == "slurm":
        from headcount.experiments.launch.slurm import launch_on_slurm

        return launch_on_slurm(cells, grid.name, workers=workers, options=slurm, console=console)
    if workers is None:
        workers = min(count_cores(), len(cells)) if smoke else 1
    return Launch(cells, grid.name, workers=workers, console=console).run()
