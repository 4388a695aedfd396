import subprocess
import sys
from pathlib import Path

import pytest

from headcount.commands.init import init
from headcount.config.load import load
from headcount.errors import ConfigError
from headcount.experiments.grid import load_grid

FILES = [
    ".gitignore",
    "Makefile",
    "README.md",
    "configs/project.yaml",
    "experiments/heads/README.md",
    "experiments/heads/grid.yaml",
    "tests/test_project.py",
    "train.py",
]


def test_the_next_command_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(tmp_path / "my project")
    assert f"next: cd '{tmp_path / 'my project'}' && make test" in capsys.readouterr().out


def test_a_project_passes_its_own_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``make test``, as its README says."""
    init(tmp_path / "my_project")
    folder = tmp_path / "my_project"
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert sorted(found) == FILES
    assert "next: cd " in capsys.readouterr().out
    done = subprocess.run(
        ["make", "test", f"PYTHON={sys.executable}"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_its_commands_name_what_is_there(tmp_path: Path) -> None:
    init(tmp_path / "mine")
    readme = (tmp_path / "mine" / "README.md").read_text()
    makefile = (tmp_path / "mine" / "Makefile").read_text()
    assert readme.startswith("# mine\n") and "{{" not in readme
    for line in readme.splitlines():
        if line.startswith("make "):
            assert f"\n{line.split()[1]}: " in makefile
    assert load([str(tmp_path / "mine/configs/project.yaml")], []).trainer["max_steps"] == 900
    assert load_grid(tmp_path / "mine/experiments/heads").control == "fixed_width"


def test_into_an_empty_folder_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="used: exists, and is not an empty folder"):
        init(tmp_path / "used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["notes.txt"]

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    init(Path("."))
    assert Path("README.md").read_text().startswith("# empty\n")


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of files in folders, where the project's folder was there before."""
    (tmp_path / "mine").mkdir()
    calls = iter(range(4))

    def fail(source: object, target: object) -> None:
        if next(calls) == 3:
            raise PermissionError(13, "Permission denied")
        Path(str(source)).rename(Path(str(target)))

    monkeypatch.setattr("headcount.runs.files.os.replace", fail)
    with pytest.raises(ConfigError, match="mine: cannot be written: Permission denied"):
        init(tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []
