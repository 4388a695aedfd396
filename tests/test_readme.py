"""What README and the documentation tell a user to type exists and is accepted."""

import re
import shlex
from pathlib import Path

import pytest

from headcount import cli
from headcount.config.load import load
from headcount.config.shipped import find_config, find_study

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments/README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


def commands_of(text: str) -> list[str]:
    """Return the lines of the blocks that are to be typed, without comments."""
    blocks = "".join(re.findall(r"```(?:bash|console)\n(.*?)```", text, re.S))
    lines = [line.split("  #")[0].strip().removeprefix("$ ") for line in blocks.splitlines()]
    return [line for line in lines if line]


COMMANDS = commands_of(README)
OURS = []
for page in PAGES:
    for line in commands_of(page.read_text()):
        if re.match(r"(\.venv/bin/)?headcount ", line):
            OURS.append(line.removeprefix(".venv/bin/"))


@pytest.mark.parametrize("line", sorted(set(OURS)))
def test_our_commands(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, command, *args = shlex.split(line)
    assert command in {c.callback.__name__ for c in cli.app.registered_commands if c.callback}
    overrides = [a for a in args if "=" in a and not a.startswith("--")]
    if command in ("train", "config", "baselines", "data", "model") and "--schema" not in args:
        files = [a for a in args if "=" not in a and not a.startswith("--")]
        assert files and all(Path(find_config(f)).is_file() for f in files)
        load(files, overrides)
    elif command in ("evaluate", "heads", "page", "serve", "summarize"):
        load(["configs/docstrings.yaml"], overrides)
    elif command in ("ablate", "report"):
        assert (find_study(Path(args[0])) / "grid.yaml").is_file()


def test_the_commands_are_found() -> None:
    assert len(set(OURS)) > 40


def test_both_ways_are_given() -> None:
    makes = {c.split()[1] for c in COMMANDS if c.startswith("make ")}
    assert {"demo", "test"} <= makes
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    targets = re.findall(r"^([a-z]+):.*##", makefile, re.M)
    assert makes <= set(targets)
    recipes = [line.strip() for line in makefile.splitlines()]
    for command in (
        ".venv/bin/headcount train configs/docstrings.yaml",
        ".venv/bin/python -m pytest",
    ):
        assert command in COMMANDS and command in recipes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    targets += re.findall(r'<img src="(?!https?:)([^"]+)"', text)
    for target in targets:
        # The site makes a page of docstrings for each package.
        is_made = page.parent.name == "reference" and target.endswith(".md")
        assert is_made or (page.parent / target).exists(), target


def test_figures_are_those_of_the_pages() -> None:
    number = r"\d+\.\d\d?"
    [answer] = re.findall(r"\*\*The answer so far.*?\n\n", README, re.S)
    study = (ROOT / "experiments/head_count_again/README.md").read_text()
    found = re.findall(r"\d+\.\d\d", answer)
    assert found and all(figure in study for figure in found)

    # The rows of the demo are those of its table.
    demo = (ROOT / "docs/benchmarks.md").read_text().split("## DialogSum")[0]
    [output] = re.findall(r"docstrings, test: 979 examples.*?```", README, re.S)
    shown = re.findall(number, output)
    assert len(shown) == 36 and all(figure in demo for figure in shown)


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 115
    prose = re.sub(r"```.*?```", "", README, flags=re.S)
    assert all(len(line) <= 100 for line in [*prose.splitlines(), *COMMANDS])
    for paragraph in prose.split("\n\n"):
        if paragraph.strip()[:1] not in ("|", "-"):
            assert len(paragraph.strip().splitlines()) <= 4, paragraph


def test_every_study_is_listed() -> None:
    listed = (ROOT / "experiments/README.md").read_text()
    studies = [path.name for path in (ROOT / "experiments").iterdir() if path.is_dir()]
    assert studies and all(f"[{name}]({name})" in listed for name in studies)
