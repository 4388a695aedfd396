"""Pairs of documents and references.

Out of rows as they come, into a table, nothing lost unsaid.
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
from headcount.data.files import Row
from headcount.errors import ConfigError

SCHEMA = pa.schema(
    {"id": pa.string(), "document": pa.string(), "references": pa.list_(pa.string())}
)
LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One split.

    For each example its id, document and references; a summary to learn from is the first
    reference.
    """

    ids: Sequence[str]
    documents: Sequence[str]
    references: Sequence[list[str]]

    @classmethod
    def open(cls, folder: Path) -> "Pairs":
        """Open the pairs that ``write_pairs`` wrote."""
        table = read_table(folder / "pairs.arrow")
        ids, documents, references = (Column(table[name]) for name in SCHEMA.names)
        return cls(ids=ids, documents=documents, references=references)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.documents)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a source.

    One document, one summary, which may be a list, and further references.
    """

    document: str
    summary: str
    references: list[str]

    def names(self) -> list[str]:
        """Return the names of all columns that are read."""
        return ["id", self.document, self.summary, *self.references]

    def pair(self, row: dict[str, Any]) -> tuple[str, list[str], bool]:
        """Return the document and the references of a row, empty where there are none, and whether
        one was mended.

        Raises:
            ConfigError: a cell is neither text, number nor list of those.
        """
        document = cell(row, self.document)
        joined = (
            "\n".join(_plain(part, self.document) for part in document)
            if isinstance(document, list)
            else document
        )
        mended, text = _mend(_plain(joined, self.document))
        references = []
        for name in (self.summary, *self.references):
            found = cell(row, name)
            for reference in found if isinstance(found, list) else [found]:
                broken, clean = _mend(_plain(reference, name))
                mended |= broken
                references += [clean] if clean else []
        return text, references, mended


def cell(row: dict[str, Any], name: str) -> Any:
    """Return a cell by the name of its column, ``a.b`` being b within a.

    None where there is none.
    """
    if name in row or "." not in name:
        return row.get(name)
    head, _, rest = name.partition(".")
    inner = row.get(head)
    return cell(inner, rest) if isinstance(inner, dict) else None


def names(row: dict[str, Any]) -> list[str]:
    """Return the names by which ``cell`` finds something in a row."""
    return [
        full
        for name, value in row.items()
        for full in (
            [f"{name}.{inner}" for inner in names(value)] if isinstance(value, dict) else [name]
        )
    ]


def clean(value: Any, column: str) -> str:
    """Return the text of a cell without blanks around it and without lone surrogates, which no
    tokenizer takes.

    Raises:
        ConfigError: the cell is neither text nor number.
    """
    return _mend(_plain(value, column))[1]


def _plain(value: Any, column: str) -> str:
    if isinstance(value, dict | list | bytes):
        raise ConfigError(
            f"column {column} holds {type(value).__name__}; legal: text, or a list of texts"
        )
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""  # JSON and data frames write missing values as NaN
    return str(value)


def _mend(text: str) -> tuple[bool, str]:
    text = text.strip()
    if text.isascii() or not LONE_SURROGATES.search(text):
        return False, text
    return True, LONE_SURROGATES.sub("\ufffd", text)


def write_pairs(folder: Path, rows: Iterable[Row], columns: Columns) -> None:
    """Write ``pairs.arrow``, and ``info.json`` about it.

    The latter holds the number of rows and pairs, the sha256 of their texts, by place every row
    that was dropped because its document or summary is empty, that was mended because it is not
    UTF-8, or that holds a NUL, and how many ids were taken before. Results are paired by id, so
    ids are unique: a second ``a`` becomes ``a#2``.
    """
    info: dict[str, Any] = {
        "rows": 0,
        "pairs": 0,
        "columns": columns.__dict__,
        "dropped": {},
        "mended": [],
        "nul": [],
    }
    seen_references: dict[str, None] = {}
    hashes = array("Q")  # of the ids: eight bytes each, however long they are
    content = hashlib.sha256()

    def kept() -> Iterator[tuple[str, str, list[str]]]:
        for place, row in rows:
            info["rows"] += 1
            try:
                document, references, mended = columns.pair(row)
                identifier = _one_line(clean(row.get("id"), "id")) or str(info["rows"] - 1)
            except ConfigError as error:
                raise ConfigError(f"{place}: {error}") from None
            seen_references.update(
                dict.fromkeys(name for name in columns.references if cell(row, name) is not None)
            )
            if not (document and references):
                info["dropped"][place] = "no summary" if document else "no document"
                continue
            info["mended"] += [place] if mended else []
            info["nul"] += (
                [place] if "\0" in document or any("\0" in r for r in references) else []
            )
            info["pairs"] += 1
            hashes.append(_short_hash(identifier))
            content.update("\0".join([document, *references, ""]).encode())
            yield identifier, document, references

    write_table(folder / "pairs.arrow", SCHEMA, _chunks(kept()))
    info["columns"] = {**columns.__dict__, "references": list(seen_references)}
    info["repeated_ids"] = _number_repeated_ids(folder, np.frombuffer(hashes, np.uint64))
    (folder / "info.json").write_text(json.dumps({**info, "sha256": content.hexdigest()}))


def _one_line(identifier: str) -> str:
    """Return an id without line breaks, tabs and other controls, which would break the files of
    results."""
    return "".join(c if c.isprintable() else " " for c in identifier).strip()


def _short_hash(identifier: str) -> int:
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest())


def _number_repeated_ids(folder: Path, hashes: NDArray[np.uint64]) -> int:
    """Number the ids that occur more than once, and return how many were changed.

    Equal ids have equal hashes. Only where hashes repeat is the table read again and written anew.
    """
    values, counts = np.unique(hashes, return_counts=True)
    repeated = set(values[counts > 1].tolist())
    if not repeated:
        return 0

    seen: Counter[str] = Counter()
    taken = set(values.tolist())
    changed = 0

    def numbered() -> Iterator[tuple[str, str, list[str]]]:
        nonlocal changed
        pairs = Pairs.open(folder)
        for identifier, document, references in zip(
            pairs.ids, pairs.documents, pairs.references, strict=True
        ):
            unique = identifier
            if _short_hash(identifier) in repeated:
                seen[identifier] += 1
                if seen[identifier] > 1:
                    unique = f"{identifier}#{seen[identifier]}"
                    while _short_hash(unique) in taken:  # the data may have an id like that, too
                        seen[identifier] += 1
                        unique = f"{identifier}#{seen[identifier]}"
                    changed += 1
            yield unique, document, references

    write_table(folder / "numbered.arrow", SCHEMA, _chunks(numbered()))
    os.replace(folder / "numbered.arrow", folder / "pairs.arrow")
    return changed


def take(pairs: Pairs, examples: Iterable[int], folder: Path) -> None:
    """Write some of the pairs as ``write_pairs`` would."""
    rows = (
        (
            pairs.ids[i],
            {
                "id": pairs.ids[i],
                "document": pairs.documents[i],
                "references": pairs.references[i],
            },
        )
        for i in examples
    )
    write_pairs(folder, rows, Columns(document="document", summary="references", references=[]))


def _chunks(pairs: Iterator[tuple[str, str, list[str]]]) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(pairs, CHUNK)):
        yield pa.record_batch(
            [pa.array(cells) for cells in zip(*chunk, strict=True)], schema=SCHEMA
        )
