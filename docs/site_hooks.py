"""What MkDocs does beside building the pages of this folder.

- the key reference in ``configuration.md`` is made from the schema
- each package gets a page of its docstrings, each notebook of ``tutorials/`` a page
- LaTeX formulas are drawn
- a link to a file of the repository leads to its web page, and fails if there is no such file
"""

import base64
import html
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from headcount.config.load import schema_rows
from headcount.config.schema import Config

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
KEYS_MARKER = "<!-- the site has the table of keys here -->"
PACKAGES = {
    "api": "The functions at the package's top: `headcount.load_run` and the others.",
    "config": "The schema and the loader of configs.",
    "model": "Attention blocks and summarizers in pure torch.",
    "generation": "Searches, sampling and constraints in pure torch.",
    "data": "Sources, pairs, tokens and batches.",
    "evaluation": "Scores and baselines, from text alone.",
    "runs": "A run on disk.",
    "training": "The LightningModule, the data module and the Trainer.",
    "experiments": "Studies: grid, cells, controls, launch and report.",
    "heads": "Which heads matter.",
    "page": "The offline page and its server.",
    "hf": "Exports as models of the transformers library.",
}
# Code is not searched for formulas; a formula has no blank inside its dollar signs.
CODE = re.compile(r"(?ms)(^```.*?^```|`[^`\n]+`)")
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$(?=[^\s$])([^$\n]+)(?<=\S)\$(?![\d$])", re.S)
FORMULA_SIZE = 16  # points of an em while a formula is drawn; the page scales it
SVG_COMMANDS = {
    Outline.MOVETO: "M",
    Outline.LINETO: "L",
    Outline.CURVE3: "Q",
    Outline.CURVE4: "C",
    Outline.CLOSEPOLY: "Z",
}
log = logging.getLogger("mkdocs.hooks.headcount")  # a warning fails the strict build


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of packages and notebooks."""
    for package in PACKAGES:
        content = f"# headcount.{package}\n\n::: headcount.{package}\n"
        files.append(File.generated(config, f"reference/{package}.md", content=content))
    for path in sorted((ROOT / "tutorials").glob("*.ipynb")):
        for name, content in notebook_pages(path):
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the key reference, draw the formulas, and rewrite links to the repository."""
    if page.file.src_uri == "reference/index.md":
        lines = [f"- [headcount.{name}]({name}.md): {text}" for name, text in PACKAGES.items()]
        markdown += "\n" + "\n".join(lines) + "\n"
    if page.file.src_uri == "configuration.md":
        markdown = markdown.replace(KEYS_MARKER, key_reference())
    return rewrite_links(draw_formulas(markdown, page.file.src_uri), page.file.src_uri)


def draw_formulas(markdown: str, page: str) -> str:
    """Return the text of a page with its LaTeX formulas, ``$...$`` and ``$$...$$``, drawn as SVG.

    matplotlib draws them, so the site needs no JavaScript and no network for mathematics.

    Args:
        markdown: the text.
        page: its path in the site.
    """

    def draw(match: re.Match[str]) -> str:
        displayed, inline = match.groups()
        latex = " ".join((displayed or inline).split())
        if displayed is not None:
            latex = latex.replace(r"\frac", r"\dfrac")  # as large as TeX makes it there
        try:
            svg = formula_svg(latex)
        except ValueError as error:
            log.warning(f"{page}: the formula {latex} cannot be drawn: {error}")
            return match.group()
        if displayed is None:
            return svg
        return f'<p style="overflow-x: auto; padding: 2px; text-align: center">{svg}</p>'

    parts = CODE.split(markdown)
    parts[::2] = [FORMULA.sub(draw, part) for part in parts[::2]]
    return "".join(parts)


def formula_svg(latex: str) -> str:
    """Return a formula as inline SVG, on the line of the text and in its color.

    Raises:
        ValueError: matplotlib's mathtext cannot read it.
    """
    font = FontProperties(math_fontfamily="cm")
    outline = TextPath((0, 0), f"${latex}$", size=FORMULA_SIZE, prop=font)
    box = outline.get_extents()

    # SVG's axis of height points down.
    commands = []
    for points, code in outline.iter_segments(curves=True):
        points[1::2] *= -1
        numbers = "" if code == Outline.CLOSEPOLY else " ".join(f"{each:.2f}" for each in points)
        commands.append(SVG_COMMANDS[code] + numbers)

    view = f"{box.x0:.2f} {-box.y1:.2f} {box.width:.2f} {box.height:.2f}"
    style = (
        f"width: {box.width / FORMULA_SIZE:.3f}em; height: {box.height / FORMULA_SIZE:.3f}em; "
        f"vertical-align: {box.y0 / FORMULA_SIZE:.3f}em; fill: currentColor; overflow: visible"
    )
    label = html.escape(latex)
    return (
        f'<svg role="img" aria-label="{label}" viewBox="{view}" style="{style}">'
        f'<path d="{"".join(commands)}"/></svg>'
    )


def rewrite_links(markdown: str, page: str) -> str:
    """Return the text of a page, its relative links as the site needs them.

    Args:
        markdown: with links as they are right in the repository.
        page: its path in the site; the pages in ``tutorials/`` come from notebooks at the top.
    """
    site_folder = (DOCS / page).parent
    source_folder = ROOT / "tutorials" if page.startswith("tutorials/") else site_folder

    def rewrite(link: re.Match[str]) -> str:
        text, target = link.groups()
        name, hash_sign, anchor = target.partition("#")
        path = Path(os.path.normpath(source_folder / name))
        return (
            f"[{text}]({address})" if (address := address_of(path, hash_sign + anchor)) else text
        )

    def address_of(path: Path, anchor: str) -> str | None:
        inside = path.relative_to(ROOT).as_posix()
        is_made = path.parent == DOCS / "reference" and path.suffix == ".md"
        if not path.exists() and not is_made:
            log.warning(f"{page}: a link leads to {inside}, which is not in the repository")
        if path.suffix == ".ipynb":
            path = (DOCS / inside).with_suffix(".md")
        if path.is_relative_to(DOCS):
            return os.path.relpath(path, site_folder) + anchor
        return repository_address(inside, anchor)

    # Code stays as it is.
    parts = re.split(r"(?ms)(^```.*?^```)", markdown)
    link = re.compile(r"(?<!!)\[([^][]*)\]\((?!https?:|#)([^)\s]+)\)")
    parts[::2] = [link.sub(rewrite, part) for part in parts[::2]]
    return "".join(parts)


def repository_address(inside: str, anchor: str) -> str | None:
    """Return the web address of a file of the repository.

    On GitHub's runners the environment names the repository; elsewhere there is none.
    """
    repository = os.environ.get("GITHUB_REPOSITORY")
    if repository is None:
        return None
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{repository}/blob/main/{inside}{anchor}"


def key_reference() -> str:
    """Return a table of keys for each section of the schema, as Markdown."""
    sections = {
        name: section for name, section in get_type_hints(Config).items() if is_dataclass(section)
    }
    rows: dict[str, list[str]] = {}
    for name, legal, default, meaning in schema_rows():
        section = name.split(".")[0] if "." in name else ""
        cells = [f"`{name}`", f"`{legal}`", f"`{default}`", meaning]
        escaped = [cell.replace("|", "\\|") for cell in cells]
        rows.setdefault(section, []).append("| " + " | ".join(escaped) + " |")

    parts = []
    for section, lines in rows.items():
        title = section or "Keys outside of sections"
        described = (sections[section].__doc__ or "").strip() if section else ""
        paragraphs = "\n\n".join(" ".join(part.split()) for part in described.split("\n\n"))
        table = ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *lines]
        parts += [f"### {title}", paragraphs, "\n".join(table)]
    assert set(sections) < set(rows) and len(sections) < len(fields(Config))
    return "\n\n".join(part for part in parts if part)


def notebook_pages(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """Yield the page of a notebook with its outputs, and the pictures in it: name and content."""
    parts = []
    pictures = 0
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            text, picture = _output(output)
            if text:
                parts.append(f"```text\n{text.rstrip()}\n```")
            if picture:
                pictures += 1
                name = f"{path.stem}_{pictures}.png"
                parts.append(f"![Output of the cell above]({name})")
                yield name, base64.b64decode(picture)
    yield f"{path.stem}.md", "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> tuple[str, str]:
    """Return text and picture, in base64, of an output of a cell."""
    data = output.get("data", {})
    if "image/png" in data:
        return "", data["image/png"]
    return "".join(output.get("text", data.get("text/plain", ""))), ""
