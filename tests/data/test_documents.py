"""What summarize reads: the content decides, and everything is read for what it is or named."""

import csv
import gzip
import io
import json
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headcount.config.load import load
from headcount.data.documents import read_documents
from headcount.data.pairs import id_of, unique_ids
from headcount.data.sources import load_splits
from headcount.errors import ConfigError

ROWS = [
    {"id": "a", "document": 'One, "quoted".\nTwo.'},
    {"id": "b", "document": "naïve 🙂"},
    {"id": "c", "document": ""},
]
EXPECTED = [("a", 'One, "quoted".\nTwo.'), ("b", "naïve 🙂"), ("c", "")]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
ARRAY = json.dumps(ROWS, indent=1)
BOM = "\ufeff"


def as_csv(delimiter: str = ",") -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["id", "document"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue()


FORMS = {
    "JSONL": JSONL,
    "JSONL with a byte order mark": BOM + JSONL,
    "JSONL after blank lines": "\n \n" + JSONL,
    "JSONL after a byte order mark and a blank line": BOM + "\r\n" + JSONL,
    "JSONL with Windows line ends": JSONL.replace("\n", "\r\n"),
    "a JSON array": ARRAY,
    "a JSON array in a line": json.dumps(ROWS),
    "a JSON array with a byte order mark": BOM + ARRAY,
    "a JSON array after blank lines": "\n\n " + ARRAY,
    "CSV": as_csv(),
    "CSV with a byte order mark": BOM + as_csv(),
    "CSV after a blank line": "\n" + as_csv(),
}


def read(content: bytes, name: str, monkeypatch: pytest.MonkeyPatch, *columns: str) -> list:
    """Read from a file of some name, or from standard input if there is none."""
    Path(name or "stdin").write_bytes(content)
    if name:
        return list(read_documents(name, columns))
    with open("stdin", "rb") as raw, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(raw))
        return list(read_documents("-", columns))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["", "in.txt", "in.jsonl"])
@pytest.mark.parametrize("is_gzip", [False, True])
def test_rows_are_read_for_what_they_are(
    is_gzip: bool, name: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "in.jsonl":
        name = {"C": "in.csv", "a": "in.json"}.get(form[0], name)
    content = FORMS[form].encode()
    content = gzip.compress(content) if is_gzip else content
    assert read(content, name, monkeypatch) == EXPECTED
    if name and is_gzip:
        assert read(content, f"{name}.gz", monkeypatch) == EXPECTED


def test_tsv_has_no_quoting(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b'id\tdocument\na\t"One" two\nb\t"Three\n'
    for name in ("", "in.tsv", "in.txt"):
        found = read(content, name, monkeypatch)
        assert found == [("a", '"One" two'), ("b", '"Three')]


def test_columnar_files() -> None:
    table = pa.table({"id": ["a", None], "lines": [["One.", "Two."], ["Three."]]})
    pq.write_table(table, "in.parquet")
    with pa.OSFile("in.arrow", "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    for name in ("in.parquet", "in.arrow"):
        assert list(read_documents(name, ["lines"])) == [("a", "One.\nTwo."), (1, "Three.")]


def test_rows_have_the_ids_of_pairs(tmp_path: Path) -> None:
    """So the summaries of a file find the training examples of the same file."""
    ids = [None, "a", "a", "", " ", 7, "a", "b\tc", 2.5, "a#2", None]
    rows = [{"id": each, "document": f"d{n}", "summary": "s"} for n, each in enumerate(ids)]
    text = "\n\n".join(map(json.dumps, rows))
    Path("in.jsonl").write_text(text)
    Path("in.json").write_text(json.dumps(rows))
    as_texts = [{**row, "id": "" if row["id"] is None else str(row["id"])} for row in rows]
    for name, delimiter in (("in.csv", ","), ("in.tsv", "|")):
        with open(name, "w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "document", "summary"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(as_texts)
    Path("in.tsv").write_text(
        Path("in.tsv").read_text().replace("\t", " ").replace("|", "\t").replace('"', "")
    )
    pq.write_table(pa.Table.from_pylist(as_texts), "in.parquet")

    expected = ["0", "a", "a#3", "3", "4", "7", "a#4", "b c", "2.5", "a#2", "10"]
    for name in ("in.jsonl", "in.json", "in.csv", "in.tsv", "in.parquet"):
        config = load([], [f"data.path={name}", f"data.cache_dir={tmp_path / 'cache'}"])
        pairs = load_splits(config.data, {"train": "train"})[0]["train"]
        found = [id_of({"id": identifier}) for identifier, _ in read_documents(name, [])]
        assert list(pairs.ids) == unique_ids(found) == expected, name


TEXT = {
    "one\n\n two \r\nthree": ["one", "", "two", "three"],
    "\n\n": ["", ""],
    "": [],
    " ": [""],
    BOM + "one\n": ["one"],
    "\n" + BOM + "{one\n"[2:]: ["", "ne"],
    "[1] A reference.\n[2] Another.": ["[1] A reference.", "[2] Another."],
    "[1]\n": ["[1]"],
    "[Music] Hello.\n": ["[Music] Hello."],
    "a document, a text, and more\n": ["a document, a text, and more"],
    "text\n": ["text"],
    "text, document\n": ["text, document"],
    '"document","quoted prose" is text\n': ['"document","quoted prose" is text'],
    "a\0b\0 is text with a rare NUL\n": ["a\0b\0 is text with a rare NUL"],
    "na\u00efve caf\u00e9".encode("latin-1").decode("utf-8", "surrogateescape"): [
        "na\ufffdve caf\ufffd"
    ],
    "\x1b[1mbold\x1b[0m\n": ["\x1b[1mbold\x1b[0m"],
}


@pytest.mark.parametrize("content", TEXT, ids=range(len(TEXT)))
@pytest.mark.parametrize("name", ["", "in.txt"])
def test_text_is_a_document_a_line(
    name: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [(None, line) for line in TEXT[content]]
    assert read(content.encode("utf-8", "surrogateescape"), name, monkeypatch) == expected


def test_a_file_of_text_as_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    for content in ("One.\n\nTwo.\n", '{"document": 1}\n{', "[{", "id,text\n"):
        for raw in (content.encode(), gzip.compress((BOM + content).encode())):
            Path("in.txt").write_bytes(raw)
            assert list(read_documents("in.txt", [], is_whole=True)) == [(None, content.strip())]


NO_TEXT = {
    "UTF-16": "a text in sixteen bits".encode("utf-16"),
    "UTF-16, no mark": "a text in sixteen bits".encode("utf-16-le"),
    "UTF-16, no mark, big": "ein Täxt".encode("utf-16-be"),
    "UTF-32": "a text".encode("utf-32"),
    "UTF-32, no mark": "a text".encode("utf-32-be"),
    "Cyrillic in KOI8-R": "Сегодня хорошая погода, мы идём гулять.".encode("koi8-r"),
    "Japanese in Shift-JIS": "今日は天気がいいです。散歩に行きましょう。".encode("shift-jis"),
    "random bytes": random.Random(0).randbytes(3000),
    "tar": b"a.txt" + bytes(95) + b"0000644\0" + bytes(400),
    "ZIP": b"PK\x03\x04\x14\0\0\0",
    "xz": b"\xfd7zXZ\x00\0\x04",
    "Zstandard": b"\x28\xb5\x2f\xfd\x04\0",
    "bzip2": b"BZh91AY&SY\0",
    "PDF": b"%PDF-1.7\n",
    "picture": b"\x89PNG\r\n\x1a\n",
    "Parquet": b"PAR1\x15\x04",
    "damaged gzip": gzip.compress(b"a text " * 99)[:-9],
    "gzip of a ZIP": gzip.compress(b"PK\x03\x04\x14\0\0\0"),
}


@pytest.mark.parametrize("kind", NO_TEXT)
@pytest.mark.parametrize("name", ["", "in.txt", "in.jsonl", "in.csv"])
def test_what_is_no_text_is_named(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=rf"^{name or '-'}: (this is|not readable as) [^\n]+$"):
        read(NO_TEXT[kind], name, monkeypatch)


def test_documents_are_taken_as_in_training() -> None:
    """Lists of sentences, numbers, and missing values."""
    values = {
        '["One.", "Two."]': "One.\nTwo.",
        "[1, 2.5]": "1\n2.5",
        "3": "3",
        "1.5": "1.5",
        '" a "': "a",
        "null": "",
        "NaN": "",
        "[]": "",
        '["a", null]': "a\n".strip(),
        '"\\ud800"': "\ufffd",
    }
    Path("in.jsonl").write_text("".join(f'{{"document": {value}}}\n' for value in values))
    found = [text for _, text in read_documents("in.jsonl", [])]
    assert found == list(values.values())


def test_an_id_that_is_missing_is_the_number_of_the_row() -> None:
    ids = {"null": 0, "NaN": 1, '""': 2, "0": 0, "false": False, '"a"': "a", '" a\\n"': "a"}
    lines = [f'{{"id": {identifier}, "text": "x"}}\n' for identifier in ids]
    Path("in.jsonl").write_text("".join(lines))
    assert [identifier for identifier, _ in read_documents("in.jsonl", [])] == list(ids.values())
    Path("in.json").write_text('[{"text": "x"}, {"id": null, "text": "y"}]')
    assert [identifier for identifier, _ in read_documents("in.json", [])] == [0, 1]


def test_the_first_column_that_is_not_empty_is_used() -> None:
    Path("in.jsonl").write_text(
        '{"a": {"b": "nested"}, "text": "x"}\n{"a": {"b": null}, "text": "y"}\n{"document": "z"}\n'
    )
    found = [text for _, text in read_documents("in.jsonl", ["a.b"])]
    assert found == ["nested", "y", "z"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"other": 3}', "in.jsonl:2: no document under document or text"),
        ("[1]", "in.jsonl:2: not a JSON object but list"),
        ('{"text"', "in.jsonl:2: not JSON: "),
        ('{"text": "a", "id": []}', "in.jsonl:2: column id holds list"),
        ('{"text": {"a": 1}}', "in.jsonl:2: column text holds dict"),
        ('{"text": [["a"]]}', "in.jsonl:2: column text holds list"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, message: str) -> None:
    Path("in.jsonl").write_text(f'{{"text": "a"}}\n{line}\n')
    with pytest.raises(ConfigError, match=f"^{message}"):
        list(read_documents("in.jsonl", []))


@pytest.mark.parametrize("file", ["none", ".", "a\0b", "x" * 300])
def test_what_is_no_file_is_named(file: str) -> None:
    with pytest.raises(ConfigError, match=": .*; legal: a file, or - for standard input$"):
        list(read_documents(file, []))


@pytest.mark.parametrize("content", ['["a", "b"]', "[[1]]", '[{"text": "a"}, 3]'])
def test_an_array_of_something_else_is_named(content: str) -> None:
    Path("in.txt").write_text(content)
    with pytest.raises(ConfigError, match="not a JSON object but"):
        list(read_documents("in.txt", []))


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        ("<!DOCTYPE html>\n<p>", "HTML"),
        ("\n <html>\n", "HTML"),
        (BOM + '<?xml version="1.0"?>\n', "XML"),
        (r"{\rtf1\ansi Hello}", r"rich text \(RTF\)"),
    ],
)
def test_markup_is_named(begin: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are no documents."""
    with pytest.raises(ConfigError, match=f"in.txt: this is {kind}; legal: text in UTF-8"):
        read(begin.encode(), "in.txt", monkeypatch)
