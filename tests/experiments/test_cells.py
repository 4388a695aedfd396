import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from headcount.errors import ConfigError
from headcount.experiments.cells import check_study, fingerprint_study, make_cells, pick_cells
from headcount.experiments.grid import load_grid
from tests.experiments.test_grid import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text("model: {embedding_size: 32}\ntrainer: {max_steps: 7}\n")
    (tmp_path / "other.yaml").write_text("model: {num_heads: 8}\n")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "smoke.yaml").write_text(
        "model: {embedding_size: 8}\ntrainer: {max_steps: 2}\n"
    )
    return tmp_path / "study"


def test_cells_are_settings_by_seeds_with_their_whole_config(folder: Path) -> None:
    cells = make_cells(
        load_grid(write(folder, overrides="{trainer.max_steps: 9, data.name: null}"))
    )
    assert [cell.name for cell in cells] == [
        f"num_heads={heads},norm_position=pre,seed={seed}" for heads in (1, 2) for seed in (0, 1)
    ]
    assert [cell.is_reference for cell in cells] == [False, False, True, True]
    cell = cells[-1]
    assert (
        cell.axes == {"model.num_heads": 2, "model.norm_position": "pre"}
        and cell.label == "num_heads=2,norm_position=pre"
    )
    model = cell.config.model
    assert (model.num_heads, model.norm_position, model.embedding_size) == (2, "pre", 32)
    assert cell.config.seed == 1
    assert cell.config.trainer["max_steps"] == 9 and cell.config.data.name is None
    assert cell.folder.parent == Path("runs/study") and cell.folder.name.startswith(
        f"{cell.name}-"
    )


def test_the_command_makes_the_same_config(folder: Path) -> None:
    from headcount.config import load as compose

    cell = make_cells(
        load_grid(
            write(folder, grid="[{configs: other.yaml}]", reference_cell="{configs: other.yaml}")
        )
    )[0]
    cell.folder.parent.mkdir(parents=True)
    cell.write_config("study")
    command = cell.command()
    assert command[1:5] == ["-P", "-m", "headcount", "train"] and cell.name == "other,seed=0"
    config = compose.load(*compose.sort_arguments(command[5:]))
    assert config.model == cell.config.model and config.model.num_heads == 8
    tracking = config.tracking
    assert (tracking.group, tracking.name, tracking.tags) == (
        "study",
        cell.name,
        ["configs=other.yaml", "seed=0"],
    )
    assert config.run.folder == str(cell.folder)


def test_a_cell_is_started_from_what_was_read_at_the_launch(folder: Path) -> None:
    """Files that are edited afterwards change nothing in it."""
    from headcount.config import load as compose

    [cell, *_] = make_cells(load_grid(write(folder)))
    Path("a.yaml").write_text("model: {embedding_size: 128}\nseed: 99\n")
    cell.folder.parent.mkdir(parents=True)
    cell.write_config("study")
    config = compose.load(*compose.sort_arguments(cell.command()[5:]))
    assert config.model == cell.config.model and config.seed == cell.seed
    Path("a.yaml").unlink()
    assert compose.load([str(cell.config_file)], []).model == cell.config.model


def test_nothing_is_imported_from_where_the_user_stands(folder: Path) -> None:
    """Neither by a cell nor by what a cell starts, as workers that are spawned."""
    [cell, *_] = make_cells(load_grid(write(folder)))
    for name in ("random", "typer", "omegaconf", "torch"):
        Path(f"{name}.py").write_text("open('canary', 'w')\n")
    spawn = """
import subprocess, sys
from headcount.cli import main
sys.argv[1:] = ["config", "--schema"]
try:
    main()
except SystemExit:
    subprocess.run([sys.executable, "-c", "import random; random.random(); print('drawn')"], check=True)
"""
    for command in (
        [*cell.command()[:4], "config", "--schema"],
        [sys.executable, "-P", "-c", spawn],
    ):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.endswith("drawn\n") and not Path("canary").exists()


def test_a_study_that_has_changed_is_not_the_registered_one(folder: Path) -> None:
    cells = make_cells(load_grid(write(folder)))
    check_study(folder, cells, fingerprint_study(cells))
    changed = make_cells(load_grid(write(folder, overrides="{model.dropout: 0.2}")))
    with pytest.raises(
        ConfigError, match="^--expect=[0-9a-f]{8}: [^\n]*study is another study now"
    ):
        check_study(folder, changed, fingerprint_study(cells))


def test_long_values_make_short_names(folder: Path) -> None:
    """W&B takes tags of 64 characters, file systems names of 255 bytes."""
    words = "x" * 300
    grid = f"{{model.num_heads: [1, 2], data.cache_dir: [a], data.document_columns: [[{words}], [{words}, é{words}]]}}"
    grid = grid.replace("data.cache_dir: [a], ", "")
    baseline = f"{{model.num_heads: 1, data.document_columns: [{words}]}}"
    cells = make_cells(load_grid(write(folder, grid=grid, reference_cell=baseline)))
    assert len({cell.folder for cell in cells}) == len(cells) == 8
    for cell in cells:
        cell.folder.mkdir(parents=True)
        cell.write_config("study")
        plain = yaml.safe_load(cell.config_file.read_text())
        assert all(len(tag.encode()) <= 64 for tag in plain["tracking"]["tags"])
        assert (
            len(set(plain["tracking"]["tags"])) == 3
            and len(plain["tracking"]["name"].encode()) <= 128
        )


def test_configs_are_found_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the current folder, beside the grid, or in a folder above it.

    Else the message says where was looked.
    """
    grid = load_grid(write(folder).resolve())
    here = [cell.fingerprint for cell in make_cells(grid)]
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert [cell.fingerprint for cell in make_cells(grid)] == here
    (grid.folder / "a.yaml").write_text("model: {dropout: 0.3}\n")
    assert make_cells(grid)[0].config.model.dropout == 0.3
    grid = load_grid(write(grid.folder, configs="[nowhere.yaml]"))
    with pytest.raises(
        ConfigError,
        match=r"grid.yaml: nowhere.yaml: no such file, seen from /[^\n]*elsewhere, from /",
    ):
        make_cells(grid)


def test_a_folder_changes_with_what_can_change_the_result(folder: Path) -> None:
    def folders(**changes: str) -> list[str]:
        return [cell.folder.name for cell in make_cells(load_grid(write(folder, **changes)))]

    first = folders()
    assert len(set(first)) == 4
    assert (
        folders(overrides="{tracking.mode: offline, data.num_workers: 1, data.cache_dir: x}")
        == first
    )
    assert folders(overrides="{model.dropout: 0.1}") == first  # the default
    assert not set(folders(overrides="{model.dropout: 0.2}")) & set(first)
    assert not set(folders(overrides="{trainer.max_steps: 8}")) & set(first)


def test_a_new_key_in_the_schema_changes_no_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that follows another key."""
    from dataclasses import dataclass, field

    from headcount.config import load as compose
    from headcount.config.schema import Config
    from headcount.config.section import key
    from headcount.config.sections.data import DataConfig

    before = [cell.folder for cell in make_cells(load_grid(write(folder)))]

    @dataclass(frozen=True, kw_only=True)
    class Data(DataConfig):
        newer: int = key(3, "new")
        follows: int = key("${data.batch_tokens}", "new")

    @dataclass(frozen=True, kw_only=True)
    class Newer(Config):
        data: Data = field(default_factory=Data)

    monkeypatch.setattr(compose, "Config", Newer)
    after = make_cells(load_grid(write(folder)))
    assert after[0].config.data.follows == 4096 and [cell.folder for cell in after] == before


def test_smoke_keeps_models_and_axes_and_shortens_the_rest(folder: Path) -> None:
    cells = make_cells(load_grid(write(folder, overrides="{trainer.max_steps: 9}")), smoke=True)
    assert [cell.name for cell in cells] == [
        "num_heads=1,norm_position=pre,seed=0",
        "num_heads=2,norm_position=pre,seed=0",
    ]
    assert cells[0].config.trainer["max_steps"] == 2 and cells[0].config.model.embedding_size == 32
    assert cells[0].folder.parent == Path("runs/study-smoke")
    select = "{over: {optimizer.learning_rate: [1e-3, 2e-3]}, by: validation/rouge2}"
    assert len(make_cells(load_grid(write(folder, select=select)), smoke=True)) == 2


def test_an_inner_axis_is_written_beside_the_settings(folder: Path) -> None:
    select = "{over: {optimizer.learning_rate: [1e-3, 2e-3]}, by: validation/rouge2}"
    cells = make_cells(load_grid(write(folder, select=select, seeds="[0]")))
    assert [(cell.name, cell.choice) for cell in cells[:2]] == [
        (
            "num_heads=1,norm_position=pre,learning_rate=0.001,seed=0",
            {"optimizer.learning_rate": 0.001},
        ),
        (
            "num_heads=1,norm_position=pre,learning_rate=0.002,seed=0",
            {"optimizer.learning_rate": 0.002},
        ),
    ]
    assert cells[1].config.optimizer.learning_rate == 0.002 and cells[0].label == cells[1].label


@pytest.mark.parametrize(
    ("grid", "baseline", "message"),
    [
        (
            "[{model.num_head: 3}]",
            "{model.num_head: 3}",
            "cell num_head=3,seed=0: model.num_head=3: unknown key; did",
        ),
        (
            "[{model.num_heads: 3}]",
            "{model.num_heads: 3}",
            "cell num_heads=3,seed=0, a.yaml: model.num_heads=3 does",
        ),
        ("[{trainer.x: 3}]", "{trainer.x: 3}", "cell x=3,seed=0: trainer.x=3: unknown key"),
        ("[{configs: none.yaml}]", "{configs: none.yaml}", "none.yaml: no such file"),
        (
            "[{model.num_heads: 4}, {model.encoder_layers: 3}]",
            "{model.num_heads: 4}",
            "cell encoder_layers=3,seed=0 is the same training as cell num_heads=4,seed=0; "
            "legal: each once",
        ),
    ],
)
def test_a_cell_that_cannot_be_is_named(
    grid: str, baseline: str, message: str, folder: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_cells(load_grid(write(folder, grid=grid, reference_cell=baseline)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_overlay_in_some_cells_only(folder: Path) -> None:
    cells = "[{model.dropout: 0.1}, {configs: other.yaml}]"
    reference = "{model.dropout: 0.1}"
    made = make_cells(load_grid(write(folder, grid=cells, reference_cell=reference, seeds="[0]")))
    assert [cell.label for cell in made] == ["dropout=0.1", "other"]
    assert [cell.axes["configs"] for cell in made] == [None, "other.yaml"]
    assert [cell.config.model.num_heads for cell in made] == [4, 8]
    assert pick_cells(made, ["configs=null"]) == made[:1]


def test_a_score_that_is_not_computed_selects_nothing(folder: Path) -> None:
    select = "{over: {optimizer.learning_rate: [1e-3, 2e-3]}, by: validation/bleu}"
    with pytest.raises(ConfigError) as caught:
        make_cells(load_grid(write(folder, select=select)))
    message = str(caught.value)
    assert "select.by=validation/bleu: cell num_heads=1,norm_position=pre," in message
    assert message.endswith("validation/rougeLsum, or evaluation.metrics with bleu")
    for more in ("{evaluation.metrics: [rouge, bleu]}", "{evaluation.select_by: bleu}"):
        assert make_cells(load_grid(write(folder, select=select, overrides=more)))


def test_a_cell_is_picked_by_the_value_as_the_grid_or_the_config_spells_it(folder: Path) -> None:
    """Sweeps hand out the grid's: 0, where the config has 0.0."""
    grid = load_grid(
        write(
            folder,
            grid="{optimizer.ema_decay: [0, 0.998]}",
            reference_cell="{optimizer.ema_decay: 0}",
            seeds="[0]",
        )
    )
    cells = make_cells(grid)
    for text in ("0", "0.0"):
        assert pick_cells(cells, [f"optimizer.ema_decay={text}"]) == cells[:1]
    with pytest.raises(
        ConfigError, match="optimizer.ema_decay=1: no such cell; legal: 0.0, 0.998"
    ):
        pick_cells(cells, ["optimizer.ema_decay=1"])
