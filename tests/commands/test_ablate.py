"""Launching itself is tested in tests/experiments/launch."""

import shutil
from pathlib import Path

import pytest

from headcount.commands.ablate import ablate
from headcount.errors import ConfigError
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid
from headcount.experiments.seeds import AddedSeeds, read_added_seeds, write_added_seeds
from tests.conftest import SMALL, write_data

REPOSITORY = Path(__file__).parents[2]
GRID = """configs: [base.yaml]
control: fixed_width
grid: {model.num_heads: [1, 2]}
seeds: [0]
reference_cell: {model.num_heads: 2}
"""


@pytest.fixture
def study(tmp_path: Path, small) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "grid.yaml").write_text(GRID)
    write_data(tmp_path / "data")
    lines = [*SMALL, "data.path=data", "data.cache_dir=cache"]
    sections: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        sections.setdefault(section, []).append(f"  {name}: {value}")
    text = "".join(f"{name}:\n" + "\n".join(keys) + "\n" for name, keys in sections.items())
    (tmp_path / "base.yaml").write_text(text)
    (tmp_path / "configs").mkdir()
    shutil.copy(REPOSITORY / "configs" / "smoke.yaml", tmp_path / "configs")
    return folder


def test_a_dry_run_starts_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(study, [], dry_run=True) == 0
    assert "2 cells" in capsys.readouterr().out
    assert not Path("runs").exists()


@pytest.mark.parametrize("where", ["local", "wandb"])
def test_slurm_options_need_slurm(where, study: Path) -> None:
    with pytest.raises(ConfigError, match="^--slurm time=1 does nothing with --where"):
        ablate(study, [], where=where, slurm=["time=1"])


def test_another_study_than_expected(study: Path) -> None:
    with pytest.raises(ConfigError, match="study"):
        ablate(study, [], expect="0" * 64, dry_run=True)


@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize("smoke", [True, False])
def test_the_exit_status_is_that_of_the_launch(
    smoke: bool, status: int, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = {}

    class Launch:
        def __init__(self, cells, name, *, workers, console) -> None:
            launched.update(cells=cells, name=name, workers=workers)

        def run(self) -> int:
            return status

    monkeypatch.setattr("headcount.experiments.launch.local.Launch", Launch)
    monkeypatch.setattr("headcount.experiments.launch.local.count_cores", lambda: 64)
    assert ablate(study, ["model.num_heads=1"], retry=True, smoke=smoke) == status
    assert len(launched["cells"]) == 1 and launched["workers"] == 1
    assert ablate(study, [], smoke=smoke) == status
    assert len(launched["cells"]) == 2 and launched["workers"] == (2 if smoke else 1)


def test_added_seeds_are_trained_and_stay(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[str] = []

    class Launch:
        def __init__(self, cells, name, **options) -> None:
            launched[:] = [cell.name for cell in cells]

        def run(self) -> int:
            return 0

    monkeypatch.setattr("headcount.experiments.launch.local.Launch", Launch)
    assert ablate(study, [], seeds="4", dry_run=True) == 0
    assert ablate(study, []) == 0 and len(launched) == 2  # a dry run adds nothing
    assert ablate(study, [], seeds="4") == 0
    names = [f"num_heads={heads},seed={seed}" for heads in (1, 2) for seed in (0, 4)]
    assert launched == names
    assert ablate(study, []) == 0 and launched == names
    assert ablate(study, ["seed=4", "model.num_heads=1"]) == 0 and launched == names[1:2]


def test_seeds_that_another_launch_adds_meanwhile_are_kept(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = load_grid(study)
    cells = make_cells(grid)

    def add_another(*_: object) -> None:
        write_added_seeds(cells, AddedSeeds(by_hand=[3]))

    monkeypatch.setattr("headcount.experiments.controls.check_controls", add_another)
    monkeypatch.setattr("headcount.experiments.launch.local.Launch.run", lambda self: 0)
    assert ablate(study, [], seeds="4") == 0
    assert read_added_seeds(grid, cells).by_hand == [3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until_decided": True, "where": "slurm"}, "^--until-decided trains a whole study on"),
        ({"until_decided": True, "seeds": "3"}, "^--until-decided trains a whole study on this"),
        ({"until_decided": True}, "grid.yaml: margin is missing"),
        ({"until_decided": True, "dry_run": True}, "grid.yaml: margin is missing"),
        ({"budget": 2.0}, "^--budget 2 does nothing alone; legal: with --until-decided"),
        ({"seeds": "3", "where": "wandb"}, "^--seeds 3 does nothing with --where wandb"),
        ({"seeds": "x"}, "^--seeds=x: not whole numbers"),
    ],
)
def test_options_that_do_not_go_together(options, message: str, study: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ablate(study, [], **options)


def test_added_seeds_are_not_dropped_by_a_sweep(study: Path) -> None:
    """Agents on other machines do not know them."""
    cells = make_cells(load_grid(study))
    write_added_seeds(cells, AddedSeeds(by_hand=[3], by_rule={"num_heads=1": [5]}))
    with pytest.raises(
        ConfigError, match=r"^--where wandb: [^\n]*study has added seeds \[3, 5\], "
    ):
        ablate(study, [], where="wandb")
