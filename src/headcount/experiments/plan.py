"""What a study will take.

Its cells with their parameters, training FLOPs and time, before any of them starts.
"""

import time
from datetime import timedelta

import torch
from rich.console import Console
from rich.table import Table

from headcount.config.schema import Config
from headcount.experiments.cell import Cell
from headcount.experiments.controls import count_cost
from headcount.experiments.grid import Grid
from headcount.experiments.launch.local import look, share_machine
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout


def print_plan(grid: Grid, cells: list[Cell], *, workers: int, console: Console) -> None:
    """Print each cell with its state, parameters, training FLOPs and the time that its training
    will take here.

    Args:
        grid: the checked grid.
        cells: all of its cells.
        workers: trainings at a time.
        console: where to print.
    """
    torch.set_num_threads(int(share_machine(workers)[0]["OMP_NUM_THREADS"]))
    shown = Table(title=f"{grid.name}, control {grid.control}")
    shown.add_column("cell", overflow="fold")
    for column in ("state", "parameters", "training FLOPs", "time"):
        shown.add_column(column, justify="right", overflow="fold")
    seconds: dict[str, float] = {}
    total = 0.0
    for cell in cells:
        if cell.label not in seconds:
            seconds[cell.label] = time_step(cell.config)
        steps, found, state = cell.config.trainer["max_steps"], count_cost(cell.config), look(cell)
        total += 0.0 if state == "finished" else max(steps, 0) * seconds[cell.label]
        flops = found.training_flops_per_token * cell.config.data.batch_tokens * steps
        shown.add_row(
            cell.name,
            state,
            f"{found.parameters:,}",
            f"{flops:.2e}" if steps >= 0 else "by epochs",
            str(timedelta(seconds=round(steps * seconds[cell.label])))
            if steps >= 0
            else "by epochs",
        )
    console.print(shown)
    left = timedelta(seconds=round(total / workers))
    console.print(
        f"{len(cells)} cells; about {left} with --workers {workers} for what is not finished: "
        "training steps alone, "
        "each as long as one of a full batch took just now",
        highlight=False,
    )


def time_step(config: Config) -> float:
    """Return the seconds that a training step of a full batch of the longest pairs takes on this
    machine."""
    device = (
        "cuda"
        if torch.cuda.is_available() and config.trainer.get("accelerator") != "cpu"
        else "cpu"
    )
    pair = documents, summaries = config.data.max_document_tokens, config.data.max_summary_tokens
    number = config.data.batch_tokens // sum(pair)
    model = build_model(
        config.model,
        vocabulary_size=config.tokenizer.vocabulary_size,
        max_positions=config.max_positions,
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    read, written = (
        torch.randint(config.tokenizer.vocabulary_size, (number * n,), device=device) for n in pair
    )
    rows = (
        BatchLayout.from_lengths([documents] * number, device),
        BatchLayout.from_lengths([summaries] * number, device),
    )
    took = []
    for _ in range(3):  # the first one warms up
        begun = time.perf_counter()
        model(read, rows[0], written, rows[1]).loss(written).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - begun)
    return min(took[1:])
