"""Pairs of documents and summaries, from wherever the config says."""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from headcount.config import ConfigError, DataConfig
from headcount.data import docstrings

SUFFIXES = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One split: for each example its id, document and references; a summary to learn from is the first reference."""

    ids: list[str]
    documents: list[str]
    references: list[list[str]]

    def sha256(self) -> str:
        """Return a fingerprint of the texts."""
        return hashlib.sha256(json.dumps([self.documents, self.references]).encode()).hexdigest()


def load_splits(config: DataConfig, names: dict[str, str]) -> tuple[dict[str, Pairs], dict[str, Any]]:
    """Load some splits of the configured data set.

    Args:
        config: the ``data`` section.
        names: for each role (train, validation, test) the name of its split.

    Returns:
        For each role its pairs, and the make-up of the data: where it came from, pairs and dropped rows.

    Raises:
        ConfigError: the data, a split or a column is missing, or nothing usable is in it.
    """
    origin: dict[str, Any] = {"path": config.path, "name": config.name, "revision": config.revision}
    if config.path == "docstrings":
        folder, origin["docstrings"] = docstrings.build(Path(config.cache_dir).expanduser())
        config = replace(config, path=str(folder))
    splits = {}
    for role, name in names.items():
        table = _read(config, name)
        splits[role], dropped = _pairs(table, config, name)
        origin[role] = {
            "split": name,
            "pairs": len(splits[role].ids),
            "dropped": dropped,
            "sha256": splits[role].sha256(),
        }
        if dropped:
            print(f"{config.path}: {name}: dropped {dropped} of {len(table)} rows: document or summary empty or null")
        if not splits[role].ids:
            raise ConfigError(f"data.path={config.path}: no row of {name} has both a document and a summary")
    return splits, origin


def _read(config: DataConfig, split: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    path = Path(config.path).expanduser()
    cache_dir = str(Path(config.cache_dir).expanduser() / "datasets")
    try:
        if path.is_dir():
            file = _find(path, split)
            return datasets.load_dataset(
                SUFFIXES[file.suffix],
                data_files={split: str(file)},
                split=split,
                cache_dir=cache_dir,
                **({"sep": "\t"} if file.suffix == ".tsv" else {}),
            )
        if path.is_file() or path.is_absolute() or config.path.count("/") > 1 or config.path.startswith("."):
            raise ConfigError(f"data.path={config.path}: no such folder; legal: docstrings, a folder, or a hub id")
        return datasets.load_dataset(
            config.path, config.name, revision=config.revision, split=split, cache_dir=cache_dir
        )
    except ConfigError:
        raise
    except Exception as error:  # the library raises many kinds, often with the reason only in their cause
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise ConfigError(f"data.path={config.path}: cannot read {split}: {reason}") from None


def _find(folder: Path, split: str) -> Path:
    for suffix in SUFFIXES:
        if (folder / f"{split}{suffix}").is_file():
            return folder / f"{split}{suffix}"
    there = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
    raise ConfigError(f"data.path={folder}: no {split} ({'|'.join(SUFFIXES)}) in it; there is: {there}")


def _pairs(table: Any, config: DataConfig, split: str) -> tuple[Pairs, int]:
    columns = {}
    for key, accepted in (("document_columns", config.document_columns), ("summary_columns", config.summary_columns)):
        columns[key] = next((c for c in accepted if c in table.column_names), None)
        if columns[key] is None:
            there = ", ".join(table.column_names)
            raise ConfigError(f"data.{key}={accepted}: none of them in {split} of {config.path}; there is: {there}")
    ids = table["id"] if "id" in table.column_names else range(len(table))
    rows = []
    for identifier, document, summary in zip(
        ids, table[columns["document_columns"]], table[columns["summary_columns"]], strict=True
    ):
        document = _text("\n".join(map(str, document)) if isinstance(document, list) else document)
        references = [_text(r) for r in (summary if isinstance(summary, list) else [summary])]
        references = [r for r in references if r]
        if document and references:
            rows.append((str(identifier), document, references))
    pairs = Pairs(ids=[r[0] for r in rows], documents=[r[1] for r in rows], references=[r[2] for r in rows])
    return pairs, len(table) - len(rows)


def _text(value: Any) -> str:
    """Return the text of a cell, without blanks around it and without lone surrogates, which no tokenizer takes."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode().strip()


def read_documents(file: str, columns: list[str]) -> Iterator[tuple[Any, str]]:
    """Read documents to summarize, one at a time.

    Args:
        file: text, a document a line, or JSONL, an object a line; ``-`` is standard input.
        columns: keys that the document of an object may stand under, beside ``document`` and ``text``.

    Yields:
        Id and document; the id is None in text, and the number of the line for an object that has none.

    Raises:
        ConfigError: the file, or a line of it, cannot be read.
    """
    columns = list(dict.fromkeys([*columns, "document", "text"]))
    try:
        with sys.stdin.buffer if file == "-" else open(file, "rb") as lines:
            yield from _documents(lines, file, columns)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; legal: a file, or - for standard input") from None


def _documents(lines: IO[bytes], file: str, columns: list[str]) -> Iterator[tuple[Any, str]]:
    jsonl = None
    for number, raw in enumerate(lines, 1):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        jsonl = line.lstrip().startswith("{") if jsonl is None else jsonl
        if not jsonl:
            yield None, line
        elif line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{file}:{number}: not JSON: {error}") from None
            column = next((c for c in columns if isinstance(row, dict) and isinstance(row.get(c), str)), None)
            if column is None:
                raise ConfigError(f"{file}:{number}: no text under {' or '.join(columns)}")
            yield row.get("id", number), _text(row[column])
