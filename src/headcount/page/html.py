"""One HTML file: the template with a design's style, scripts and data within it.

Nothing is loaded from anywhere: a Content-Security-Policy in the file forbids it, and lets no
script or style in but ours, known by their SHA-256. Data is JSON in elements that are no scripts.
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
PART = re.compile(r"\{\{([A-Z]+)\}\}")
# Markup, controls, what ends a line of JavaScript, surrogates, the byte-order mark.
UNSAFE = re.compile("[<>&\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a kind of page is made of.

    Attributes:
        body: the file with its elements.
        styles: its stylesheets.
        modules: its scripts, in the order of their imports.
    """

    body: str
    styles: tuple[str, ...]
    modules: tuple[str, ...]


ATTENTION = Design(  # of ``headcount page`` and ``headcount serve``
    body="attention.html",
    styles=("style.css", "attention.css"),
    modules=(
        "dom", "words", "state", "maps", "tokens", "detail", "panel", "heatmap", "enlarged",
        "thumbnails", "live", "heads_off", "save", "attention",
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
        design: of the page.
        content: what it shows, as JSON.
        maps: packed attention weights by a name that ``content`` uses.
        live: whether the page may ask the server that it comes from.
    """
    style = "".join(_resource(name) for name in design.styles)
    script = _script(design)

    # Only this style and this script may be used.
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

    parts = {
        "POLICY": policy,
        "STYLE": style,
        "BODY": _body(design),
        "DATA": "\n".join(data),
        "SCRIPT": script,
    }
    return PART.sub(lambda match: parts[match[1]], _resource("template.html"))


def embed(value: Any) -> str:
    """Return a value as JSON that can be within an HTML element: no character of it is markup,
    and none ends a line of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@cache
def _resource(name: str) -> str:
    return files("headcount.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _body(design: Design) -> str:
    """Return the elements of a design; ``{{CHOOSER}}`` in its file is ``chooser.html``."""
    return PART.sub(lambda match: _resource(f"{match[1].lower()}.html"), _resource(design.body))


@cache
def _script(design: Design) -> str:
    """Return the modules as one script: imports between them are dropped, as are exports."""
    modules = []
    for name in design.modules:
        source = IMPORT.sub("", _resource(f"modules/{name}.js"))
        modules.append(f"// {name}.js\n{EXPORT.sub('', source)}")
    return "\n".join(modules)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
