"""Text from data, as text and nothing else: for the terminal, Markdown, LaTeX and CSV.

Documents, ids, names of files and what a model generates may hold anything. Nothing of it may move
a cursor, open a link, become markup or be evaluated by the program that shows it.
"""

import json
import re
import unicodedata
from typing import Any

# Escaped: controls, surrogates, private use, line separators, and the characters that change the
# direction of text. Other format characters belong to scripts and emoji.
CONTROLS = {"Cc", "Cs", "Co", "Zl", "Zp"}  # Unicode categories
DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _is_control(character: str) -> bool:
    return character in DIRECTIONS or unicodedata.category(character) in CONTROLS


# How a cell begins that a spreadsheet would evaluate, or one that was escaped before.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
# The character of a bare address without which GitHub's Markdown makes no link of it.
BARE_ADDRESS = re.compile(r"(?i)(?:(?<=http)|(?<=https)|(?<=ftp)):(?=//)|(?<=www)\.")
CODE_SPAN_OR_ADDRESS = re.compile(rf"`[^`]*`|{BARE_ADDRESS.pattern[4:]}", re.IGNORECASE)
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
} | {character: rf"\{character}" for character in "&%$#_{}"}


def printable(text: str) -> str:
    """Return a text with control characters written out: ESC becomes ``\\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written_out(character) for character in text)


def _written_out(character: str) -> str:
    if character in "\n\t" or not _is_control(character):
        return character
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: str) -> str:
    """Return a printable text without line breaks and tabs."""
    return printable(" ".join(text.split()))


def json_line(value: Any) -> str:
    """Return a value as JSON in which every control character is escaped.

    Reading it gives the same value.
    """
    text = json.dumps(value, ensure_ascii=False)
    return "".join(json.dumps(c)[1:-1] if _is_control(c) else c for c in text)


def markdown(text: str) -> str:
    """Return a text as GitHub's Markdown shows it, also within a table.

    No markup, HTML, link or mathematics. GitHub makes links of bare addresses, too.
    """
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|$~!#])", r"\\\1", text)
    text = BARE_ADDRESS.sub(r"\\\g<0>", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def markdown_prose(text: str) -> str:
    """Return a sentence of ours, which may have code spans and intervals in it, without the markup
    of names in it."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", printable(text))
    text = CODE_SPAN_OR_ADDRESS.sub(
        lambda found: found[0] if found[0].startswith("`") else f"\\{found[0]}", text
    )
    return re.sub(r"(\$|\](?=\()|!(?=\[))", r"\\\1", text)


def markdown_code(text: str) -> str:
    """Return a text as a code span of Markdown, in which nothing is markup."""
    return f"`{one_line(text).replace('`', chr(39))}`"


def latex(text: str) -> str:
    """Return a text as LaTeX sets it: no command, no mathematics, no comment."""
    return "".join(LATEX.get(character, character) for character in one_line(text))


def csv_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula.

    Numbers stay as they are. ``csv_text`` reads it back.
    """
    if not isinstance(value, str):
        return value
    text = "".join(_written_out(c) if c not in "\t\n" else c for c in value)
    return f"'{text}" if FORMULA.match(text) else text


def csv_text(cell: str) -> str:
    """Return what ``csv_cell`` made a cell of."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
