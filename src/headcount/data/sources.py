"""Sources: pairs of documents and summaries, from wherever the config says."""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from headcount.config.paths import user_path
from headcount.config.schema import DataConfig
from headcount.data import docstrings, files
from headcount.data.cache import cached, remembered_digest
from headcount.data.files import Row
from headcount.data.pairs import Columns, Pairs, cell, clean, names, take, write_pairs
from headcount.errors import ConfigError
from headcount.terminal import print_line

__all__ = ["Pairs", "Source", "load_splits", "open_source", "read_documents", "read_info"]

# Raise it when the pairs that the code below makes change, so that no stale cache is used.
FORMAT = 4


SAMPLED_ROWS = 1000  # by which the columns are chosen


@dataclass(frozen=True, kw_only=True)
class Source:
    """One split where it comes from: local files, or a data set of the hub.

    Attributes:
        config: the ``data`` section.
        split: the split's name.
        key: what its content is known by: the files' sha256, or the fingerprint of the hub data
            set.
        files: the local files.
        hub: the hub data set, where there are no local files.
    """

    config: DataConfig
    split: str
    key: list[str]
    files: list[Path]
    hub: Any = None

    @property
    def sha256(self) -> str:
        """Return one name for the key."""
        return hashlib.sha256("\n".join(self.key).encode()).hexdigest()

    def rows(self, wanted: list[str], part: int = 0, parts: int = 1) -> Iterator[Row]:
        """Yield the rows of a part, with the wanted columns at least; all of them where none is
        wanted.

        Whole files go to the parts where their number allows it, else rows in turn.
        """
        if self.files:
            if len(self.files) % parts == 0:
                yield from files.read(self.files[part::parts], wanted)
            else:
                yield from islice(files.read(self.files, wanted), part, None, parts)
            return
        number, chosen = 0, files.heads(self.hub.column_names or [], wanted)
        hub = self.hub.select_columns(chosen) if chosen else self.hub
        if parts > 1:
            from datasets.distributed import split_dataset_by_node

            hub = split_dataset_by_node(hub, rank=part, world_size=parts)
        for batch in hub.with_format("arrow").iter(1000):
            for row in files.rows_of(batch):
                number += 1
                yield f"{self.split}:{number}", row

    def columns(self) -> Columns:
        """Choose the columns, by the first rows: of JSON objects each may have other keys.

        Further references are not chosen here. They may be in any row.

        Raises:
            ConfigError: there is no row, or none of the columns.
        """
        first_rows = [row for _, row in islice(self.rows([]), SAMPLED_ROWS)]
        if not first_rows:
            raise ConfigError(f"data.path={self.config.path}: {self.split} has no rows")
        there: dict[str, None] = {}
        for row in first_rows:
            there.update(dict.fromkeys(names(row)))
        chosen = {}
        for key in ("document_columns", "summary_columns"):
            accepted = getattr(self.config, key)
            found = [name for name in accepted if any(_has(row, name) for row in first_rows)]
            if not found:
                where = f"{self.split} of {self.config.path}"
                raise ConfigError(
                    f"data.{key}={accepted}: none of them in {where}; there is: {', '.join(there)}"
                )
            chosen[key] = found[0]
        return Columns(
            document=chosen["document_columns"],
            summary=chosen["summary_columns"],
            references=list(self.config.reference_columns),
        )

    def prepare(self) -> Path:
        """Return the cached folder of the pairs, made by ``write_pairs``.

        Raises:
            ConfigError: a column is missing, a line is broken, or no row has both a document and a
                summary.
        """
        columns = self.columns()
        wanted = columns.names()
        key = [FORMAT, self.key, wanted]
        folder = cached(
            self.config.cache_dir,
            "pairs",
            key,
            lambda to: write_pairs(to, self.rows(wanted), columns),
        )
        info = read_info(folder)
        if info["dropped"]:
            places = ", ".join(list(info["dropped"])[:3]) + (
                ", ..." if len(info["dropped"]) > 3 else ""
            )
            print_line(
                f"{self.config.path}: {self.split}: dropped {len(info['dropped'])} of "
                f"{info['rows']} rows: document or "
                f"summary empty or null ({places})"
            )
        if info["repeated_ids"]:
            print_line(
                f"{self.config.path}: {self.split}: {info['repeated_ids']} of {info['pairs']} "
                "ids were taken "
                "before; they are numbered, as in ID#2"
            )
        if not info["pairs"]:
            raise ConfigError(
                f"data.path={self.config.path}: no row of {self.split} has both a document and a "
                "summary"
            )
        return folder


def _has(row: dict[str, Any], name: str) -> bool:
    return name in row or cell(row, name) is not None


def read_info(folder: Path) -> dict[str, Any]:
    """Return what ``write_pairs`` noted about its pairs."""
    info: dict[str, Any] = json.loads((folder / "info.json").read_text())
    return info


def load_splits(
    config: DataConfig, roles: dict[str, str | None]
) -> tuple[dict[str, Pairs], dict[str, Any]]:
    """Load some splits of the configured data set.

    Args:
        config: the ``data`` section.
        roles: for each role (train, validation, test) the name of its split; None: carved out of
            the training split.

    Returns:
        For each role its pairs, and the make-up of the data: where it came from, pairs and dropped
        rows.

    Raises:
        ConfigError: the data, a split or a column is missing, or nothing usable is in it.
    """
    origin: dict[str, Any] = {
        "path": config.path,
        "name": config.name,
        "revision": config.revision,
    }
    if config.path == "docstrings":
        origin["docstrings"] = docstrings.build(config.cache_dir)[1]
    named = [f"data.{role}_split" for role, split in roles.items() if split and role != "train"]
    if "train" in roles and named and user_path("data.path", config.path).is_file():
        raise ConfigError(
            f"data.path={config.path} is one file, the training split: set {' and '.join(named)} "
            "to null"
        )
    splits, there = {}, set()
    for role, split in roles.items():
        folder = open_source(config, split or config.train_split).prepare()
        info = read_info(folder)
        there.update(info["columns"]["references"])
        folder = _carve(config, folder, role)
        splits[role] = Pairs.open(folder)
        origin[role] = {
            "split": split or f"{role}, {config.carved_examples} of {config.train_split}",
            "pairs": len(splits[role]),
            "rows": info["rows"],
            "repeated_ids": info["repeated_ids"],
            "dropped": len(info["dropped"]),
            "dropped_rows": info["dropped"],
            "mended_rows": info["mended"],
            "nul_rows": info["nul"],
            "sha256": read_info(folder)["sha256"],
        }
    if missing := [name for name in config.reference_columns if name not in there]:
        raise ConfigError(f"data.reference_columns={missing}: in no split of {config.path}")
    return splits, origin


def _carve(config: DataConfig, folder: Path, role: str) -> Path:
    """Return the folder of the part of a training split that a role has, where splits are carved
    out of it."""
    carved = [
        r
        for r, s in (("validation", config.validation_split), ("test", config.test_split))
        if s is None
    ]
    if not carved or role not in ("train", *carved):
        return folder
    pairs, size = Pairs.open(folder), config.carved_examples
    if len(pairs) <= size * len(carved):
        raise ConfigError(
            f"data.carved_examples={size}: {' and '.join(carved)} would take all the "
            f"{len(pairs)} pairs of "
            f"{config.train_split}; legal: at most {(len(pairs) - 1) // len(carved)}"
        )
    order = np.random.default_rng(config.carving_seed).permutation(len(pairs))
    begin = size * (carved.index(role) if role in carved else len(carved))
    part = np.sort(order[begin : begin + size] if role in carved else order[begin:])
    key = [FORMAT, read_info(folder)["sha256"], begin, size, role in carved, config.carving_seed]
    return cached(config.cache_dir, "pairs", key, lambda to: take(pairs, part.tolist(), to))


def open_source(config: DataConfig, split: str, *, streaming: bool = False) -> Source:
    """Find a split, which is known by its content.

    A streamed file may be large, so its digest is remembered as long as the file is unchanged.

    Raises:
        ConfigError: it is not there, or cannot be reached.
    """
    path = (
        docstrings.build(config.cache_dir)[0]
        if config.path == "docstrings"
        else user_path("data.path", config.path)
    )
    if path.exists():
        found = files.find(path, split)
        try:
            key = (
                [remembered_digest(file, config.cache_dir) for file in found]
                if streaming
                else list(map(files.digest, found))
            )
            return Source(config=config, split=split, key=key, files=found)
        except OSError as error:
            raise ConfigError(f"data.path={config.path}: cannot read {split}: {error}") from None
    if (
        path.is_absolute()
        or config.path.count("/") > 1
        or config.path.startswith(".")
        or path.suffix in files.SUFFIXES
    ):
        raise ConfigError(
            f"data.path={config.path}: no such file or folder; legal: docstrings, one of those, "
            "a hub id"
        )
    import datasets

    datasets.disable_progress_bars()
    cache_dir = str(user_path("data.cache_dir", config.cache_dir) / "datasets")
    try:
        hub = datasets.load_dataset(
            config.path,
            config.name,
            revision=config.revision,
            split=split,
            cache_dir=cache_dir,
            streaming=config.streaming,
        )
        key = (
            [hub._fingerprint]
            if not config.streaming
            else [config.path, config.name or "", split, _commit(config)]
        )
        return Source(config=config, split=split, key=key, files=[], hub=hub)
    except (
        Exception
    ) as error:  # the library raises many kinds, often with the reason only in their cause
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        hint = (
            "; try data.revision=refs/convert/parquet"
            if "scripts are no longer supported" in reason
            else ""
        )
        raise ConfigError(
            f"data.path={config.path}: cannot read {split}: {reason}{hint}"
        ) from None


def _commit(config: DataConfig) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(config.path, revision=config.revision).sha)


def read_documents(file: str, columns: list[str]) -> Iterator[tuple[Any, str]]:
    """Read documents to summarize, one at a time.

    Args:
        file: text, a document a line, or JSONL, an object a line; ``-`` is standard input.
        columns: keys that the document of an object may stand under, beside ``document`` and
            ``text``.

    Yields:
        Id and document; the id is None in text, and the number of the line for an object that has
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
    jsonl = None
    for number, raw in enumerate(lines, 1):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        jsonl = line.lstrip().startswith("{") if jsonl is None else jsonl
        if not jsonl:
            yield None, line
        elif line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{file}:{number}: not JSON: {error}") from None
            column = next(
                (c for c in columns if isinstance(row, dict) and isinstance(cell(row, c), str)),
                None,
            )
            if column is None:
                raise ConfigError(f"{file}:{number}: no text under {' or '.join(columns)}")
            identifier = row.get("id", number)
            if isinstance(identifier, str | list | dict):
                try:
                    identifier = clean(identifier, "id")
                except ConfigError as error:
                    raise ConfigError(f"{file}:{number}: {error}") from None
            yield identifier, clean(cell(row, column), column)
