"""Documents to summarize, read from text or JSONL."""

import json
import sys
from collections.abc import Iterator
from typing import IO, Any

from headcount.data.pairs import clean_text, value_of
from headcount.errors import ConfigError


def read_documents(file: str, columns: list[str]) -> Iterator[tuple[Any, str]]:
    """Read documents to summarize, one at a time.

    Args:
        file: text, a document a line, or JSONL, an object a line; ``-`` is standard input.
        columns: keys of an object that may hold its document, beside ``document`` and ``text``.

    Yields:
        Id and document. The id is None in text, and the number of the line for an object that has
        none.

    Raises:
        ConfigError: the file, or a line of it, cannot be read.
    """
    columns = list(dict.fromkeys([*columns, "document", "text"]))
    try:
        with sys.stdin.buffer if file == "-" else open(file, "rb") as lines:
            yield from _documents(lines, file, columns)
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}; legal: a file, or - for standard input"
        ) from None


def _documents(lines: IO[bytes], file: str, columns: list[str]) -> Iterator[tuple[Any, str]]:
    # The first line decides what the file is.
    is_jsonl = None
    for number, raw in enumerate(lines, 1):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if is_jsonl is None:
            is_jsonl = line.lstrip().startswith("{")
        if not is_jsonl:
            yield None, clean_text(line, "text")
        elif line.strip():
            yield _parse(line, f"{file}:{number}", number, columns)


def _parse(line: str, place: str, number: int, columns: list[str]) -> tuple[Any, str]:
    """Return id and document of a line of JSON."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: not JSON: {error}") from None
    for column in columns:
        document = value_of(row, column) if isinstance(row, dict) else None
        if isinstance(document, str):
            break
    else:
        raise ConfigError(f"{place}: no text under {' or '.join(columns)}")

    identifier = row.get("id", number)
    if isinstance(identifier, str | list | dict):
        try:
            identifier = clean_text(identifier, "id")
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
    return identifier, clean_text(document, column)
