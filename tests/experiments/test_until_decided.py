"""The sequential rule on made-up studies: a launch writes the scores that a seed decides."""

import io
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from headcount.errors import ConfigError
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments import until_decided
from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid
from headcount.experiments.report.write import report
from headcount.experiments.seeds import (
    AddedSeeds,
    Usage,
    extend_cells,
    read_added_seeds,
    write_added_seeds,
)
from headcount.experiments.until_decided import train_until_decided
from tests.experiments.studies import HEADS, write_study, write_values

GRID = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 4, 8, 16]") + "margin: {rougeL: 1.0}\n"
# One head is far below, four heads are equal, the seeds of sixteen vary too much to decide.
TRUE_SCORES = {1: 15.0, 4: 20.0, 8: 20.0, 16: 20.5}
SEED_SDS = {1: 0.1, 4: 0.1, 8: 0.1, 16: 2.0}


def train(cell: Cell) -> None:
    """Write a finished run."""
    draws = np.random.default_rng(zlib.crc32(cell.name.encode()))
    heads = cell.axes["model.num_heads"]
    score = TRUE_SCORES[heads] + draws.normal(0, SEED_SDS[heads])
    scores = score + np.random.default_rng(0).normal(0, 8, 60) + draws.normal(0, 1, 60)
    write_values(cell, np.repeat(scores[:, None], len(EXAMPLE_METRICS), axis=1))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cells that were trained, in order."""
    names: list[str] = []

    class Launch:
        def __init__(self, cells: list[Cell], group: str, **options: object) -> None:
            self.cells = cells

        def run(self) -> int:
            for cell in self.cells:
                if not (cell.folder / "finished").exists():
                    train(cell)
                    names.append(cell.name)
            return 0

    monkeypatch.setattr(until_decided, "Launch", Launch)
    return names


def start(budget: float | None = None, workers: int = 1) -> tuple[str, AddedSeeds]:
    grid = load_grid(Path("study"))
    cells = make_cells(grid)
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    assert train_until_decided(grid, cells, workers=workers, budget=budget, console=console) == 0
    return printed.getvalue(), read_added_seeds(grid, cells)


def written(grid: str = GRID) -> list[Cell]:
    return write_study(Path("study"), lambda cell: 0, grid=grid, keep=lambda cell: False)


def test_seeds_are_added_where_a_study_is_undecided_and_looks_are_reported(
    trained: list[str], tmp_path: Path
) -> None:
    written()
    printed, added = start()
    seeds = {
        heads: sum(name.startswith(f"num_heads={heads},") for name in trained)
        for heads in (1, 4, 8, 16)
    }
    # What the first look decides gets no more seeds; the reference cell has all.
    assert seeds[8] == seeds[16] == 8 and seeds[1] < 8 and seeds[4] < 8
    verdicts = added.verdicts()
    assert verdicts["num_heads=1"]["rougeL"] == "worse"
    assert verdicts["num_heads=4"]["rougeL"] == "equal within the margin"
    assert [look.seeds for look in added.looks] == [3, 5, 8]
    assert len(added.looks[0].trainings) == 12 and len(added.looks[2].trainings) == len(trained)
    assert "look after 3 seeds: " in printed and "look after 8 seeds: " in printed

    # The same command again trains and looks no more.
    number = len(trained)
    _, again = start()
    assert again == added and len(trained) == number

    # The report has the looks.
    report(Path("study"))
    table = Path("study/table.md").read_text()
    for number, look in enumerate(added.looks, start=1):
        assert f"Look {number}, after {look.seeds} seeds: " in table
    assert "looks are planned after 3, 5 and 8 seeds" in table
    assert "- 1 head (" in table or "- 1 head: " in table
    assert "worse in R1 (after 3 seeds)" in table
    assert "Verdicts are those of a sequential rule" in table
    assert "Equal is smaller than the margin of 1 RL." in table
    assert "undecided in R1 (after 8 seeds, the last look)" in table
    assert "RL ? undecided<br>undecided after the last look |" in table
    assert "better or worse where the corrected p is below" not in table
    assert "num_heads=1" in table and "RL ▼ worse" in table and "RL = equal" in table


def test_a_budget_counts_the_hours_of_all_launches(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each of two trainings at a time takes 0.2 hours here, of which 300 seconds are steps."""
    clock = SimpleNamespace(monotonic=lambda: len(trained) / 10 * until_decided.HOUR)
    monkeypatch.setattr(until_decided, "time", clock)
    written(GRID.replace("[1, 4, 8, 16]", "[8, 16]"))

    # The first look takes six trainings, the second one four.
    printed, added = start(budget=0.9, workers=2)
    assert len(trained) == 6 and added.usage.hours == pytest.approx(0.6)
    assert "--budget 0.9: 0.6 hours are used, those of earlier launches too" in printed
    assert "the next look would take about 0.4" in printed
    assert start(budget=0.9, workers=2)[1] == added and len(trained) == 6

    # One training at a time takes twice as long.
    assert "would take about 0.8" in start(budget=1.3, workers=1)[0] and len(trained) == 6
    _, added = start(budget=1.05, workers=2)
    assert len(trained) == 10 and [look.seeds for look in added.looks] == [3, 5]


def test_without_hours_on_record_a_look_takes_steps_and_decoding(
    trained: list[str], tmp_path: Path
) -> None:
    """The first seeds were trained without the rule."""
    cells = written(GRID.replace("[1, 4, 8, 16]", "[8, 16]"))
    for cell in cells:
        train(cell)
        costs = json.loads((cell.folder / "costs.json").read_text())
        costs |= {"training_seconds": 720.0, "decode_ms_per_summary": 12_000.0}  # of 60 summaries
        (cell.folder / "costs.json").write_text(json.dumps(costs))
    printed, added = start(budget=1.5)
    assert "0.0 hours are used" in printed and "would take about 1.6" in printed
    assert trained == [] and added.usage == Usage()


def test_a_budget_ends_it_and_a_larger_one_continues(trained: list[str], tmp_path: Path) -> None:
    written()
    printed, added = start(budget=0)
    assert len(trained) == 12 and [look.seeds for look in added.looks] == [3]
    assert "--budget 0: 0.0 hours are used, " in printed
    assert not added.by_rule

    # The next look has the data of five seeds, not those of three again.
    _, added = start(budget=10)
    assert [look.seeds for look in added.looks] == [3, 5, 8]
    assert sum(name.startswith("num_heads=16,") for name in trained) == 8


def test_what_is_decided_at_the_first_look_is_not_looked_at_again(
    trained: list[str], tmp_path: Path
) -> None:
    written(GRID.replace("[1, 4, 8, 16]", "[1, 8]"))
    _, added = start()
    assert len(added.looks) == 1 and len(trained) == 6
    _, again = start()
    assert again == added and len(trained) == 6


def test_a_report_tells_the_decisions_of_the_looks_only(
    trained: list[str], tmp_path: Path
) -> None:
    """The p-values of the last data would call sixteen heads different; the rule has not."""
    cells = written(GRID.replace("[1, 4, 8, 16]", "[8, 16]"))
    start()
    grid = load_grid(Path("study"))
    added = read_added_seeds(grid, cells)
    early = {"num_heads=16": {"rouge1": "worse", "rouge2": "undecided", "rougeL": "undecided"}}
    late = {"num_heads=16": {"rouge2": "undecided", "rougeL": "undecided"}}
    looks = [
        replace(added.looks[0], seeds=3, verdicts=early),
        replace(added.looks[0], seeds=5, verdicts=late),
    ]
    by_rule = {label: [3, 4] for label in ("num_heads=8", "num_heads=16")}
    added = replace(added, by_rule=by_rule, looks=looks)
    write_added_seeds(cells, added)
    for cell in extend_cells(grid, cells, added):
        values = np.random.default_rng(cell.seed).normal(20, 0.01, (60, len(EXAMPLE_METRICS)))
        write_values(cell, values - 5 * (not cell.is_reference))

    report(Path("study"))
    table = Path("study/table.md").read_text()
    assert "p < 0.001" in table  # of all metrics
    again = "(after 5 seeds; next look: 8 seeds)"
    assert f"worse in R1 (after 3 seeds), undecided in R2 {again} and RL {again}; sm" in table
    assert "R1 ▼ worse<br>R2 ? undecided<br>RL ? undecided<br>next look: 8 seeds |" in table
    assert "neither they nor the intervals are adjusted for the looks" in table

    undecided = {"num_heads=16": {**late["num_heads=16"], "rouge1": "undecided"}}
    write_added_seeds(cells, replace(added, looks=[replace(looks[1], verdicts=undecided)]))
    report(Path("study"))
    assert "0 of 1 setting compared differ significantly from 8 heads." in (
        Path("study/table.md").read_text()
    )


def test_a_killed_look_is_continued(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The launcher ends after the seeds of a look were recorded, and before it was taken."""
    cells = written()
    start(budget=0)
    added = read_added_seeds(load_grid(Path("study")), cells)
    by_rule = {label: [3, 4] for label in ("num_heads=8", "num_heads=16")}
    write_added_seeds(cells, replace(added, by_rule=by_rule))
    _, added = start()
    assert [look.seeds for look in added.looks] == [3, 5, 8]


def during_the_first_launch(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen when the first launch has trained its cells."""
    run = until_decided.Launch.run
    pending = [act]

    def run_and_act(self: until_decided.Launch) -> int:
        status = run(self)
        if pending:
            pending.pop()()
        return status

    monkeypatch.setattr(until_decided.Launch, "run", run_and_act)


def test_looks_of_another_launch_are_kept_and_not_taken_again(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written()
    others: list[AddedSeeds] = []
    during_the_first_launch(monkeypatch, lambda: others.append(start()[1]))
    printed, added = start()
    [other] = others
    assert [look.seeds for look in other.looks] == [3, 5, 8] and "look after" not in printed
    assert replace(added, usage=other.usage) == other
    assert added.usage.hours > other.usage.hours


def test_seeds_that_are_added_by_hand_meanwhile_are_kept_and_end_it(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cells = written()
    during_the_first_launch(monkeypatch, lambda: add_three(cells))
    with pytest.raises(ConfigError, match=r"study: seeds \[3\] were added by hand"):
        start()
    added = read_added_seeds(load_grid(Path("study")), cells)
    assert added.by_hand == [3] and not added.looks and added.usage.trainings == 12


def test_a_failed_training_is_no_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written()

    class Launch:
        def __init__(self, *arguments: object, **options: object) -> None:
            pass

        def run(self) -> int:
            return 1

    monkeypatch.setattr(until_decided, "Launch", Launch)
    grid = load_grid(Path("study"))
    cells = make_cells(grid)
    console = Console(file=io.StringIO())
    assert train_until_decided(grid, cells, workers=1, budget=None, console=console) == 1
    added = read_added_seeds(grid, cells)
    assert replace(added, usage=Usage()) == AddedSeeds() and added.usage.trainings == 0


def add_three(cells: list[Cell]) -> None:
    write_added_seeds(cells, AddedSeeds(by_hand=[3]))


SELECT = "select: {over: {optimizer.learning_rate: [0.1]}, by: validation/rougeL}\n"


@pytest.mark.parametrize(
    ("grid", "change", "message"),
    [
        (HEADS, lambda cells: None, "study/grid.yaml: margin is missing"),
        (GRID + SELECT, lambda cells: None, "study/grid.yaml: select: the sequential rule knows"),
        (
            GRID.replace("[0, 1, 2]", "[0, 1]"),
            lambda cells: None,
            r"study/grid.yaml: seeds=\[0, 1\]: too few .* legal with --until-decided: 3 seeds",
        ),
        (GRID, add_three, r"study: seeds \[3\] were added by hand"),
    ],
)
def test_studies_that_the_rule_does_not_apply_to(
    grid: str, change: Callable[[list[Cell]], None], message: str, tmp_path: Path
) -> None:
    change(written(grid))
    with pytest.raises(ConfigError, match=message):
        start()
