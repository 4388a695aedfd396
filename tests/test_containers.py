"""What can be said of the container files without an engine: their text agrees with README, the
Makefile and CI."""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_the_python_is_one_that_is_allowed_and_tested() -> None:
    [version] = re.findall(r"^FROM python:(3\.\d+)-slim$", DOCKERFILE, re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    assert f'"{version}"' in (ROOT / ".github/workflows/ci.yml").read_text()


def test_its_commands_are_those_of_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for target in re.findall(r"make (\w+)", DOCKERFILE):
        assert f"\n{target}: " in MAKEFILE and f"make {target}" in readme
    assert "INSTALLED := $(VENV)/.installed" in MAKEFILE
    assert "RUN make .venv/.installed" in DOCKERFILE


def test_the_development_container_builds_that_file() -> None:
    folder = ROOT / ".devcontainer"
    container = json.loads((folder / "devcontainer.json").read_text())
    assert (folder / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / container["build"]["context"]).resolve() == ROOT
    assert container["postCreateCommand"] == "make .venv/.installed"
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ".git" not in ignored and not {"src", "tests", "configs", "experiments"} & set(ignored)


def test_ci_covers_what_is_declared() -> None:
    """The oldest and the newest Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    for version in versions:
        assert f'"{version}"' in workflow
    assert project["requires-python"] == f">={versions[0]}"


def test_ci_installs_the_extra_of_every_test() -> None:
    """A test that needs an extra is skipped without it, so somewhere it must be installed."""
    needed = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "reason=" in line:
                needed |= set(re.findall(r"(?:headcount\[|the extra )([\w-]+)", line))
    needed -= {"parity"}  # transformers, which hf brings too
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    [installed] = re.findall(r"--editable '\.\[([\w,-]+)\]'", workflow)
    assert {"hf", "tensorboard", "mlflow", "device-stats"} <= needed
    assert needed <= set(installed.split(","))
