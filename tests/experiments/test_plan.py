import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from headcount.config.schema import Config
from headcount.experiments.cell import Cell
from headcount.experiments.controls import count_cost
from headcount.experiments.grid import load_grid
from headcount.experiments.launch.local import count_cores
from headcount.experiments.plan import print_plan
from headcount.training.step_time import time_step
from tests.experiments.studies import HEADS, write_study


def test_a_plan_states_the_cost_of_a_study_and_starts_nothing(small_study: list[Cell]) -> None:
    small_study[0].folder.mkdir(parents=True)
    (small_study[0].folder / "finished").write_text("{}")
    printed = io.StringIO()
    print_plan(
        load_grid(Path("study")),
        small_study,
        workers=1,
        time_step=time_step,
        console=Console(file=printed, width=200),
    )
    rows = [
        [part.strip() for part in line.split("│")[1:-1]]
        for line in printed.getvalue().splitlines()
        if "│" in line
    ]
    assert [row[:2] for row in rows] == [
        ["num_heads=1,seed=0", "finished"],
        ["num_heads=2,seed=0", "waiting"],
        ["num_heads=4,seed=0", "waiting"],
    ]
    cost = count_cost(small_study[0].config)
    assert {row[2] for row in rows} == {f"{cost.parameters:,}"}
    assert {row[3] for row in rows} == {
        f"{cost.training_flops_per_token * 512 * 200:.2e}"
    }  # batch_tokens, max_steps
    assert (
        all(row[4].startswith("0:0") for row in rows)
        and "3 cells; about 0:0" in printed.getvalue()
    )
    assert list(Path("runs/study").iterdir()) == [small_study[0].folder]


def test_what_trains_by_epochs_has_no_time(small_study: list[Cell]) -> None:
    for cell in small_study[1:]:
        cell.config.trainer["max_steps"] = -1
    printed = io.StringIO()
    print_plan(
        load_grid(Path("study")),
        small_study,
        workers=1,
        time_step=lambda config: 1.0,
        console=Console(file=printed, width=200),
    )
    assert "3 cells; about 0:03:20 with --workers 1" in printed.getvalue()  # 200 steps of one
    assert "not in that time: 2 cells that train by epochs" in printed.getvalue()


def test_accumulated_batches_count(small_study: list[Cell]) -> None:
    """A step of the optimizer takes as many batches, in time and in FLOPs."""
    small_study[2].config.trainer["accumulate_grad_batches"] = 4
    printed = io.StringIO()
    print_plan(
        load_grid(Path("study")),
        small_study[1:],
        workers=1,
        time_step=lambda config: 1.0,
        console=Console(file=printed, width=200),
    )
    rows = [line for line in printed.getvalue().splitlines() if "waiting" in line]
    flops = count_cost(small_study[2].config).training_flops_per_token * 512 * 200
    assert [f"{flops:.2e}" in rows[0], f"{4 * flops:.2e}" in rows[1]] == [True, True]
    assert ["0:03:20" in rows[0], "0:13:20" in rows[1]] == [True, True]
    assert "2 cells; about 0:16:40 with" in printed.getvalue()


def test_both_passes_of_r_drop_count(small_study: list[Cell]) -> None:
    """As in the FLOPs that a training counts."""
    _, cell, other = small_study
    optimizer = replace(other.config.optimizer, r_drop=1.0)
    doubled = replace(other, config=replace(other.config, optimizer=optimizer))
    printed = io.StringIO()
    print_plan(
        load_grid(Path("study")),
        [cell, doubled],
        workers=1,
        time_step=lambda config: 1.0,
        console=Console(file=printed, width=200),
    )
    rows = [line for line in printed.getvalue().splitlines() if "waiting" in line]
    flops = count_cost(cell.config).training_flops_per_token * 512 * 200
    assert [f"{flops:.2e}" in rows[0], f"{2 * flops:.2e}" in rows[1]] == [True, True]


def test_each_value_of_the_inner_axis_is_timed(tmp_path: Path) -> None:
    grid = HEADS.replace("[0, 1, 2]", "[0, 1]").replace("[1, 2, 4, 8, 16]", "[8]")
    grid += "select: {over: {data.batch_tokens: [1024, 4096]}, by: validation/rougeL}\n"
    cells = write_study(Path("study"), lambda cell: 20, grid=grid, keep=lambda cell: False)
    timed = []

    def time_step(config: Config) -> float:
        timed.append(config.data.batch_tokens)
        return 1.0

    print_plan(
        load_grid(Path("study")),
        cells,
        workers=1,
        time_step=time_step,
        console=Console(file=io.StringIO()),
    )
    assert timed == [1024, 4096]


@pytest.mark.parametrize("number", ["1,2", "", "x", "0", "-1", "99999999999999999999"])
def test_openmp_variables_of_any_kind(
    number: str, small_study: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is timed with threads that the machine has."""
    monkeypatch.setenv("OMP_NUM_THREADS", number)
    threads = []

    def time_step(config: Config) -> float:
        threads.append(torch.get_num_threads())
        return 0.01

    before = torch.get_num_threads()
    printed = io.StringIO()
    try:
        print_plan(
            load_grid(Path("study")),
            small_study[:1],
            workers=1,
            time_step=time_step,
            console=Console(file=printed),
        )
    finally:
        torch.set_num_threads(before)
    assert 1 <= threads[0] <= count_cores()
    assert number != "1,2" or threads == [1]
    assert "about 0:0" in printed.getvalue()
