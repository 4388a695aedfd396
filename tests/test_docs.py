"""The documentation site: what its hooks make of the schema, the notebooks and the links."""

import base64
import importlib.util
import json
import logging
import re
from pathlib import Path
from types import ModuleType

import pytest

from headcount.config.load import schema_rows

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/site_hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_is_in_the_reference(hooks: ModuleType) -> None:
    assert hooks.KEYS_MARKER in (ROOT / "docs/configuration.md").read_text()
    reference = hooks.key_reference()
    for name, *_, meaning in schema_rows():
        [row] = [row for row in reference.splitlines() if row.startswith(f"| `{name}` |")]
        assert meaning.replace("|", "\\|") in row


def test_every_package_is_in_the_reference(hooks: ModuleType) -> None:
    packages = {path.parent.name for path in (ROOT / "src/headcount").glob("*/__init__.py")}
    assert packages - {"commands", "shipped"} | {"api", "hf"} == set(hooks.PACKAGES)


def test_formulas_are_drawn(hooks: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    drawn = hooks.draw_formulas(r"The score $\frac{q^\top k}{\sqrt{d}}$ is", "page.md")
    assert re.fullmatch(r"The score <svg .*<path d=\"M[^<]+Z\"/></svg> is", drawn)
    assert r'aria-label="\frac{q^\top k}{\sqrt{d}}"' in drawn and "currentColor" in drawn
    assert hooks.draw_formulas("$$\na < b\n$$", "page.md").startswith("<p style=")

    # Code and sums of money stay as they are.
    for text in ("`$HOME`, `$a$`", "```bash\necho $a $b\n```", "$5 and $6", "a\\$b$"):
        assert hooks.draw_formulas(text, "page.md") == text

    # What cannot be drawn fails the strict build.
    assert not caplog.records
    assert hooks.draw_formulas(r"$\nonsense$", "page.md") == r"$\nonsense$"
    assert "page.md: the formula" in caplog.text


def test_links_to_the_repository(
    hooks: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "some/fork")
    for page, link, expected in (
        ("data.md", "../mkdocs.yml", "https://github.com/some/fork/blob/main/mkdocs.yml"),
        ("reference/index.md", "../data.md#tokens", "../data.md#tokens"),
        ("reference/index.md", "model.md", "model.md"),
        ("index.md", "../tutorials/attention.ipynb", "tutorials/attention.md"),
        ("tutorials/attention.md", "sequence_to_sequence.ipynb", "sequence_to_sequence.md"),
        ("tutorials/attention.md", "../docs/heads.md#roles", "../heads.md#roles"),
        ("tutorials/attention.md", "https://pytorch.org", "https://pytorch.org"),
    ):
        with caplog.at_level(logging.WARNING):
            assert hooks.rewrite_links(f"a [b]({link}) c", page) == f"a [b]({expected}) c"
    assert not caplog.records

    code = "```python\nfunctions[0](x)\n```"
    assert hooks.rewrite_links(code, "data.md") == code

    # Without a repository's address the text stays.
    monkeypatch.delenv("GITHUB_REPOSITORY")
    assert hooks.rewrite_links("a [b](../mkdocs.yml) c", "data.md") == "a b c"

    # A file that is not there fails the strict build.
    hooks.rewrite_links("a [b](../src/gone.py) c", "data.md")
    assert "data.md: a link leads to src/gone.py" in caplog.text


def test_a_notebook_becomes_a_page(hooks: ModuleType, tmp_path: Path) -> None:
    picture = {"data": {"image/png": base64.b64encode(b"png").decode(), "text/plain": "Figure"}}
    code = {
        "cell_type": "code",
        "source": "1 + 1",
        "outputs": [{"data": {"text/plain": "2"}}, picture],
    }
    cells = [{"cell_type": "markdown", "source": ["# Sums\n", "By hand."]}, code]
    (tmp_path / "sums.ipynb").write_text(json.dumps({"cells": cells}))
    made = dict(hooks.notebook_pages(tmp_path / "sums.ipynb"))
    assert made["sums_1.png"] == b"png"
    page = made["sums.md"]
    assert page.startswith("# Sums\nBy hand.\n\n```python\n1 + 1\n```\n\n```text\n2\n```")
    assert page.endswith("](sums_1.png)\n")
