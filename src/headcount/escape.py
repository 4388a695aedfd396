"""Escapes text from data for the terminal, JSON, Markdown, LaTeX and CSV.

Documents, ids, file names and generated summaries may contain anything. None of it may move a
cursor, open a link, become markup or be evaluated by the program that shows it.
"""

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# Escaped are the Unicode categories of controls, surrogates, private use and line separators, and
# the characters that change the direction of text. Other format characters belong to scripts.
CONTROLS = {"Cc", "Cs", "Co", "Zl", "Zp"}
DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# The beginning of a cell that a spreadsheet would evaluate, or that was escaped before.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
# The character of a bare address without which GitHub's Markdown makes no link of it.
BARE_ADDRESS = re.compile(r"(?i)(?:(?<=http)|(?<=https)|(?<=ftp)):(?=//)|(?<=www)\.")
CODE_SPAN_OR_ADDRESS = re.compile(rf"`[^`]*`|{BARE_ADDRESS.pattern[4:]}", re.IGNORECASE)
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "…": r"\ldots{}",
    "×": r"$\times$",
    "†": r"$\dagger$",
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
} | {character: rf"\{character}" for character in "&%$#_{}"}


# What pdflatex sets without packages: some marks, Latin letters, and, up to ``LATEX_LAST``, those
# with these accents.
LATEX_LAST = "\u017f"
LATEX_ACCENTS = set("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
LATEX_CHARACTERS = set("ÆæŒœØøŁłß–—‘’“”")


def printable(text: str) -> str:
    """Return a text with control characters escaped: ESC becomes ``\\x1b``.

    Line breaks and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def map_texts(function: Callable[[str], str], value: Any) -> Any:
    """Return a value of JSON with a function applied to each of its texts."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, dict):
        return {key: map_texts(function, each) for key, each in value.items()}
    if isinstance(value, list):
        return [map_texts(function, each) for each in value]
    return value


def hide_passwords(text: str) -> str:
    """Return a text with ``***`` for the user and the password in each address."""
    return re.sub(r"(?<=://)[^/\s]*@", "***@", text)


def _escaped(character: str) -> str:
    if character in "\n\t" or not _is_control(character):
        return character
    return character.encode("unicode_escape").decode("ascii")


def _is_control(character: str) -> bool:
    return character in DIRECTIONS or unicodedata.category(character) in CONTROLS


def one_line(text: str) -> str:
    """Return a printable text without line breaks and tabs."""
    return printable(" ".join(text.split()))


def json_line(value: Any) -> str:
    """Return a value as one line of JSON in which every control character is escaped.

    JSON readers return the same value.
    """
    text = json.dumps(value, ensure_ascii=False)
    return "".join(json.dumps(c)[1:-1] if _is_control(c) else c for c in text)


def markdown(text: str) -> str:
    """Return Markdown that shows a text literally, also within a table.

    There is no markup, HTML, mathematics or link in it. GitHub makes links of bare addresses, too.
    """
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|$~!#])", r"\\\1", text)
    text = BARE_ADDRESS.sub(r"\\\g<0>", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def markdown_prose(text: str) -> str:
    """Return Markdown of a sentence of ours, with its code spans and intervals, in which names
    from data are no HTML, mathematics or link."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", printable(text))
    text = CODE_SPAN_OR_ADDRESS.sub(
        lambda found: found[0] if found[0].startswith("`") else f"\\{found[0]}", text
    )
    return re.sub(r"(\$|\](?=\()|!(?=\[))", r"\\\1", text)


def markdown_code(text: str) -> str:
    """Return a text as a code span of Markdown."""
    return f"`{one_line(text).replace('`', chr(39))}`"


def latex(text: str) -> str:
    """Return LaTeX that sets a text literally: no command, mathematics or comment.

    Characters that the fonts of pdflatex do not have, such as those of other scripts, are set as
    their code points, as U+4E2D: an unknown one would stop it.
    """
    # An accent of its own is joined with its letter, if there is such a letter.
    composed = unicodedata.normalize("NFC", one_line(text))
    return "".join(_latex_character(character) for character in composed)


def _latex_character(character: str) -> str:
    if character in LATEX:
        return LATEX[character]
    if character.isascii() or character in LATEX_CHARACTERS:
        return character
    decomposed = unicodedata.normalize("NFD", character)
    is_accented = decomposed[0].isascii() and LATEX_ACCENTS.issuperset(decomposed[1:])
    if is_accented and character <= LATEX_LAST:
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"


def csv_cell(value: Any) -> Any:
    """Return a cell of CSV that no spreadsheet takes for a formula; ``csv_text`` reads it back.

    What is no text stays as it is.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if FORMULA.match(text) else text


def csv_table(rows: Iterable[Sequence[Any]], *, number_format: str = "") -> str:
    """Return rows as CSV.

    Args:
        rows: cells, whose texts are escaped by ``csv_cell``. A NaN becomes an empty cell.
        number_format: of floating-point numbers, as ``.6g``; all digits without one.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([_csv_value(cell, number_format) for cell in row])
    return text.getvalue()


def _csv_value(cell: Any, number_format: str) -> Any:
    if not isinstance(cell, float):
        return csv_cell(cell)
    return "" if math.isnan(cell) else format(cell, number_format)


def csv_text(cell: str) -> str:
    """Return the text that ``csv_cell`` made a cell of."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
