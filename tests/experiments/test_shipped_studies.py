"""Names of studies, see tests/config/test_shipped.py."""

from pathlib import Path

import pytest

from headcount.commands.ablate import ablate
from headcount.config.shipped import find_study, is_shipped, study_names
from headcount.errors import ConfigError
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid

REPOSITORY = Path(__file__).parents[2]


def test_every_study_by_name(tmp_path: Path) -> None:
    """Its configs are found from an empty folder, too."""
    assert study_names()
    for name in study_names():
        study = find_study(Path(name))
        assert study.resolve() == REPOSITORY / "experiments" / name and is_shipped(study)
        grid = load_grid(Path(name))
        assert not grid.overlays or make_cells(grid)
    with pytest.raises(ConfigError, match="legal: .*a study of the package: .*head_count, "):
        load_grid(Path("none"))


def test_a_study_of_ones_own_comes_first(tmp_path: Path) -> None:
    own = tmp_path / "experiments" / "head_count"
    own.mkdir(parents=True)
    grid = "configs: [docstrings, own.yaml]\ncontrol: none\ngrid: {model.num_heads: [1, 2]}\n"
    (own / "grid.yaml").write_text(f"{grid}seeds: [7]\nreference_cell: {{model.num_heads: 2}}\n")
    (own / "own.yaml").write_text("trainer: {max_steps: 3}\n")  # beside the grid
    assert find_study(Path("head_count")) == Path("experiments/head_count")
    assert not is_shipped(find_study(Path("head_count")))
    cells = make_cells(load_grid(Path("head_count")))
    assert {cell.seed for cell in cells} == {7}
    assert all(cell.config.trainer["max_steps"] == 3 for cell in cells)
    assert all(cell.config.data.path == "docstrings" for cell in cells)


def test_in_the_repository_its_studies_are_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert find_study(Path("head_count")) == Path("experiments/head_count")
    assert not is_shipped(Path("experiments/head_count"))


def test_a_dry_run_from_an_empty_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(Path("head_count"), ["model.num_heads=8"], dry_run=True) == 0
    assert "5 cells" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
