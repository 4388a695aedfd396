"""What a study will take: its cells with their parameters, training FLOPs and time, before any of
them starts. ``headcount ablate --dry-run`` prints it."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import torch
from rich.console import Console
from rich.table import Table

from headcount.config.schema import Config
from headcount.experiments.cell import Cell
from headcount.experiments.controls import count_cost
from headcount.experiments.grid import Grid
from headcount.experiments.launch.local import count_cores, divide_machine, read_state


def _set_threads(number: str) -> None:
    """Set torch's threads as OpenMP would.

    A list has one number per level, and nonsense is ignored.
    """
    first = number.partition(",")[0].strip()
    if first.isdecimal() and int(first):
        torch.set_num_threads(min(int(first), count_cores()))


def print_plan(
    grid: Grid,
    cells: Sequence[Cell],
    *,
    workers: int,
    time_step: Callable[[Config], float],
    console: Console,
) -> None:
    """Print each cell with its state, parameters, training FLOPs and time on this machine.

    Args:
        grid: the checked grid.
        cells: all of its cells.
        workers: trainings at a time.
        time_step: returns the seconds of a training step of a config.
        console: where to print.
    """
    [environment, *_] = divide_machine(workers)
    _set_threads(environment["OMP_NUM_THREADS"])
    table = Table(title=f"{grid.name}, control {grid.control}")
    table.add_column("cell", overflow="fold")
    for column in ("state", "parameters", "training FLOPs", "time"):
        table.add_column(column, justify="right", overflow="fold")

    # One step is timed for all seeds of a setting.
    step_seconds: dict[tuple[str, str], float] = {}
    total_seconds = 0.0
    number_without_time = 0
    for cell in cells:
        if cell.seed_group not in step_seconds:
            step_seconds[cell.seed_group] = time_step(cell.config)
        steps = cell.config.trainer["max_steps"]
        is_by_steps = steps >= 0
        # A step of the optimizer may accumulate the gradients of several batches.
        batches = steps * cell.config.trainer.get("accumulate_grad_batches", 1)
        seconds = batches * step_seconds[cell.seed_group]
        state = read_state(cell)
        if state != "finished" and is_by_steps:
            total_seconds += seconds
        elif state != "finished":
            number_without_time += 1

        cost = count_cost(cell.config)
        passes = batches * cell.config.optimizer.passes
        flops = cost.training_flops_per_token * cell.config.data.batch_tokens * passes
        table.add_row(
            cell.name,
            state,
            f"{cost.parameters:,}",
            f"{flops:.2e}" if is_by_steps else "by epochs",
            str(timedelta(seconds=round(seconds))) if is_by_steps else "by epochs",
        )

    console.print(table)
    remaining = timedelta(seconds=round(total_seconds / workers))
    console.print(
        f"{len(cells)} cells; about {remaining} with --workers {workers} for the unfinished "
        "ones: training steps alone, each batch as long as a step with a full one took just now",
        highlight=False,
    )
    if number_without_time:
        console.print(f"not in that time: {number_without_time} cells that train by epochs")
