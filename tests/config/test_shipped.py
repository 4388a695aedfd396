"""Names of configs and studies, from the repository and from a wheel."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headcount.commands.ablate import ablate
from headcount.config.load import load
from headcount.config.shipped import SHIPPED, find_config, find_study, is_shipped, study_names
from headcount.errors import ConfigError
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid
from tests.conftest import SMALL, write_data

REPOSITORY = Path(__file__).parents[2]


def test_the_links_lead_to_the_top_of_the_repository() -> None:
    for name in ("configs", "experiments"):
        assert (SHIPPED / name).resolve() == REPOSITORY / name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docstrings", "configs/docstrings.yaml"),
        ("configs/docstrings.yaml", "configs/docstrings.yaml"),
        ("data/xsum", "configs/data/xsum.yaml"),
        ("model/gpt.yaml", "configs/model/gpt.yaml"),
    ],
)
def test_a_config_by_name(name: str, expected: str) -> None:
    assert Path(find_config(name)).resolve() == REPOSITORY / expected


def test_the_current_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "docstrings").mkdir()  # a folder is no config
    assert find_config("docstrings").startswith(str(SHIPPED))
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "docstrings.yaml").write_text("seed: 3\n")
    assert find_config("docstrings") == "configs/docstrings.yaml"
    assert load(["docstrings"], []).seed == 3
    assert load(["docstrings"], []).run.name == "docstrings"
    (tmp_path / "docstrings.yaml").write_text("seed: 4\n")
    assert load(["docstrings"], []).seed == 4


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match="^docstring: no such file in .*did you mean docstrings"):
        load(["docstring"], [])
    with pytest.raises(ConfigError, match=r"legal: data/arxiv, .*docstrings, .*model/gpt"):
        load(["qqq"], [])


def test_every_study_by_name(tmp_path: Path) -> None:
    """Its configs are found from an empty folder, too."""
    assert study_names()
    for name in study_names():
        study = find_study(Path(name))
        assert study.resolve() == REPOSITORY / "experiments" / name and is_shipped(study)
    for name in ("architectures", "recipe"):  # those with overlays
        assert make_cells(load_grid(Path(name)))
    with pytest.raises(ConfigError, match="legal: .*a study of the package: architectures, "):
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
    assert "3 cells" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs. The wheel is made of a copy, so that nothing is left
    in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "repository"
    for name in ("src", "configs", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    local = ["--no-index", "--no-deps"]
    wheel = [*pip, "wheel", *local, "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*wheel, str(copy)], check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", *local, "--target", str(site), str(file)], check=True)
    return site


def headcount(*args: str, stdin: str = "") -> str:
    command = [sys.executable, "-P", "-m", "headcount", *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_configs_studies_and_metadata(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    shipped = installed / "headcount" / "shipped"
    for name in ("configs", "experiments"):
        assert not (shipped / name).is_symlink()
        for path in (REPOSITORY / name).rglob("*.yaml"):
            copy = shipped / name / path.relative_to(REPOSITORY / name)
            assert copy.read_bytes() == path.read_bytes()
    resolved = headcount("config", "docstrings", "model/gpt")
    assert "architecture: gpt" in resolved and "path: docstrings" in resolved
    headcount("init", "mine")
    assert (tmp_path / "mine" / ".gitignore").is_file()

    [metadata] = installed.glob("*.dist-info/METADATA")
    text = metadata.read_text()
    for line in ("Classifier: Typing :: Typed", "Keywords: summarization,", "Provides-Extra: hf"):
        assert f"\n{line}" in text
    assert (installed / "headcount" / "py.typed").is_file()


@pytest.mark.slow
def test_with_nothing_but_the_wheel(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an empty folder: train, study, report, page, export, summarize."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    write_data(tmp_path / "data")
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import headcount; print(headcount.__file__)"],
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(installed))

    # The data are made up; everything else is as the package has it.
    data = ["data.path=data", "data.cache_dir=cache", "tokenizer.vocabulary_size=280"]
    headcount("train", "docstrings", "smoke", *data, *SMALL[:6])
    assert "15 cells" in headcount("ablate", "head_count", "--dry-run")
    headcount("page", "runs/docstrings-smoke-1", "--documents", "1", "--no-heads-off")
    headcount("export", "runs/docstrings-smoke-1", "exported")
    assert headcount("summarize", "exported", stdin="Ada: Good day.\n").count("\n") == 1

    # A study of one cell, which names configs of the package.
    study = tmp_path / "experiments" / "mine"
    study.mkdir(parents=True)
    lines = [
        "configs: [docstrings]",
        "control: none",
        "grid: [{model.num_heads: 2}]",
        "seeds: [0]",
        "reference_cell: {model.num_heads: 2}",
        "overrides: {data.path: data, data.cache_dir: cache, tokenizer.vocabulary_size: 280}",
    ]
    (study / "grid.yaml").write_text("\n".join(lines))
    headcount("ablate", "mine", "--smoke")
    headcount("report", "mine", "--smoke")
    assert list((tmp_path / "runs").glob("*/table.md"))
