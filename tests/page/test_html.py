import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from headcount.page import html
from headcount.page.html import ATTENTION, DESIGNS, Design, embed, write_page

HOSTILE = [
    "</script><script>alert(1)</script>", "<!--", "]]>", "<img src=x onerror=alert(1)>", "&lt;",
    "\u2028\u2029", "\0", "\u202e", "\ud800", "\x85", "{{SCRIPT}}", "'\"`", "\ufeff",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_data_is_escaped_and_decodes_to_the_same(text: str) -> None:
    embedded = embed({text: [text]})
    assert not set(embedded) & set("<>&\u2028\u2029\0\ud800\x85") and "\n" not in embedded
    assert json.loads(embedded) == {text: [text]}
    page = write_page(ATTENTION, {"id": text}, {"maps-0-0": "AA=="})
    assert page.count("</script>") == 3 and page.encode()
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1]) == {"id": text}


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embed({"x": float("nan")})


@pytest.mark.parametrize("design", DESIGNS)
def test_the_policy_lets_nothing_in(design: Design) -> None:
    page = write_page(design, {})
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert "connect-src 'self'" in write_page(design, {}, live=True)
    outside = re.findall(r"(?:src|href)=\"(?!data:,)|url\(|@import|https?:", page)
    assert outside in ([], ["http:"]) and page.count("http://www.w3.org/2000/svg") >= 1


def test_every_module_is_part_of_a_page() -> None:
    folder = files("headcount.page").joinpath("modules")
    used = {f"{name}.js" for design in DESIGNS for name in design.modules}
    assert {path.name for path in folder.iterdir()} == used


@pytest.mark.parametrize("design", DESIGNS)
def test_modules_are_one_script_in_the_order_of_their_imports(design: Design) -> None:
    sources: dict[str, str] = {}
    names: list[str] = []
    for name in design.modules:
        source = files("headcount.page").joinpath(f"modules/{name}.js").read_text()
        names += re.findall(
            r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", source, re.M
        )
        # What it imports is exported by a module before it.
        for imported, other in re.findall(
            r"^import \{([^}]*)\} from '\./(\w+)\.js';$", source, re.M
        ):
            exported = re.findall(
                r"^export (?:async )?(?:function|const|let) (\w+)", sources[other], re.M
            )
            assert {each.strip() for each in imported.split(",")} <= set(exported), (name, other)
        assert all(len(line) < 125 for line in source.splitlines()), name
        sources[name] = source

    assert len(names) == len(set(names)), [each for each in names if names.count(each) > 1]
    script = html._script(design)
    assert "import " not in script and "export " not in script and "</script" not in script.lower()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
    ):
        assert word not in script


def test_the_package_carries_all_parts_of_the_page() -> None:
    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["headcount"]
    package = root / "src" / "headcount"
    carried = {path for pattern in patterns for path in package.glob(pattern)}
    parts = {
        path
        for path in (package / "page").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert parts and parts <= carried


def test_the_style_has_what_keeps_pointing_fluid() -> None:
    folder = files("headcount.page")
    style = "".join(folder.joinpath(name).read_text() for name in ATTENTION.styles)
    # Colouring 500 words must not start 500 transitions, or selectors that read style attributes.
    assert "transition" not in style and "[style" not in style
