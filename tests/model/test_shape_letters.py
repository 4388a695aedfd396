"""Every shape suffix is made of letters that ``headcount.model`` declares."""

import ast
import re
from pathlib import Path

import pytest

import headcount
from headcount.model import SHAPE_LETTERS

SOURCE = Path(headcount.__file__).parent
FILES = sorted(path for room in ("model", "generation") for path in (SOURCE / room).glob("*.py"))
SUFFIX = re.compile(r"[a-z][a-z0-9_]*_([A-Z1][A-Z0-9]*)")


def undeclared(tree: ast.AST) -> set[str]:
    """Return the names in code whose suffix has a letter that is not declared."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    suffixes = {name: match[1] for name in names if (match := SUFFIX.fullmatch(name))}
    return {name for name, suffix in suffixes.items() if set(suffix) - SHAPE_LETTERS.keys()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_suffixes_are_declared(path: Path) -> None:
    assert undeclared(ast.parse(path.read_text())) == set()


def test_an_undeclared_letter_is_found() -> None:
    assert undeclared(ast.parse("def f(query_NHZ):\n    return query_NHZ + MAX_ZZ")) == {
        "query_NHZ"
    }


def test_every_letter_is_used() -> None:
    used = set("".join(SUFFIX.findall("\n".join(path.read_text() for path in FILES))))
    assert set(SHAPE_LETTERS) <= used
