import csv
import io
import json
import math

import pytest

from headcount.escape import (
    csv_cell,
    csv_table,
    csv_text,
    json_line,
    latex,
    markdown,
    markdown_code,
    markdown_prose,
    printable,
)

TITLE, CLEAR, CLIPBOARD, CSI = "\x1b]0;owned\x07", "\x1b[2J", "\x1b]52;c;aGk=\x07", "\x9b31m"
HOSTILE = [
    TITLE,
    CLEAR,
    CLIPBOARD,
    CSI,
    "a\rb",
    "\u202ereversed",
    "\u2066isolated",
    "\0",
    "\x7f",
    "\b\b",
    "\u2028",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_moves_the_cursor(text: str) -> None:
    assert printable(text).isprintable() and "\\" in printable(text)
    assert printable(f"a {text} b").startswith("a ")


@pytest.mark.parametrize(
    "text",
    [
        "naïve",
        "日本語",
        "हिन्दी",
        "שלום",
        "👩‍👩‍👧",
        "non\u00adbreaking",
        "zero\u200cwidth",
        "a\n\tb",
    ],
)
def test_text_of_any_script_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("text", [*HOSTILE, "naïve 👩‍👩‍👧", "\ud800"])
def test_json_is_read_back_as_it_was(text: str) -> None:
    line = json_line({text: [text]})
    assert json.loads(line) == {text: [text]}
    assert printable(line) == line and "\n" not in line


MARKUP = {
    "<script>x</script>": "&lt;script&gt;x&lt;/script&gt;",
    "![x](http://y)": "\\!\\[x\\](http\\://y)",
    "HTTPS://a ftp://b www.c ://d http: x": "HTTPS\\://a ftp\\://b www\\.c ://d http: x",
    "a|b": "a\\|b",
    "$x^2$": "\\$x^2\\$",
    "`code`": "\\`code\\`",
    "*a* _b_ num_heads=4": "\\*a\\* \\_b\\_ num_heads=4",
    "a\nb": "a b",
}


@pytest.mark.parametrize("text", MARKUP)
def test_markdown_shows_a_name_as_it_is(text: str) -> None:
    assert markdown(text) == MARKUP[text]


def test_markdown_of_sentences_and_code() -> None:
    sentence = "- 1 head: -1.41 [-1.85, -0.96], p < 0.001 `fixed_width`"
    assert markdown_prose(sentence) == sentence
    assert (
        markdown_prose("<img src=x> [a](b) $x$ ![y]") == "&lt;img src=x> [a\\](b) \\$x\\$ \\![y]"
    )
    assert markdown_prose("http://a `http://b`, www.c") == "http\\://a `http://b`, www\\.c"
    assert markdown_code("a`b\n<i>") == "`a'b <i>`"


def test_latex_runs_no_command() -> None:
    assert latex(r"\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"
    assert latex("50% $x$ a_b #1 ~ ^ & Δ ± <") == (
        r"50\% \$x\$ a\_b \#1 \textasciitilde{} \textasciicircum{} \& $\Delta$ $\pm$ \textless{}"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("naïve Ångström ŝŁß “–”", "naïve Ångström ŝŁß “–”"),
        ("cafe\u0301", "café"),
        ("中_a", r"\texttt{U+4E2D}\_a"),
        ("да", r"\texttt{U+0434}\texttt{U+0430}"),
        ("α→ế", r"\texttt{U+03B1}\texttt{U+2192}\texttt{U+1EBF}"),
        ("ẽ", r"\texttt{U+1EBD}"),
        ("q\u0301", r"q\texttt{U+0301}"),
        ("🙂", r"\texttt{U+1F642}"),
        ("1×2…", r"1$\times$2\ldots{}"),
    ],
)
def test_latex_has_only_characters_that_pdflatex_knows(text: str, expected: str) -> None:
    assert latex(text) == expected


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-x", "@x", "\tx", "'=x", "''+x", "'quoted", "plain", "", "5-3", "'"]
)
def test_no_cell_is_a_formula_and_all_are_read_back(text: str) -> None:
    cell = csv_cell(text)
    assert cell[:1] not in tuple("=+-@\t\r")
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerow([cell, "end"])
    [row] = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert csv_text(row[0]) == text and row[1] == "end"


def test_numbers_stay_numbers() -> None:
    assert [csv_cell(value) for value in (-1.5, 3, None, True)] == [-1.5, 3, None, True]
    assert csv_cell("a\rb") == "a\\rb"  # a bare carriage return would end the row for some readers


def test_a_table_of_csv_escapes_texts_and_leaves_a_missing_number_empty() -> None:
    rows = [["id", "score"], ["=1+1", -1 / 3], ["b", math.nan]]
    assert csv_table(rows) == "id,score\n'=1+1,-0.3333333333333333\nb,\n"
    assert csv_table(rows, number_format=".3g") == "id,score\n'=1+1,-0.333\nb,\n"
