import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

import headcount
from headcount.terminal import make_console, print_line, print_on
from tests.test_escape import HOSTILE

SOURCE = Path(headcount.__file__).parent


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_is_printed_is_printable(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    console = make_console(file, width=100)
    print_on(console, f"an id {text}")
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(table)
    print_line(text)
    printed = file.getvalue() + capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()


def test_a_path_is_shown_as_it_is() -> None:
    """Brackets are no markup, and a long line is not broken."""
    file = io.StringIO()
    path = f"runs/[draft]/[/b]/[red]{'x' * 200} :smile:"
    print_on(make_console(file, width=40), f"run folder: {path}")
    assert file.getvalue() == f"run folder: {path}\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_takes_any_text(encoding: str) -> None:
    script = (
        "import sys\nfrom headcount.terminal import *\nescape_unencodable()\nprint_line('é Δ ± "
        "日本')\n"
        "print_on(make_console(), 'é Δ ± 日本')\nprint_line('é Δ', file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    if encoding == "utf-8":
        assert done.stdout.decode() == "é Δ ± 日本\n" * 2


def test_nothing_else_prints() -> None:
    """A bare print, or a console of Rich's own, would show what data holds."""
    for path in SOURCE.rglob("*.py"):
        is_template = SOURCE / "shipped" in path.parents  # what headcount init writes for users
        if path.name == "terminal.py" or is_template:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "Console"), f"{path}:{node.lineno}"
