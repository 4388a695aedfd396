"""What a study will take: its cells with their parameters, training FLOPs and time, before any of
them starts. ``headcount ablate --dry-run`` prints it."""

import time
from collections.abc import Sequence
from datetime import timedelta

import torch
from rich.console import Console
from rich.table import Table

from headcount.config.schema import Config
from headcount.experiments.cell import Cell
from headcount.experiments.controls import count_cost
from headcount.experiments.grid import Grid
from headcount.experiments.launch.local import count_cores, divide_machine, read_state
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout


def _set_threads(number: str) -> None:
    """Set torch's threads as OpenMP would.

    A list has one number per level, and nonsense is ignored.
    """
    first = number.partition(",")[0].strip()
    if first.isdecimal() and int(first):
        torch.set_num_threads(min(int(first), count_cores()))


def print_plan(grid: Grid, cells: Sequence[Cell], *, workers: int, console: Console) -> None:
    """Print each cell with its state, parameters, training FLOPs and time on this machine.

    Args:
        grid: the checked grid.
        cells: all of its cells.
        workers: trainings at a time.
        console: where to print.
    """
    [environment, *_] = divide_machine(workers)
    _set_threads(environment["OMP_NUM_THREADS"])
    table = Table(title=f"{grid.name}, control {grid.control}")
    table.add_column("cell", overflow="fold")
    for column in ("state", "parameters", "training FLOPs", "time"):
        table.add_column(column, justify="right", overflow="fold")

    # One step is timed for each setting, whatever its number of seeds.
    step_seconds: dict[str, float] = {}
    total_seconds = 0.0
    for cell in cells:
        if cell.label not in step_seconds:
            step_seconds[cell.label] = time_step(cell.config)
        steps = cell.config.trainer["max_steps"]
        seconds = steps * step_seconds[cell.label]
        state = read_state(cell)
        if state != "finished":
            total_seconds += max(0.0, seconds)

        cost = count_cost(cell.config)
        flops = cost.training_flops_per_token * cell.config.data.batch_tokens * steps
        is_by_steps = steps >= 0
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
        f"{len(cells)} cells; about {remaining} with --workers {workers} for what is not "
        "finished: training steps alone, each as long as one of a full batch took just now",
        highlight=False,
    )


def time_step(config: Config) -> float:
    """Return the seconds of a training step on this machine, with a full batch of the longest
    pairs."""
    may_use_gpu = torch.cuda.is_available() and config.trainer.get("accelerator") != "cpu"
    device = "cuda" if may_use_gpu else "cpu"
    vocabulary_size = config.tokenizer.vocabulary_size
    model = build_model(
        config.model, vocabulary_size=vocabulary_size, max_positions=config.max_positions
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters())

    # A batch of random tokens.
    document_length = config.data.max_document_tokens
    summary_length = config.data.max_summary_tokens
    examples = config.data.batch_tokens // (document_length + summary_length)
    documents_N = torch.randint(vocabulary_size, (examples * document_length,), device=device)
    summaries_M = torch.randint(vocabulary_size, (examples * summary_length,), device=device)
    document_layout = BatchLayout.from_lengths([document_length] * examples, device)
    summary_layout = BatchLayout.from_lengths([summary_length] * examples, device)

    durations = []
    for _ in range(3):
        start = time.perf_counter()
        output = model(documents_N, document_layout, summaries_M, summary_layout)
        output.loss(summaries_M).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        durations.append(time.perf_counter() - start)
    return min(durations[1:])  # the first one warms up
