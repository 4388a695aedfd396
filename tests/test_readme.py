"""What README tells a user to type exists and is accepted."""

import re
import shlex
from pathlib import Path

import pytest

from headcount import cli
from headcount.config.load import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = "".join(re.findall(r"```bash\n(.*?)```", README, re.S))
COMMANDS = [line.split("  #")[0].strip() for line in BLOCKS.splitlines() if line.strip()]
OURS = [
    shlex.split(command.removeprefix(".venv/bin/"))
    for command in COMMANDS
    if "headcount " in command
]


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_our_commands(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command, args = words[1], [word for word in words[2:] if word not in ("|", ">")]
    assert command in {c.callback.__name__ for c in cli.app.registered_commands if c.callback}
    if command in ("train", "config", "baselines", "data") and "--schema" not in args:
        files = [a for a in args if "=" not in a]
        assert files and all(Path(f).is_file() for f in files)
        load(files, [a for a in args if "=" in a])
    elif command == "evaluate":
        overrides = [a for a in args[1:] if not a.startswith(("--", "runs/"))]
        load(["configs/docstrings.yaml"], overrides)


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


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
