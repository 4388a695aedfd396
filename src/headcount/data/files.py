"""Local files: which of them are a split, and their rows, one at a time, each with its place."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headcount.errors import ConfigError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
Row = tuple[str, dict[str, Any]]  # its place, file and line or row counted from 1, and its cells


def find(path: Path, split: str) -> list[Path]:
    """Return the files of a split.

    Args:
        path: one file, or a folder with SPLIT.parquet, SPLIT-*.parquet or SPLIT/*.parquet,
            likewise jsonl, csv and tsv.
        split: its name.

    Raises:
        ConfigError: there are none.
    """
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ConfigError(
                f"data.path={path}: unknown kind of file; legal: {', '.join(SUFFIXES)}"
            )
        return [path]
    for suffix in SUFFIXES:
        for pattern in (f"{split}{suffix}", f"{split}-*{suffix}", f"{split}/*{suffix}"):
            if files := sorted(path.glob(pattern)):
                return files
    there = ", ".join(sorted(p.name for p in path.iterdir())) or "nothing"
    raise ConfigError(
        f"data.path={path}: no {split} ({'|'.join(SUFFIXES)}) in it; there is: {there}"
    )


def digest(file: Path) -> str:
    """Return the sha256 of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read(files: Sequence[Path], wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of some files, without ever holding a file in memory.

    A byte that is not UTF-8 comes as a lone surrogate, which the caller has to mend.

    Args:
        files: of any of the kinds.
        wanted: columns to read where a file's kind allows a choice; if none of them is there, all
            are read.

    Raises:
        ConfigError: a file is empty, or a line of it is broken; it names both.
    """
    for file in files:
        if not file.stat().st_size:
            raise ConfigError(f"{file}: the file is empty")
        if file.suffix == ".parquet":
            yield from _parquet(file, wanted)
        elif file.suffix in (".csv", ".tsv"):
            yield from _csv(file, "\t" if file.suffix == ".tsv" else ",")
        else:
            yield from _json_lines(file)


def _parquet(file: Path, wanted: Sequence[str]) -> Iterator[Row]:
    try:
        with pq.ParquetFile(
            file, buffer_size=1 << 20, pre_buffer=False
        ) as content:  # memory stays flat
            number, chosen = 0, heads(content.schema_arrow.names, wanted)
            for batch in content.iter_batches(1000, columns=chosen or None):
                for row in rows_of(batch):
                    number += 1
                    yield f"{file.name}:{number}", row
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        OverflowError,
    ) as error:  # a date may be beyond Python's
        raise ConfigError(
            f"{file}: not readable as Parquet: {' '.join(str(error).split())}"
        ) from None


def heads(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return those columns that are wanted, or hold one that is: ``a`` for ``a.b``."""
    return [name for name in there if any(w == name or w.startswith(f"{name}.") for w in wanted)]


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch; where a text is not UTF-8, its bytes come as lone surrogates."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        columns = [_cells(column) for column in batch.columns]
        rows = [
            dict(zip(batch.schema.names, cells, strict=True))
            for cells in zip(*columns, strict=True)
        ]
    return rows


def _cells(column: pa.Array) -> list[Any]:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return list(column.to_pylist())
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in raw]


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8", "surrogateescape").removeprefix("\ufeff"))
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{file}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ConfigError(
                    f"{file}:{number}: not a JSON object but {type(row).__name__}; legal: an "
                    "object a line"
                )
            yield f"{file.name}:{number}", row


def _reject_repeated_columns(file: Path, columns: Sequence[str]) -> None:
    repeated = [name for name, number in Counter(columns).items() if number > 1]
    if repeated:
        raise ConfigError(
            f"{file}:1: the header has {', '.join(repeated)} more than once; "
            "legal: each column name once"
        )


def _csv(file: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # a document may be long
    with file.open("rb") as content:
        text = io.TextIOWrapper(
            content, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        # TSV has no quoting: a quotation mark is a character like any other.
        if delimiter == "\t":
            rows = csv.DictReader(text, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
        else:
            rows = csv.DictReader(text, delimiter=delimiter, strict=True)
        line = 0
        try:
            line = rows.line_num if rows.fieldnames else 0
            _reject_repeated_columns(file, rows.fieldnames or [])
            for row in rows:
                if None in row:
                    raise ConfigError(
                        f"{file}:{line + 1}: more cells than the {len(rows.fieldnames or [])} of "
                        "the header"
                    )
                yield f"{file.name}:{line + 1}", row
                line = rows.line_num
        except csv.Error as error:
            raise ConfigError(f"{file}:{line + 1}: not CSV: {error}") from None
