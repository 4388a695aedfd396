"""Importing the package changes nothing outside it, and everything that it imports is declared."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCRIPT = """
import importlib.util, logging, pkgutil, warnings
import pytorch_lightning, omegaconf, matplotlib.figure, wandb, datasets, submitit
import headcount

def state():
    levels = {name: logger.level for name, logger in logging.root.manager.loggerDict.items() if hasattr(logger, "level")}
    return list(warnings.filters), levels, omegaconf.OmegaConf.has_resolver("oc.env")

# Its extra may be missing, which is what it says when it is imported.
left_out = {"headcount.__main__"}
if importlib.util.find_spec("transformers") is None:
    left_out.add("headcount.hf")

before = state()
headcount.load_run  # nothing of the package was imported before
for module in pkgutil.walk_packages(headcount.__path__, "headcount."):
    if module.name not in left_out:
        importlib.import_module(module.name)
after = state()
assert before[0] == after[0], [each for each in after[0] if each not in before[0]]
assert {name: after[1][name] for name in before[1]} == before[1]
assert before[2] == after[2] is True
"""


def imported_packages() -> Iterator[tuple[str, Path]]:
    """Yield the top-level packages that the sources import, each with the file."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                yield name.split(".")[0], path


def test_every_import_is_a_declared_dependency() -> None:
    """Not one that happens to come with another package. What is not installed is an extra's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        requirements.extend(extra)
    declared = {canonical(re.split(r"[\[<>=!~ ]", each)[0]) for each in requirements}

    distributions = packages_distributions()
    for package, path in imported_packages():
        if package in sys.stdlib_module_names or package == "headcount":
            continue
        candidates = distributions.get(package, [package])
        assert declared & set(map(canonical, candidates)), f"{path}: {package} is not declared"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_side_effects_at_import() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("experiments/*/*.py")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_what_scripts_import_from_the_package_exists(path: Path) -> None:
    """No test runs the benchmarks, which take minutes: a renamed function would go unnoticed."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headcount"):
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], node.module
