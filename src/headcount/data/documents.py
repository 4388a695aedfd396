"""Documents to summarize: text, or rows of the kinds of files that training reads.

The content decides what a file is, as standard input has no name. Rows come from the same readers
as those of training.
"""

import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from headcount.data import readers
from headcount.data.pairs import clean_text, document_text, id_of, value_of
from headcount.data.readers import Row
from headcount.errors import ConfigError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
HEADER_CELL = re.compile(r"\w[\w.-]*")  # the name of a column, in contrast to prose

Document = tuple[Any, str]  # its id, which is None in text, and its text


def read_documents(
    file: str, columns: Sequence[str], *, is_whole: bool = False
) -> Iterator[Document]:
    """Read documents to summarize, one at a time.

    Args:
        file: text, one document per line; JSON (one object per line, or one array of objects),
            CSV or TSV, all of which may be compressed with gzip; Parquet or Arrow. ``-`` is
            standard input.
        columns: names of columns or keys that may hold the document, beside ``document`` and
            ``text``. The first one that is not empty is used.
        is_whole: read a file of text as one document.

    Yields:
        Id and document. The id is None in text. Where a row has none, it is the number of the row
        from 0, as among the pairs of training.

    Raises:
        ConfigError: the file, or a line of it, cannot be read.
    """
    columns = list(dict.fromkeys([*columns, "document", "text"]))
    try:
        if _suffix(file) in ("parquet", "arrow"):
            yield from _from_rows(readers.read([Path(file)], [*columns, "id"]), columns)
            return
        with _open(file) as content:
            if is_whole:
                yield None, clean_text(_decode(content.read()), "text")
            else:
                yield from _read(file, content, columns)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        # A ValueError: a NUL in the path.
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{file}: {reason}; legal: a file, or - for standard input") from None


def _suffix(file: str) -> str:
    """Return the suffix of a name without a ``.gz`` behind it."""
    return Path(file).name.removesuffix(".gz").rpartition(".")[2].lower()


@contextmanager
def _open(file: str) -> Iterator[io.BufferedReader]:
    """Open a file or standard input as bytes, decompressed."""
    if file == "-":
        with readers.decompress(Path("-"), sys.stdin.buffer) as content:
            yield content
    else:
        with open(file, "rb") as raw, readers.decompress(Path(file), raw) as content:
            yield content


def _read(file: str, content: io.BufferedReader, columns: list[str]) -> Iterator[Document]:
    blank_lines, first_line = _first_line(content)
    kind = _kind(file, first_line, columns)
    if kind == "text":
        yield from _lines_of_text([*blank_lines, first_line])
        yield from _lines_of_text(content)
        return

    path = Path(file)
    if kind == "JSON":
        begin = b"".join(blank_lines) + first_line
        yield from _from_rows(readers.json_rows(path, _rejoin(begin, content)), columns)
    else:
        rows = readers.csv_rows(path, _rejoin(first_line, content), is_tsv=kind == "TSV")
        yield from _from_rows(rows, columns)


def _first_line(content: io.BufferedReader) -> tuple[list[bytes], bytes]:
    """Read up to the first line that is not blank; return the blank ones and that line."""
    blank_lines: list[bytes] = []
    for line in content:
        if line.removeprefix(BYTE_ORDER_MARK).strip():
            return blank_lines, line
        blank_lines.append(line)
    return blank_lines, b""


def _kind(file: str, first_line: bytes, columns: list[str]) -> str:
    """Return what a file is: JSON, CSV, TSV or text."""
    line = _decode(first_line).strip()
    suffix = _suffix(file)
    if not line:
        return "text"
    if line.startswith("{") or suffix in ("json", "jsonl") or _begins_array(line):
        return "JSON"
    for kind, delimiter in (("CSV", ","), ("TSV", "\t")):
        cells = [cell.strip('"') for cell in line.split(delimiter)]
        is_header = len(cells) > 1 and all(HEADER_CELL.fullmatch(cell) for cell in cells)
        if suffix == kind.lower() or (is_header and not set(columns).isdisjoint(cells)):
            return kind
    return "text"


def _begins_array(line: str) -> bool:
    """Return whether a first line begins an array of JSON. Text may begin with ``[``, too."""
    if re.match(r"\[\s*(\{|$)", line):
        return True
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and all(isinstance(item, str | list | dict) for item in value)


def _rejoin(begin: bytes, rest: io.BufferedReader) -> io.BufferedReader:
    """Return a stream of bytes that were already read, and the rest."""
    stream: Any = _Rejoined(begin, rest)
    return io.BufferedReader(stream)


class _Rejoined(io.RawIOBase):
    """A stream that begins with bytes that were already read from it."""

    def __init__(self, begin: bytes, rest: BinaryIO) -> None:
        self.begin = io.BytesIO(begin)
        self.rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.begin.read(len(buffer)) or self.rest.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _decode(raw: bytes) -> str:
    return raw.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "replace")


def _lines_of_text(lines: Any) -> Iterator[Document]:
    for line in lines:
        if line:
            yield None, clean_text(_decode(line), "text")


def _from_rows(rows: Iterator[Row], columns: list[str]) -> Iterator[Document]:
    for number, (place, row) in enumerate(rows):
        try:
            yield _identifier(row, number), _document(row, columns)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None


def _identifier(row: dict[str, Any], number: int) -> Any:
    """Return the id of a row, its number if it has none."""
    if not id_of(row):
        return number
    identifier = row["id"]
    is_plain = isinstance(identifier, bool | int | float)
    return identifier if is_plain else clean_text(identifier, "id")


def _document(row: dict[str, Any], columns: list[str]) -> str:
    """Return the document of a row, an empty one where it is missing."""
    for column in columns:
        text, _ = document_text(value_of(row, column), column)
        if text:
            return text
    has_column = any(column in row for column in columns)
    if not has_column:
        raise ConfigError(f"no document under {' or '.join(columns)}")
    return ""
