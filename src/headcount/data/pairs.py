"""Pairs of documents and references: rows of a source are converted to a table.

Every row that is dropped or repaired is recorded.
"""

import hashlib
import json
import math
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headcount.data.arrow_table import CHUNK, Column, read_table, write_table
from headcount.data.readers import Row
from headcount.errors import ConfigError

SCHEMA = pa.schema(
    {"id": pa.string(), "document": pa.string(), "references": pa.list_(pa.string())}
)
LONE_SURROGATES = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"  # what stands for bytes that are not UTF-8

Pair = tuple[str, str, list[str]]  # id, document, references


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One split: id, document and references of each example.

    The first reference is the summary that training learns from.
    """

    ids: Sequence[str]
    documents: Sequence[str]
    references: Sequence[list[str]]

    @classmethod
    def open(cls, folder: Path) -> "Pairs":
        """Open the pairs that ``write_pairs`` wrote."""
        return cls.from_table(folder / "pairs.arrow")

    @classmethod
    def from_table(cls, path: Path) -> "Pairs":
        """Open a table of pairs."""
        table = read_table(path)
        return cls(
            ids=Column(table["id"]),
            documents=Column(table["document"]),
            references=Column(table["references"]),
        )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.documents)


# Values of a row


def value_of(row: dict[str, Any], name: str) -> Any:
    """Return the value of a column, None if the row does not have it.

    The name ``a.b`` is column b within column a, unless the row has a column of that name.
    """
    if name in row or "." not in name:
        return row.get(name)
    outer, _, rest = name.partition(".")
    inner = row.get(outer)
    return value_of(inner, rest) if isinstance(inner, dict) else None


def column_names(row: dict[str, Any]) -> list[str]:
    """Return the names of a row's columns, for ``value_of``."""
    names: list[str] = []
    for name, value in row.items():
        if isinstance(value, dict):
            names.extend(f"{name}.{inner}" for inner in column_names(value))
        else:
            names.append(name)
    return names


def clean_text(value: Any, column: str) -> str:
    """Return a value as text, stripped, with lone surrogates replaced: no tokenizer takes them.

    Raises:
        ConfigError: the value is neither text nor number.
    """
    return _replace_surrogates(_to_text(value, column, legal="text, or a number"))[0]


def id_of(row: dict[str, Any]) -> str:
    """Return the id of a row on one line, empty if it has none.

    Line breaks, tabs and other controls would break the files of results.

    Raises:
        ConfigError: the id is neither text nor number.
    """
    identifier = clean_text(row.get("id"), "id")
    return "".join(c if c.isprintable() else " " for c in identifier).strip()


def document_text(value: Any, column: str) -> tuple[str, bool]:
    """Return a document as text, empty if it is missing, and whether it had to be repaired.

    The parts of a list are joined by line breaks.

    Raises:
        ConfigError: the value is neither text nor number nor a list of those.
    """
    if isinstance(value, list):
        value = "\n".join(_to_text(part, column) for part in value)
    return _visible(*_replace_surrogates(_to_text(value, column)))


def _visible(text: str, is_repaired: bool) -> tuple[str, bool]:
    """Return a text of a row, empty if nobody could see it, such as a blank of no width."""
    return text if any(map(_is_visible, text)) else "", is_repaired


def _is_visible(character: str) -> bool:
    return character.isprintable() and not character.isspace()


def _to_text(value: Any, column: str, legal: str = "text, or a list of texts") -> str:
    """Return a value as text; an empty one for a missing value."""
    if isinstance(value, dict | list | bytes):
        raise ConfigError(f"column {column} holds {type(value).__name__}; legal: {legal}")
    # JSON and data frames write missing values as NaN.
    is_missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "" if is_missing else str(value)


def _replace_surrogates(text: str) -> tuple[str, bool]:
    """Return a text, stripped, and whether anything in it had to be replaced."""
    text = text.strip()
    if text.isascii() or not LONE_SURROGATES.search(text):
        return text, False
    return LONE_SURROGATES.sub(REPLACEMENT, text), True


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a source.

    Attributes:
        document: the column of the document; a list is joined by line breaks.
        summary: the column of the summary; a list is several references.
        references: columns of further references, which a row may lack.
    """

    document: str
    summary: str
    references: list[str]

    def names(self) -> list[str]:
        """Return the names of all columns that are read."""
        return ["id", self.document, self.summary, *self.references]

    def pair(self, row: dict[str, Any]) -> tuple[str, list[str], bool]:
        """Return document and references of a row, and whether one of them had to be repaired.

        Both are empty if the row has none.

        Raises:
            ConfigError: a value is neither text nor number nor a list of those.
        """
        document, is_repaired = document_text(value_of(row, self.document), self.document)

        references = []
        for name in (self.summary, *self.references):
            value = value_of(row, name)
            for reference in value if isinstance(value, list) else [value]:
                text, reference_is_repaired = _visible(
                    *_replace_surrogates(_to_text(reference, name))
                )
                is_repaired = is_repaired or reference_is_repaired
                if text:
                    references.append(text)
        return document, references, is_repaired


# The table


DOCUMENT = "document"  # as the column to group by: the document, whatever its column


def write_pairs(
    folder: Path, rows: Iterable[Row], columns: Columns, *, group_by: str | None = None
) -> None:
    """Convert rows to ``pairs.arrow``, and describe them in ``info.json``.

    A row without a document or without a reference is dropped. Results are paired by id, so ids
    are made unique: the second ``a`` becomes ``a#2``. ``info.json`` holds

    - ``rows`` and ``pairs``: their numbers; ``columns``: those that were read;
    - ``dropped``: place and reason of each dropped row;
    - ``mended``: places of rows that were not UTF-8; ``nul``: places of rows that contain a NUL;
    - ``grouped``: number of pairs before they were grouped, if they were;
    - ``repeated_ids``: how many ids had to be changed;
    - ``sha256``: of all texts.

    Args:
        folder: an existing folder.
        rows: the rows with their places.
        columns: which columns hold document and references.
        group_by: column; rows with the same value become one pair with the references of all of
            them, with the id of the first one. ``document``: rows with the same document.

    Raises:
        ConfigError: a row cannot be converted, or its document is not that of its group. The
            message names its place.
    """
    writer = _PairWriter(columns, group_by)
    pairs = writer.convert(rows)
    if group_by is not None:
        pairs = _merge_groups(folder, pairs, writer)
    write_table(folder / "pairs.arrow", SCHEMA, _chunks(writer.record(pairs)))
    if group_by is not None:
        writer.info["grouped"] = len(writer.group_of)
    writer.info["columns"] = {**columns.__dict__, "references": list(writer.reference_columns)}
    writer.info["repeated_ids"] = _number_repeated_ids(folder, writer.id_hashes())
    writer.info["sha256"] = writer.content.hexdigest()
    (folder / "info.json").write_text(json.dumps(writer.info))


class _PairWriter:
    """Converts rows to pairs and collects what ``info.json`` says about them."""

    def __init__(self, columns: Columns, group_by: str | None) -> None:
        self.columns = columns
        self.group_by = group_by
        self.group_of = array("Q")  # the group of each converted pair
        self._groups: dict[bytes, tuple[int, bytes, str]] = {}  # number, document, first place
        self.info: dict[str, Any] = {
            "rows": 0,
            "pairs": 0,
            "columns": columns.__dict__,
            "dropped": {},
            "mended": [],
            "nul": [],
        }
        self.reference_columns: dict[str, None] = {}  # those that any row has, in order
        self.content = hashlib.sha256()
        self._id_hashes = array("Q")  # eight bytes each, however long an id is

    def id_hashes(self) -> NDArray[np.uint64]:
        """Return the hash of each pair's id."""
        return np.frombuffer(self._id_hashes, np.uint64)

    def convert(self, rows: Iterable[Row]) -> Iterator[Pair]:
        """Yield the pairs of rows; a row that is no pair is dropped."""
        info = self.info
        for place, row in rows:
            info["rows"] += 1
            try:
                document, references, is_repaired = self.columns.pair(row)
                identifier = id_of(row)
            except ConfigError as error:
                raise ConfigError(f"{place}: {error}") from None
            for name in self.columns.references:
                if value_of(row, name) is not None:
                    self.reference_columns[name] = None

            if not document or not references:
                info["dropped"][place] = "no summary" if document else "no document"
                continue
            if is_repaired:
                info["mended"].append(place)
            if any("\0" in text for text in (document, *references)):
                info["nul"].append(place)

            # A row without an id has its number, counted from 0.
            identifier = identifier or str(info["rows"] - 1)
            if self.group_by is not None:
                self.group_of.append(self._find_group(place, row, document))
            yield identifier, document, references

    def _find_group(self, place: str, row: dict[str, Any], document: str) -> int:
        """Return the number of a row's group. A row without a value is a group of its own."""
        content = hashlib.blake2b(document.encode(), digest_size=16).digest()
        key = content
        if self.group_by not in (DOCUMENT, self.columns.document):
            value = clean_text(value_of(row, str(self.group_by)), str(self.group_by))
            key = hashlib.blake2b((value or place).encode(), digest_size=16).digest()

        number, first_content, first_place = self._groups.setdefault(
            key, (len(self._groups), content, place)
        )
        if content != first_content:
            raise ConfigError(
                f"{place}: data.group_by={self.group_by}: its document is not that of "
                f"{first_place}; legal: a column with one document for each value, or {DOCUMENT}"
            )
        return number

    def record(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Pass pairs through to the table: count them, and digest ids and texts."""
        for identifier, document, references in pairs:
            self.info["pairs"] += 1
            self._id_hashes.append(_hash_id(identifier))
            self.content.update("\0".join([document, *references, ""]).encode())
            yield identifier, document, references


def _merge_groups(folder: Path, pairs: Iterable[Pair], writer: _PairWriter) -> Iterator[Pair]:
    """Yield one pair for each group, where its first pair is.

    The rows of a group may lie anywhere, so all pairs are written to a temporary table first. Only
    the references of groups of several pairs are in memory.
    """
    path = folder / "ungrouped.arrow"
    write_table(path, SCHEMA, _chunks(iter(pairs)))
    ungrouped = Pairs.from_table(path)
    sizes = np.bincount(np.frombuffer(writer.group_of, np.uint64).astype(np.int64))

    references_of: dict[int, list[str]] = {}
    for group, references in zip(writer.group_of, ungrouped.references, strict=True):
        if sizes[group] > 1:
            references_of.setdefault(group, []).extend(references)

    # Groups are numbered in the order of their first pairs.
    written = 0
    for group, pair in zip(writer.group_of, _iterate(ungrouped), strict=True):
        if group == written:
            identifier, document, references = pair
            yield identifier, document, references_of.get(group, references)
            written += 1
    path.unlink()


def _hash_id(identifier: str) -> int:
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest())


def _number_repeated(ids: Iterable[str], hashes: NDArray[np.uint64]) -> Iterator[str]:
    """Yield ids made unique: the second ``a`` is ``a#2``.

    Equal ids have equal hashes, so only ids whose hashes repeat are kept in memory.

    Args:
        ids: the ids.
        hashes: the hash of each, in the same order.
    """
    values, counts = np.unique(hashes, return_counts=True)
    repeated = set(values[counts > 1].tolist())
    taken = set(values.tolist())
    seen: Counter[str] = Counter()
    for identifier in ids:
        unique = identifier
        if _hash_id(identifier) in repeated:
            seen[identifier] += 1
            if seen[identifier] > 1:
                unique = f"{identifier}#{seen[identifier]}"
                # The data may have an id that looks like a numbered one.
                while _hash_id(unique) in taken:
                    seen[identifier] += 1
                    unique = f"{identifier}#{seen[identifier]}"
        yield unique


def unique_ids(ids: Sequence[str]) -> list[str]:
    """Return ids as ``write_pairs`` makes them unique."""
    hashes = np.array([_hash_id(identifier) for identifier in ids], np.uint64)
    return list(_number_repeated(ids, hashes))


def _number_repeated_ids(folder: Path, hashes: NDArray[np.uint64]) -> int:
    """Number the ids that occur more than once, and return how many were changed.

    The table is read and written again only if hashes repeat.

    Args:
        folder: the folder of ``pairs.arrow``.
        hashes: of the ids, in the order of the table.
    """
    if len(np.unique(hashes)) == len(hashes):
        return 0
    pairs = Pairs.open(folder)
    changed = 0

    def numbered() -> Iterator[Pair]:
        nonlocal changed
        uniques = _number_repeated(pairs.ids, hashes)
        for unique, pair in zip(uniques, _iterate(pairs), strict=True):
            identifier, document, references = pair
            changed += unique != identifier
            yield unique, document, references

    write_table(folder / "numbered.arrow", SCHEMA, _chunks(numbered()))
    os.replace(folder / "numbered.arrow", folder / "pairs.arrow")
    return changed


def write_subset(pairs: Pairs, examples: Iterable[int], folder: Path) -> None:
    """Write some of the pairs, as ``write_pairs`` would.

    Args:
        pairs: those to choose from.
        examples: the numbers of the chosen ones.
        folder: an existing folder.
    """

    def rows() -> Iterator[Row]:
        for example in examples:
            identifier = pairs.ids[example]
            row = {
                "id": identifier,
                "document": pairs.documents[example],
                "references": pairs.references[example],
            }
            yield identifier, row

    columns = Columns(document="document", summary="references", references=[])
    write_pairs(folder, rows(), columns)


def _iterate(pairs: Pairs) -> Iterator[Pair]:
    return zip(pairs.ids, pairs.documents, pairs.references, strict=True)


def _chunks(pairs: Iterator[Pair]) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(pairs, CHUNK)):
        columns = [pa.array(values) for values in zip(*chunk, strict=True)]
        yield pa.record_batch(columns, schema=SCHEMA)
