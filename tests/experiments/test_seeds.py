import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import Grid, load_grid
from headcount.experiments.report.write import report
from headcount.experiments.seeds import (
    AddedSeeds,
    Look,
    add_by_hand,
    extend_cells,
    read_added_seeds,
    record_by_hand,
    write_added_seeds,
)
from tests.experiments.studies import HEADS, write_run, write_study

TWO = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8]").replace("[0, 1, 2]", "[0, 1]")


@pytest.fixture
def study(tmp_path: Path) -> tuple[Grid, list[Cell]]:
    """Two settings with two finished seeds each."""
    cells = write_study(Path("study"), lambda cell: 20, grid=TWO)
    return load_grid(Path("study")), cells


def test_seeds_are_added_to_all_settings_and_stay(study: tuple[Grid, list[Cell]]) -> None:
    grid, cells = study
    added = add_by_hand(grid, AddedSeeds(), "3,4,4")
    assert added.by_hand == [3, 4]
    added = add_by_hand(grid, added, "1,4,7")  # 1 and 4 are there
    assert added.by_hand == [3, 4, 7]
    write_added_seeds(cells, added)
    extended = extend_cells(grid, cells, read_added_seeds(grid, cells))
    assert [cell.name for cell in extended] == [
        f"num_heads={heads},seed={seed}" for heads in (1, 8) for seed in (0, 1, 3, 4, 7)
    ]
    assert len({cell.folder for cell in extended}) == 10
    assert [cell.is_reference for cell in extended] == [False] * 5 + [True] * 5


def test_seeds_that_are_added_at_once_are_all_kept(study: tuple[Grid, list[Cell]]) -> None:
    grid, cells = study
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: record_by_hand(grid, cells, str(seed)), range(10, 26)))
    assert sorted(read_added_seeds(grid, cells).by_hand) == [*range(10, 26)]


def test_another_study_begins_without_additions(study: tuple[Grid, list[Cell]]) -> None:
    grid, cells = study
    write_added_seeds(cells, add_by_hand(grid, AddedSeeds(), "3"))
    Path("study/grid.yaml").write_text(TWO + "overrides: {model.dropout: 0.3}\n")
    changed = make_cells(load_grid(Path("study")))
    assert read_added_seeds(load_grid(Path("study")), changed) == AddedSeeds()


def test_a_second_error_rate_is_not_spent_on_the_same_trainings(
    study: tuple[Grid, list[Cell]],
) -> None:
    """Seeds of the grid are edited after a look; other seeds, or other cells, are another study."""
    grid, cells = study
    [look] = LOOKED.looks
    seen = replace(look, trainings=[cell.folder.name for cell in cells])
    write_added_seeds(cells, replace(LOOKED, looks=[seen]))
    [path] = Path("runs/study").glob("added_seeds-*.json")

    def edit(old: str, new: str) -> None:
        Path("study/grid.yaml").write_text(TWO.replace(old, new))
        edited = load_grid(Path("study"))
        assert read_added_seeds(edited, make_cells(edited)) == AddedSeeds()

    for old, new in (("[0, 1]", "[0, 1, 2, 3, 4]"), ("[1, 8]", "[1, 4, 8]")):
        with pytest.raises(ConfigError) as caught:
            edit(old, new)
        message = str(caught.value)
        assert f"study/grid.yaml: look 1 of --until-decided, in {path}, has seen 4 tr" in message
        assert "as model.num_heads=1" in message or "as num_heads=1" in message
        assert "legal: grid.yaml and its configs as they were" in message
    edit("[0, 1]", "[2, 3]")
    edit("reference_cell", "overrides: {model.dropout: 0.3}\nreference_cell")

    # The grid itself is still the study of its looks.
    assert read_added_seeds(grid, cells).looks == [seen]


def test_the_report_has_the_added_seeds(study: tuple[Grid, list[Cell]]) -> None:
    grid, cells = study
    added = add_by_hand(grid, AddedSeeds(), "5")
    write_added_seeds(cells, added)
    for cell in extend_cells(grid, cells, added):
        if cell.seed == 5 and cell.is_reference:
            write_run(cell, 20)
    report(Path("study"))
    table = Path("study/table.md").read_text()
    assert "Half-finished: 5 of 6 trainings" in table and "num_heads=1,seed=5: not start" in table
    assert "Seeds 5 were added by hand: p and verdicts hold if" in table


@pytest.mark.parametrize("text", ["", "a", "3;4", "3,", "1.5"])
def test_other_texts_are_rejected(text: str, study: tuple[Grid, list[Cell]]) -> None:
    with pytest.raises(ConfigError, match=f"^--seeds={text}: not whole numbers; legal: as in"):
        add_by_hand(study[0], AddedSeeds(), text)


LOOKED = AddedSeeds(
    looks=[
        Look(
            seeds=2,
            verdicts={"num_heads=1": {"rougeL": "undecided"}},
            reference_cell="num_heads=8",
            margin={},
        )
    ]
)


def test_after_a_look_seeds_are_not_added_by_hand(study: tuple[Grid, list[Cell]]) -> None:
    grid, cells = study
    looked = LOOKED
    write_added_seeds(cells, looked)
    assert read_added_seeds(grid, cells) == looked
    with pytest.raises(ConfigError, match="--seeds=3: the seeds of study are added by --until-d"):
        add_by_hand(grid, looked, "3")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"by_hand": [], "by_rule": {}, "looks": [1]}'])
def test_a_damaged_record_is_named(text: str, study: tuple[Grid, list[Cell]]) -> None:
    grid, cells = study
    write_added_seeds(cells, AddedSeeds())
    [path] = Path("runs/study").glob("added_seeds-*.json")
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}: damaged"):
        read_added_seeds(grid, cells)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "reference_cell: {model.num_heads: 8}",
            "reference_cell: {model.num_heads: 1}",
            "reference_cell=num_heads=1: the looks of --until-decided were taken with num_heads=8",
        ),
        (
            "reference_cell",
            "margin: {rougeL: 1.0}\nreference_cell",
            "margin={'rougeL': 1.0}: the looks of --until-decided were taken with {}",
        ),
    ],
)
def test_looks_are_about_one_reference_cell_and_margin(
    old: str, new: str, message: str, study: tuple[Grid, list[Cell]]
) -> None:
    _, cells = study
    write_added_seeds(cells, LOOKED)
    Path("study/grid.yaml").write_text(TWO.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        report(Path("study"))
    assert message in str(caught.value)


def test_a_record_without_hours_is_read(study: tuple[Grid, list[Cell]]) -> None:
    """Earlier versions did not count them."""
    grid, cells = study
    write_added_seeds(cells, LOOKED)
    [path] = Path("runs/study").glob("added_seeds-*.json")
    content = json.loads(path.read_text())
    del content["usage"]
    path.write_text(json.dumps(content))
    assert read_added_seeds(grid, cells) == LOOKED
