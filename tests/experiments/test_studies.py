"""Every committed study is ready to run."""

from pathlib import Path

import pytest

from headcount.experiments.cells import make_cells
from headcount.experiments.controls import check_controls
from headcount.experiments.grid import load_grid

REPOSITORY = Path(__file__).parent.parent.parent
STUDIES = sorted((REPOSITORY / "experiments").glob("*/grid.yaml"))


def test_all_are_found() -> None:
    assert {file.parent.name for file in STUDIES} >= {
        "head_count",
        "head_count_again",
        "head_count_dialogsum",
        "head_count_fixed_head_dim",
        "head_count_matched",
        "head_place",
        "kv_heads",
        "architectures",
        "recipe",
        "recipe_dialogsum",
        "recipe_regularization",
        "recipe_additions",
        "averaging",
    }


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.parent.name)
def test_every_cell_keeps_the_control(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    grid = load_grid(file.parent)
    cells, short = make_cells(grid), make_cells(grid, smoke=True)
    for each in (cells, short):
        check_controls(grid, each)
    assert len(cells) == len(short) * len(grid.seeds) * len(
        next(iter(grid.select.over.values())) if grid.select else "1"
    )
    assert all(cell.config.trainer["max_steps"] == 4 for cell in short)


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.parent.name)
def test_its_page_says_what_it_is(file: Path) -> None:
    page, control = (file.parent / "README.md").read_text(), load_grid(file.parent).control
    for part in ("**Question.**", f"**Control.** `{control}`", "**Findings.**"):
        assert part in page
    assert f"headcount ablate experiments/{file.parent.name}\n" in page
