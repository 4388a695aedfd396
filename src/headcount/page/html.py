"""One HTML file: the template with the styles, scripts and data of a kind of page.

The page loads nothing: a Content-Security-Policy in the file forbids it, and allows only its own
style and script, identified by their SHA-256. Data is in ``<script>`` elements of types that a
browser does not execute.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

IMPORT = re.compile(r"^import [^;]*;\n", re.M)
EXPORT = re.compile(r"^export ", re.M)
PLACEHOLDER = re.compile(r"\{\{([A-Z]+)\}\}")
# Markup, control characters, line terminators of JavaScript, surrogates, the byte-order mark.
UNSAFE = re.compile("[<>&\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")


@dataclass(frozen=True, kw_only=True)
class Design:
    """The files that a kind of page is assembled from.

    Attributes:
        body: the file with its HTML elements.
        styles: its stylesheets.
        modules: its JavaScript modules, each after those that it imports.
    """

    body: str
    styles: tuple[str, ...]
    modules: tuple[str, ...]


ATTENTION = Design(  # of ``headcount page`` and ``headcount serve``
    body="attention.html",
    styles=("style.css", "attention.css", "copying.css"),
    modules=(
        "dom", "words", "state", "maps", "tokens", "copying", "detail", "panel", "heatmap",
        "enlarged", "thumbnails", "live", "heads_off", "save", "attention",
    ),
)  # fmt: skip
STUDY = Design(  # of ``headcount report``
    body="study.html",
    styles=("style.css", "results.css"),
    modules=("dom", "words", "table", "chart", "summaries", "study"),
)
COMPARISON = Design(  # of ``headcount compare --report``
    body="comparison.html",
    styles=("style.css", "results.css"),
    modules=("dom", "words", "table", "comparison"),
)
DESIGNS = (ATTENTION, STUDY, COMPARISON)


def write_page(
    design: Design,
    content: Mapping[str, Any],
    maps: Mapping[str, str] | None = None,
    *,
    live: bool = False,
) -> str:
    """Return the HTML of a page.

    Args:
        design: the kind of page.
        content: what the page shows; JSON can hold it.
        maps: packed attention weights by a name that ``content`` refers to.
        live: whether the page may send requests to the server that it comes from.
    """
    style = "".join(_resource(name) for name in design.styles)
    script = _script(design)

    # Markup that slipped into the data could not load, run or send anything.
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "connect-src 'self'" if live else "connect-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )

    data = [f'<script type="application/json" id="data">{embed(content)}</script>']
    for name, text in (maps or {}).items():
        data.append(f'<script type="text/plain" id="{name}">{text}</script>')

    # Data is escaped, so that no text in it can end its element.
    parts = {
        "POLICY": policy,
        "STYLE": style,
        "BODY": _body(design),
        "DATA": "\n".join(data),
        "SCRIPT": script,
    }
    return PLACEHOLDER.sub(lambda match: parts[match[1]], _resource("template.html"))


def embed(value: Any) -> str:
    """Return a value as JSON that is safe within an HTML element: characters of markup and line
    terminators of JavaScript are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@cache
def _resource(name: str) -> str:
    return files("headcount.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _body(design: Design) -> str:
    """Return the elements of a design; ``{{CHOOSER}}`` in its file is ``chooser.html``."""
    return PLACEHOLDER.sub(
        lambda match: _resource(f"{match[1].lower()}.html"), _resource(design.body)
    )


@cache
def _script(design: Design) -> str:
    """Return the modules as one script, without the imports and exports between them."""
    modules = []
    for name in design.modules:
        source = IMPORT.sub("", _resource(f"modules/{name}.js"))
        modules.append(f"// {name}.js\n{EXPORT.sub('', source)}")
    return "\n".join(modules)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
