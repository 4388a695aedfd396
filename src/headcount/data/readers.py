"""Rows of local files, one at a time, each with its place in the file.

No kind of file is held in memory as a whole, except for an array of JSON.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headcount.errors import ConfigError

# A place (file and number of the line or row, from 1) and the values by column.
Row = tuple[str, dict[str, Any]]

BATCH_ROWS = 1000  # rows of a columnar file that are in memory at a time
BUFFER_BYTES = 1 << 20
GZIP = b"\x1f\x8b"

# How files begin that are not text to summarize, and what to call them. Letters are lower case.
LFS_POINTER = b"version https://git-lfs."
SIGNATURES = {
    b"PK\x03\x04": "a ZIP archive",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"%PDF-": "PDF",
    b"\xd0\xcf\x11\xe0": "a document of an office program",
    b"\x89PNG": "a picture",
    b"7z\xbc\xaf": "a 7z archive",
    b"{\\rtf": "rich text (RTF)",
    b"<!doctype": "HTML",
    b"<html": "HTML",
    b"<?xml": "XML",
    LFS_POINTER: "a pointer of Git LFS, whose content git lfs pull gets",
} | {f"BZh{level}1AY&SY".encode(): "compressed with bzip2" for level in range(1, 10)}
# Cells of CSV and TSV that pandas reads as missing values, and what databases write for them.
MISSING_CELLS = frozenset({
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
    "N/A", "NA", "NULL", "NaN", "NaT", "None", "n/a", "nan", "null", r"\N",
})  # fmt: skip
# A cell of TSV in quotation marks, with others within it that are all doubled.
DOUBLED_QUOTES = re.compile(r'"[^"]*(""[^"]*)+"')

SAMPLED_BYTES = 4096  # by which text is told from binary data
ODD_CHARACTERS = {"\ufffd"} | set(map(chr, range(32))) - set("\t\n\v\f\r\x1b")


def read(files: Sequence[Path], wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of some files.

    A byte that is not UTF-8 is decoded to a lone surrogate, which the caller has to replace.

    Args:
        files: of any of the kinds in ``headcount.data.files.SUFFIXES``.
        wanted: names of the columns to read, where the kind of file allows a choice. If a file
            has none of them, all of its columns are read.

    Raises:
        ConfigError: a file is empty, or a line of it is broken. The message names both.
    """
    for file in files:
        if not file.stat().st_size:
            raise ConfigError(f"{file}: the file is empty")
        kind = file.name.removesuffix(".gz").rpartition(".")[2]
        if kind in ("parquet", "arrow"):
            _reject_lfs_pointer(file)
        if kind == "parquet":
            yield from _parquet(file, wanted)
        elif kind == "arrow":
            yield from _arrow(file, wanted)
        elif kind in ("csv", "tsv"):
            yield from _csv(file, is_tsv=kind == "tsv")
        else:
            yield from _json(file)


# Columnar files


def _reject_lfs_pointer(file: Path) -> None:
    """Reject what a clone without Git LFS has in place of a file of data."""
    with file.open("rb") as content:
        if content.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ConfigError(f"{file}: this is {SIGNATURES[LFS_POINTER]}; legal: the file itself")


def _parquet(file: Path, wanted: Sequence[str]) -> Iterator[Row]:
    try:
        # Without pre-buffering, memory does not grow with the file.
        with pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False) as content:
            columns = columns_to_read(content.schema_arrow.names, wanted)
            number = 0
            for batch in content.iter_batches(BATCH_ROWS, columns=columns or None):
                for row in rows_of(batch):
                    number += 1
                    yield f"{file.name}:{number}", row
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        # A date may lie beyond those of Python: an OverflowError.
        raise _unreadable(file, "Parquet", error) from None


def _arrow(file: Path, wanted: Sequence[str]) -> Iterator[Row]:
    try:
        with pa.memory_map(str(file)) as content:
            number = 0
            for batch in _arrow_batches(content):
                columns = columns_to_read(batch.schema.names, wanted)
                chosen = batch.select(columns) if columns else batch
                for row in rows_of(chosen):
                    number += 1
                    yield f"{file.name}:{number}", row
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _unreadable(file, "Arrow", error) from None


def _arrow_batches(content: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a file in either of Arrow's two formats, at most ``BATCH_ROWS`` rows a
    time.

    ``datasets`` writes the streaming format, which has no signature.
    """
    is_file_format = content.read(len(b"ARROW1")) == b"ARROW1"
    content.seek(0)
    if is_file_format:
        reader = pa.ipc.open_file(content)
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:
        batches = iter(pa.ipc.open_stream(content))

    for batch in batches:
        for begin in range(0, len(batch), BATCH_ROWS):
            yield batch.slice(begin, BATCH_ROWS)


def _unreadable(file: Path, kind: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(f"{file}: not readable as {kind}: {reason}")


def columns_to_read(existing: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the existing columns that are wanted or contain a wanted one.

    Column ``a`` contains ``a.b``.
    """

    def is_wanted(name: str) -> bool:
        return any(each == name or each.startswith(f"{name}.") for each in wanted)

    return [name for name in existing if is_wanted(name)]


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch. Bytes of a text that are not UTF-8 become lone surrogates."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        columns = [_decode(column) for column in batch.columns]
        names = batch.schema.names
        rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return rows


def _decode(column: pa.Array) -> list[Any]:
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not is_text:
        return list(column.to_pylist())
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]


# Text files


@contextmanager
def open_text(file: Path) -> Iterator[io.BufferedReader]:
    """Open a file of text as bytes, decompressed if it is gzip.

    The content decides, not the name.

    Raises:
        ConfigError: the file is no text, or its compressed content is damaged.
    """
    with file.open("rb") as raw, decompress(file, raw) as content:
        if not content.peek(1):
            raise ConfigError(f"{file}: the file is empty")
        yield content


@contextmanager
def decompress(file: Path, raw: Any) -> Iterator[io.BufferedReader]:
    """Return the content of an open file of text, decompressed if it is gzip.

    Args:
        file: its path, for messages.
        raw: the file, open for reading bytes with a buffer.

    Raises:
        ConfigError: the file is no text, or its compressed content is damaged.
    """
    content = raw
    is_gzip = raw.peek(len(GZIP)).startswith(GZIP)
    if is_gzip:
        content = io.BufferedReader(gzip.GzipFile(fileobj=raw))
    try:
        _check_is_text(file, content.peek(SAMPLED_BYTES))
        yield content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _unreadable(file, "gzip", error) from None


def _check_is_text(file: Path, begin: bytes) -> None:
    kind = ""
    markup = begin[:100].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for signature, name in SIGNATURES.items():
        if begin.startswith(signature) or markup.startswith(signature):
            kind = name
    # Text in UTF-16 without a byte order mark has a NUL in every other byte. Most characters of
    # other encodings and of binary data are not UTF-8.
    sample = begin[:SAMPLED_BYTES].decode("utf-8", "replace")
    odd = sum(character in ODD_CHARACTERS for character in sample)
    if not kind and 4 * odd > len(sample):
        kind = "text in another encoding, or no text at all"
    if kind:
        raise ConfigError(
            f"{file}: this is {kind}; legal: text in UTF-8, which may be compressed with gzip"
        )


def _json(file: Path) -> Iterator[Row]:
    with open_text(file) as content:
        yield from json_rows(file, content)


def json_rows(file: Path, content: io.BufferedReader) -> Iterator[Row]:
    """Yield the rows of JSON: one object per line, or one array of objects."""
    begin = content.peek(BUFFER_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    if begin.startswith(b"["):
        yield from _json_array(file, content.read())
    else:
        yield from _json_lines(file, content)


def _json_array(file: Path, content: bytes) -> Iterator[Row]:
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON: {error}") from None
    for number, row in enumerate(rows, 1):
        _check_is_object(file, number, row, legal="an array of objects")
        yield f"{file.name}:{number}", row


def _json_lines(file: Path, lines: io.BufferedReader) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        text = line.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = str(error)
            if text.strip() == "{":
                reason = "one object over several lines; legal: one object per line, or an array"
            raise ConfigError(f"{file}:{number}: not JSON: {reason}") from None
        _check_is_object(file, number, row, legal="one object per line")
        yield f"{file.name}:{number}", row


def _check_is_object(file: Path, number: int, row: Any, *, legal: str) -> None:
    if not isinstance(row, dict):
        kind = type(row).__name__
        raise ConfigError(f"{file}:{number}: not a JSON object but {kind}; legal: {legal}")


def _csv(file: Path, *, is_tsv: bool) -> Iterator[Row]:
    with open_text(file) as content:
        yield from csv_rows(file, content, is_tsv=is_tsv)


def csv_rows(file: Path, content: io.BufferedReader, *, is_tsv: bool) -> Iterator[Row]:
    """Yield the rows of CSV or TSV with a header.

    Blank lines before the header, blanks around its names and columns without a name, as
    spreadsheets leave them, are ignored. A cell that pandas reads as missing, such as ``NaN``, is
    None.
    """
    csv.field_size_limit(2**31 - 1)  # a document may be long
    text = io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")
    # TSV has no quoting: a quotation mark is a character like any other.
    if is_tsv:
        rows = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        rows = csv.reader(text, delimiter=",", strict=True)

    # A row begins on the line after the one where the row before ends.
    line = 0
    columns: list[str] = []
    try:
        for cells in rows:
            place = line + 1
            line = rows.line_num
            if not cells:
                continue
            if not columns:
                columns = [cell.strip() for cell in cells]
                _reject_repeated_columns(file, place, columns)
                continue
            _check_cells(file, place, columns, cells, is_tsv=is_tsv)
            yield f"{file.name}:{place}", _row_of_cells(columns, cells, is_tsv=is_tsv)
    except csv.Error as error:
        raise ConfigError(f"{file}:{line + 1}: not CSV: {error}") from None


def _check_cells(
    file: Path, line: int, columns: Sequence[str], cells: Sequence[str], *, is_tsv: bool
) -> None:
    """Check the number of a row's cells."""
    if len(cells) > len(columns):
        raise ConfigError(f"{file}:{line}: more cells than the {len(columns)} of the header")

    # pandas and spreadsheets put a cell with a line break into quotation marks, also in TSV.
    last = cells[-1]
    if is_tsv and len(cells) < len(columns) and last.startswith('"') and last.count('"') % 2:
        raise ConfigError(
            f"{file}:{line}: a cell begins with a quotation mark and the row ends within it: TSV "
            "has no quoting; legal: a row a line, or CSV, whose cells may have line breaks"
        )


def _row_of_cells(
    columns: Sequence[str], cells: Sequence[str], *, is_tsv: bool
) -> dict[str, str | None]:
    row: dict[str, str | None] = dict.fromkeys(columns)
    for name, cell in zip(columns, cells, strict=False):
        # pandas doubles quotation marks also in TSV, which nothing else does.
        if is_tsv and DOUBLED_QUOTES.fullmatch(cell):
            cell = cell[1:-1].replace('""', '"')
        row[name] = None if cell.strip() in MISSING_CELLS else cell
    row.pop("", None)
    return row


def _reject_repeated_columns(file: Path, line: int, columns: Sequence[str]) -> None:
    repeated = [name for name, number in Counter(columns).items() if name and number > 1]
    if repeated:
        raise ConfigError(
            f"{file}:{line}: the header has {', '.join(repeated)} more than once; "
            "legal: each column name once"
        )
