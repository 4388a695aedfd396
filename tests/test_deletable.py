"""The table "What you can delete" of CONTRIBUTING holds: each row leaves a tree that works."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "src/headcount"
# These describe the whole template, and change with each deletion.
DESCRIPTIONS = [
    "tests/test_readme.py",
    "tests/test_docs.py",
    "tests/test_contributing.py",
    "tests/test_deletable.py",
]
# Tests of every row: importing, parsing, mirroring, and one training from data to summaries.
COMMON = ["tests/test_mirror.py", "tests/test_imports.py", "tests/test_cli.py", "tests/config"]


@dataclass(frozen=True)
class Edit:
    """One change of a file.

    Attributes:
        path: of the file.
        text: what the part to delete begins with, or what is replaced.
        replacement: None if the part is deleted.
    """

    path: str
    text: str
    replacement: str | None


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: of the feature.
        needs: names of the rows that are deleted with it.
        paths: files and folders to delete.
        edits: of other files, in order.
    """

    name: str
    needs: list[str]
    paths: list[str]
    edits: list[Edit]


def read_table(text: str) -> dict[str, Row]:
    """Read the rows of the table, by the name of the feature."""
    section = text.split("## What you can delete", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    rows = {}
    for line in lines[2:]:
        name, deleted, edited = (cell.strip() for cell in line.strip("| ").split(" | "))
        needs = re.findall(r"\*\*(.+?)\*\*", deleted)
        paths = [resolve(path) for path in re.findall(r"`(.+?)`", deleted)]
        edits: list[Edit] = []
        for part in edited.replace("\\|", "|").split("<br>"):
            edits.extend(read_edits(part))
        rows[name] = Row(name, needs, paths, edits)
    return rows


def read_edits(part: str) -> list[Edit]:
    """Read "`path`: `text`, `text`" or "`path`: `text` → `replacement`"."""
    path, _, rest = part.strip().partition(": ")
    if not rest:
        return []
    file = resolve(path.strip("`"))
    if " → " in rest:
        text, replacement = re.findall(r"`(.+?)`", rest)
        return [Edit(file, text, replacement)]
    return [Edit(file, text, None) for text in re.findall(r"`(.+?)`", rest)]


def resolve(path: str) -> str:
    """Return a path from the repository's root. The table leaves out ``src/headcount/``."""
    return path if (ROOT / path).exists() else f"{PACKAGE}/{path}"


def delete_part(source: str, text: str, *, is_python: bool) -> str:
    """Delete every part that begins with a text.

    In Python a part is a statement with its block and decorators, a branch of an ``if``, or an
    entry of a list, a dictionary, a call, a signature or a docstring. Elsewhere it is a line that
    contains the text.
    """
    lines = source.splitlines(keepends=True)
    if not is_python:
        kept = [line for line in lines if text not in line]
        assert len(kept) < len(lines), f"no line contains {text}"
        return "".join(kept)

    spans: list[tuple[int, int]] = []
    for part in sorted(parts_of(source), key=lambda part: (part.begin, -part.end)):
        head = lines[part.head - 1]
        begins_a_line = not head[: part.column].strip()
        is_inside = bool(spans) and part.begin <= spans[-1][1]
        if begins_a_line and not is_inside and head[part.column :].startswith(text):
            spans.append((part.begin, part.end))
    assert spans, f"nothing begins with {text}"
    for begin, end in reversed(spans):
        del lines[begin - 1 : end]
    return "".join(lines)


Entry = ast.expr | ast.keyword | ast.arg


@dataclass(frozen=True)
class Part:
    """A part of a Python file that can be deleted alone.

    Attributes:
        begin: its first line, counted from one.
        head: the line in which it begins after its decorators.
        column: where it begins in that line.
        end: its last line.
    """

    begin: int
    head: int
    column: int
    end: int


def parts_of(source: str) -> Iterator[Part]:
    """Yield the parts of a Python file."""
    for node in ast.walk(ast.parse(source)):
        entries: list[tuple[Entry, Entry]] = []
        if isinstance(node, ast.If) and node.orelse:
            # Only this branch. What follows it is a branch of its own.
            yield _part(node, node.body[-1])
        elif isinstance(node, ast.stmt):
            yield _part(node, node)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                entries.append((key or value, value))
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            entries += [(element, element) for element in node.elts]
        elif isinstance(node, ast.Call):
            entries += [(argument, argument) for argument in (*node.args, *node.keywords)]
        elif isinstance(node, ast.arguments):
            # Parameters with a default are deleted by replacing them.
            entries += [(each, each) for each in (*node.args, *node.kwonlyargs)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _docstring_entries(source, node)
        for first, last in entries:
            yield _part(first, last)


def _docstring_entries(source: str, docstring: ast.Constant) -> Iterator[Part]:
    """Yield the entries of ``Args`` and ``Attributes``: a line with a name and a colon, and the
    lines after it that are further indented."""
    lines = source.splitlines()
    last = docstring.end_lineno or docstring.lineno
    for number in range(docstring.lineno + 1, last):
        entry = re.match(r"(\s+)\w+: ", lines[number - 1])
        if entry is None:
            continue
        end = number
        while re.match(rf"{entry[1]}\s+\S", lines[end]):
            end += 1
        yield Part(number, number, len(entry[1]), end)


def _part(first: Entry | ast.stmt, last: ast.AST) -> Part:
    decorators = getattr(first, "decorator_list", [])
    begin = min([first.lineno, *(decorator.lineno for decorator in decorators)])
    end = getattr(last, "end_lineno", None) or first.lineno
    return Part(begin, first.lineno, first.col_offset, end)


def delete_row(root: Path, row: Row) -> set[str]:
    """Delete a feature from a tree, and return the files that were edited."""
    for path in row.paths:
        target = root / path
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink()
    for edit in row.edits:
        file = root / edit.path
        source = file.read_text()
        if edit.replacement is None:
            source = delete_part(source, edit.text, is_python=file.suffix == ".py")
        else:
            assert edit.text in source, f"{edit.path}: does not contain {edit.text}"
            source = source.replace(edit.text, edit.replacement)
        file.write_text(source)
    return {edit.path for edit in row.edits}


ROWS = read_table((ROOT / "CONTRIBUTING.md").read_text())


def with_needed(row: Row) -> list[Row]:
    """Return a row after those that it needs."""
    return [*(ROWS[name] for name in row.needs), row]


def copy_tree(to: Path) -> Path:
    """Copy the files of the repository, without what tools and runs have made. Links stay links."""
    to.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
    made = (".git", ".venv", ".hypothesis", "build", "dist", "runs", "site")
    for path in ROOT.iterdir():
        if path.name in made or path.name.endswith("_cache"):
            continue
        if path.is_dir():
            shutil.copytree(path, to / path.name, ignore=ignored, symlinks=True)
        else:
            shutil.copy(path, to)
    return to


def test_every_part_is_there(tmp_path: Path) -> None:
    """The table names files and lines that exist; each row can be applied."""
    assert len(ROWS) >= 8
    tree = copy_tree(tmp_path / "tree")
    for row in ROWS.values():
        touched = {path: (tree / path).read_text() for path in {edit.path for edit in row.edits}}
        for path in row.paths:
            assert (tree / path).exists(), f"{row.name}: {path}"
        for edit in row.edits:
            source = touched[edit.path]
            if edit.replacement is not None:
                assert edit.text in source, f"{row.name}: {edit.path}: {edit.text}"
                touched[edit.path] = source.replace(edit.text, edit.replacement)
            else:
                is_python = edit.path.endswith(".py")
                touched[edit.path] = delete_part(source, edit.text, is_python=is_python)


def test_parts() -> None:
    """Statements with decorators, entries that span lines, branches."""
    source = "@a\n@b(\n    1\n)\ndef f():\n    pass\n\n\nD = {\n    'x': 1,\n    'y': [\n        2\n    ],\n}\n"
    assert delete_part(source, "def f(", is_python=True) == source.split("\n\n\n")[1].join(
        ["\n\n", ""]
    )
    assert "'y'" not in delete_part(source, "'y'", is_python=True)
    documented = (
        'def f(\n    x: int,\n    y: int,\n):\n    """Add.\n\n    Args:\n        x: one\n'
        '            number.\n        y: another.\n    """\n'
    )
    expected = 'def f(\n    y: int,\n):\n    """Add.\n\n    Args:\n        y: another.\n    """\n'
    assert delete_part(documented, "x: ", is_python=True) == expected
    branches = "if a:\n    b\nelif c:\n    d\nelse:\n    e\n"
    assert delete_part(branches, "elif c", is_python=True) == "if a:\n    b\nelse:\n    e\n"
    with pytest.raises(AssertionError, match="nothing begins with g"):
        delete_part(source, "g", is_python=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_rest_works(name: str, tmp_path: Path) -> None:
    """What remains is linted, typed and tested.

    All tests are imported. Those of the files that the row edits run, and a few common ones; with
    DELETABLE_TESTS=all all that remain, which takes minutes for each row.
    """
    tree = copy_tree(tmp_path / "tree")
    edited: set[str] = set()
    for row in with_needed(ROWS[name]):
        edited |= delete_row(tree, row)

    # As ``make format`` and ``make check`` do.
    call(tree, "ruff", "check", "--quiet", "--fix", ".")
    call(tree, "ruff", "format", "--quiet", ".")
    call(tree, "ruff", "check", ".")
    call(tree, "mypy")
    lint = "from importlinter.cli import lint_imports_command as lint; lint()"
    call(tree, "-c", lint)

    wanted = {path for path in edited if path.startswith("tests/") and "test_" in path}
    tests = ["tests"] if os.environ.get("DELETABLE_TESTS") == "all" else [*COMMON, *sorted(wanted)]
    others = [f"--ignore={path}" for path in DESCRIPTIONS]
    call(tree, "pytest", "-q", "-n0", "--collect-only", "-p", "no:cacheprovider", *others, "tests")
    call(tree, "pytest", "-q", "-p", "no:cacheprovider", *others, *tests)


def call(tree: Path, *command: str) -> None:
    """Run a module of Python, or with -c a line of it, in a tree."""
    module = [] if command[0] == "-c" else ["-m"]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "MYPYPATH": str(tree / "src")}
    done = subprocess.run(
        [sys.executable, *module, *command],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"[-6000:]
