import getpass
import json
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from headcount.runs import environment as module
from headcount.runs.environment import (
    add_environment,
    code_version,
    describe_environment,
    processor_name,
)


def test_an_environment_names_what_can_change_a_result_and_nobody() -> None:
    found = describe_environment(torch.device("cpu"), 2)
    assert found["device"] == "cpu" and found["threads"] == 1 and found["processes"] == 2
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "numpy" in found["packages"] and "pytest" not in found["packages"]
    text = json.dumps(found)
    assert platform.node() not in text and str(Path.home()) not in text
    assert f"/{getpass.getuser()}" not in text


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("processor\t: 0\nmodel name\t: A  CPU \x1b[2J@ 2 GHz\nmodel name\t: A\n", "A CPU \\x1b[2J@ 2 GHz"),
        ("BogoMIPS : 243\n", platform.processor() or platform.machine()),
        (None, platform.processor() or platform.machine()),
    ],
)  # fmt: skip
def test_the_name_of_a_processor(
    content: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    processor_name.cache_clear()
    assert processor_name() == name
    processor_name.cache_clear()


def test_a_package_that_is_missing_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "requires", lambda _: ["no_such_package>=1", "numpy>=1"])
    assert list(module._package_versions()) == ["numpy"]


def test_the_commit_is_that_of_the_repository_that_tracks_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment in the repository of something else has the commit of nothing."""
    package = tmp_path / "package"
    (package / "runs").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(module, "__file__", str(package / "runs" / "environment.py"))

    def version_now() -> str:
        code_version.cache_clear()
        return code_version()

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    plain = version_now()
    assert "commit" not in plain
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "other")
    assert version_now() == plain
    git("add", ".")
    git("commit", "-q", "-m", "package")
    assert version_now().startswith(f"{plain} (commit ") and "changed" not in version_now()
    (package / "__init__.py").write_text("1\n")
    assert version_now().endswith(", changed)")
    code_version.cache_clear()


def test_a_run_has_each_environment_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "environment.json"
    for threads in (1, 2, 2, 1):
        add_environment(tmp_path, {"threads": threads})
    assert json.loads(path.read_text()) == [{"threads": 2}, {"threads": 1}]
    path.write_text("[{")
    add_environment(tmp_path, {"threads": 3})
    assert json.loads(path.read_text()) == [{"threads": 3}]
    assert "environment.json: damaged (" in capsys.readouterr().out
    assert (tmp_path / "environment.json.damaged").exists()
