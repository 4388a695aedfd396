"""What the wheel carries, and what can be done with nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMALL, write_data

REPOSITORY = Path(__file__).parent.parent


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
    resolved = headcount("config", "docstrings", "trainer/gpu")
    assert "path: docstrings" in resolved and "precision: bf16-mixed" in resolved
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
    assert "25 cells" in headcount("ablate", "head_count", "--dry-run")
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
