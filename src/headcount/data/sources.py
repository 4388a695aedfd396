"""Where pairs of documents and summaries come from: local files or the hub.

``open_source`` finds a split, ``Source.prepare`` brings its pairs into the cache, and
``load_splits`` does both for every split of a run.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from headcount.config.paths import user_path
from headcount.config.sections.data import DataConfig
from headcount.data import docstrings, files, readers
from headcount.data.cache import cached, remembered_digest
from headcount.data.hub import load_from_hub
from headcount.data.pairs import (
    DOCUMENT,
    Columns,
    Pairs,
    column_names,
    value_of,
    write_pairs,
    write_subset,
)
from headcount.data.readers import Row
from headcount.errors import ConfigError
from headcount.terminal import print_line

# Raise it when the pairs that the code below makes change, so that no stale cache is used.
CACHE_VERSION = 5

SAMPLED_ROWS = 1000  # the columns are chosen by the first rows
BATCH_ROWS = 1000  # rows of a hub data set that are in memory at a time
NAMED_ROWS = 3  # dropped rows that a message names
FROM_PYTHON = "Python"  # what is recorded as the path of data sets that a script passes
# What splits are carved out of, beside ``data.path``, and which examples these are.
SOURCE_KEYS = ("name", "revision", "train_split")
CARVING_KEYS = ("carved_examples", "carving_seed", "group_by")

Datasets = Mapping[str, Any]  # datasets.Dataset by the name of the split


@dataclass(frozen=True, kw_only=True)
class Source:
    """One split where it comes from: local files, or a data set of ``datasets``.

    Attributes:
        config: the ``data`` section.
        split: the name of the split.
        key: what its content is known by: the SHA-256 of each file, or the fingerprint of the data
            set.
        files: the local files.
        dataset: the data set, if there are no local files.
    """

    config: DataConfig
    split: str
    key: list[str]
    files: list[Path]
    dataset: Any = None

    @property
    def sha256(self) -> str:
        """Return one digest of the whole key."""
        return hashlib.sha256("\n".join(self.key).encode()).hexdigest()

    def rows(self, wanted: list[str], part: int = 0, parts: int = 1) -> Iterator[Row]:
        """Yield the rows of one part of the split.

        If the number of files is a multiple of ``parts``, a part has whole files; otherwise it has
        every ``parts``-th row.

        Args:
            wanted: names of columns that the rows must have; an empty list: all columns.
            part: which part, counted from 0.
            parts: into how many the split is divided.
        """
        if self.dataset is not None:
            yield from self._rows_of_dataset(wanted, part, parts)
        elif len(self.files) % parts == 0:
            yield from readers.read(self.files[part::parts], wanted)
        else:
            yield from islice(readers.read(self.files, wanted), part, None, parts)

    def _rows_of_dataset(self, wanted: list[str], part: int, parts: int) -> Iterator[Row]:
        columns = readers.columns_to_read(self.dataset.column_names or [], wanted)
        dataset = self.dataset.select_columns(columns) if columns else self.dataset
        if parts > 1:
            from datasets.distributed import split_dataset_by_node

            dataset = split_dataset_by_node(dataset, rank=part, world_size=parts)
        number = 0
        for batch in dataset.with_format("arrow").iter(BATCH_ROWS):
            for row in readers.rows_of(batch):
                number += 1
                yield f"{self.split}:{number}", row

    def columns(self) -> Columns:
        """Choose the columns by the first rows, of which each may have other keys.

        Columns with further references are not chosen: they may be missing from the first rows.

        Raises:
            ConfigError: the split has no rows, or none of the configured columns.
        """
        first_rows = self._first_rows()
        return Columns(
            document=self._choose("document_columns", first_rows),
            summary=self._choose("summary_columns", first_rows),
            references=list(self.config.reference_columns),
        )

    def _first_rows(self) -> list[dict[str, Any]]:
        first_rows = [row for _, row in islice(self.rows([]), SAMPLED_ROWS)]
        if not first_rows:
            raise ConfigError(f"data.path={self.config.path}: {self.split} has no rows")
        return first_rows

    def _choose(self, key: str, first_rows: list[dict[str, Any]]) -> str:
        """Return the first of the configured columns that any of the rows has."""
        accepted: list[str] = getattr(self.config, key)
        for name in accepted:
            if any(_has_column(row, name) for row in first_rows):
                return name
        raise ConfigError(
            f"data.{key}={accepted}: none of them in {self.split} of {self.config.path}; "
            f"there is: {_existing_columns(first_rows)}"
        )

    def prepare(self, *, grouped: bool = False) -> Path:
        """Return the cached folder of the pairs, which ``write_pairs`` fills.

        Dropped and grouped rows and renamed ids are printed.

        Args:
            grouped: whether ``data.group_by`` applies to this split.

        Raises:
            ConfigError: a column is missing, a line is broken, or no row has both a document and a
                summary.
        """
        # Everything that decides what is in the folder is in its key.
        columns = self.columns()
        wanted = columns.names()
        key: list[Any] = [CACHE_VERSION, self.key, wanted]
        group_by = self.config.group_by if grouped else None
        if group_by is not None:
            key.append({"group_by": group_by})
            if group_by != DOCUMENT:
                self._check_group_by(group_by)
                wanted = [*wanted, group_by]

        folder = cached(
            self.config.cache_dir,
            "pairs",
            key,
            lambda folder: write_pairs(folder, self.rows(wanted), columns, group_by=group_by),
        )
        info = read_info(folder)
        self._print_info(info)
        if not info["pairs"]:
            raise ConfigError(
                f"data.path={self.config.path}: no row of {self.split} has both a document and a "
                "summary"
            )
        return folder

    def _check_group_by(self, group_by: str) -> None:
        first_rows = self._first_rows()
        if not any(_has_column(row, group_by) for row in first_rows):
            raise ConfigError(
                f"data.group_by={group_by}: not in {self.split} of {self.config.path}; legal: "
                f"{DOCUMENT}, or one of {_existing_columns(first_rows)}"
            )

    def _print_info(self, info: dict[str, Any]) -> None:
        name = f"{self.config.path}: {self.split}"
        dropped = list(info["dropped"])
        if dropped:
            places = ", ".join(dropped[:NAMED_ROWS])
            if len(dropped) > NAMED_ROWS:
                places += ", ..."
            print_line(
                f"{name}: dropped {len(dropped)} of {info['rows']} rows: document or summary "
                f"empty or null ({places})"
            )

        # Rows and ids that were changed.
        if info.get("grouped", info["pairs"]) > info["pairs"]:
            print_line(
                f"{name}: {info['grouped']} rows are {info['pairs']} examples with several "
                f"references (data.group_by={self.config.group_by})"
            )
        if info["repeated_ids"]:
            print_line(
                f"{name}: {info['repeated_ids']} of {info['pairs']} ids were taken before; they "
                "are numbered, as in ID#2"
            )


def _has_column(row: dict[str, Any], name: str) -> bool:
    return name in row or value_of(row, name) is not None


def _existing_columns(rows: list[dict[str, Any]]) -> str:
    existing: dict[str, None] = {}
    for row in rows:
        existing.update(dict.fromkeys(column_names(row)))
    return ", ".join(existing)


def read_info(folder: Path) -> dict[str, Any]:
    """Return what ``write_pairs`` recorded about its pairs."""
    info: dict[str, Any] = json.loads((folder / "info.json").read_text())
    return info


def open_source(
    config: DataConfig,
    split: str,
    datasets: Datasets | None = None,
    *,
    remember_digest: bool = False,
) -> Source:
    """Find a split. It is known by its content.

    Args:
        config: the ``data`` section.
        split: the name of the split.
        datasets: data sets of ``datasets`` by split, instead of ``data.path``.
        remember_digest: store the digest of each file and use it until the file changes, for
            files too large to be read each time.

    Raises:
        ConfigError: the split does not exist, or cannot be reached.
    """
    # In memory, or on the hub.
    if datasets is not None:
        return _source_of_dataset(config, split, datasets)
    if config.path == "docstrings":
        path = docstrings.build(config.cache_dir)[0]
    else:
        path = user_path("data.path", config.path)
    if not path.exists():
        dataset, key = load_from_hub(config, split)
        return Source(config=config, split=split, key=key, files=[], dataset=dataset)

    # In files.
    _check_split_name(config, split)
    try:
        found = files.find(path, split)
        if remember_digest:
            key = [remembered_digest(file, config.cache_dir) for file in found]
        else:
            key = [files.digest(file) for file in found]
    except OSError as error:
        raise ConfigError(f"data.path={config.path}: cannot read {split}: {error}") from None
    return Source(config=config, split=split, key=key, files=found)


def _check_split_name(config: DataConfig, split: str) -> None:
    """Reject a name of local files that leads out of the folder of the data."""
    path = Path(split)
    leads_out = path.is_absolute() or ".." in path.parts
    if leads_out or not path.parts or "\0" in split:
        raise ConfigError(
            f"{_keys_of(config, split)}={split}: not the name of a split; legal: a name within "
            "the folder data.path"
        )


def _keys_of(config: DataConfig, split: str) -> str:
    """Return the keys that name a split, for a message."""
    roles = [role for role in ("train", "validation", "test") if _split(config, role) == split]
    return " and ".join(f"data.{role}_split" for role in roles) or "split"


def _source_of_dataset(config: DataConfig, split: str, datasets: Datasets) -> Source:
    if split not in datasets:
        raise ConfigError(
            f"{_keys_of(config, split)}={split}: not among the data sets; legal: "
            f"{', '.join(sorted(datasets))}"
        )
    dataset = datasets[split]
    if not hasattr(dataset, "_fingerprint"):
        raise ConfigError(
            f"{split}: a {type(dataset).__name__} has no fingerprint; legal: a datasets.Dataset"
        )
    return Source(
        config=replace(config, path=FROM_PYTHON),
        split=split,
        key=[dataset._fingerprint],
        files=[],
        dataset=dataset,
    )


def _split(config: DataConfig, role: str) -> str | None:
    split: str | None = getattr(config, f"{role}_split")
    return split


def load_splits(
    config: DataConfig,
    roles: dict[str, str | None],
    datasets: Datasets | None = None,
    *,
    trained: DataConfig | None = None,
) -> tuple[dict[str, Pairs], dict[str, Any]]:
    """Load some splits of the configured data set.

    Args:
        config: the ``data`` section.
        roles: for each role (train, validation, test) the name of its split; None: carved out of
            the training split.
        datasets: data sets of ``datasets`` by split, instead of ``data.path``.
        trained: the ``data`` section that a run was trained with, if the config is that of the run
            with changes. Splits that the run carved are then what they were in its training.

    Returns:
        For each role its pairs; and the origin of the data: source, number of pairs and dropped
        rows, digests.

    Raises:
        ConfigError: the data, a split or a column is missing, no row is usable, or a carved split
            has examples that the run has trained on.
    """
    origin: dict[str, Any] = {
        "path": config.path,
        "name": config.name,
        "revision": config.revision,
    }
    if datasets is not None:
        origin = {"path": FROM_PYTHON}
    elif config.path == "docstrings":
        origin["docstrings"] = docstrings.build(config.cache_dir)[1]
    else:
        _check_number_of_splits(config, roles)

    splits: dict[str, Pairs] = {}
    reference_columns: set[str] = set()
    role_of: dict[str, str] = {}  # by the digest of a split
    for role, split in roles.items():
        # What was read from the source: dropped rows and columns are those of the whole split.
        # A training split keeps a row for each reference, unless a split is carved out of it: no
        # document may be on both sides then.
        part = _find_part(config, role, split, trained)
        if trained is not None:
            _check_held_out(part, trained)
        source = open_source(config, part.split, datasets)
        if split is not None:
            _print_same_split(role, role_of.setdefault(source.sha256, role))
        grouped = role != "train" or bool(carved_roles(config))
        folder = source.prepare(grouped=grouped)
        info = read_info(folder)
        reference_columns.update(info["columns"]["references"])

        # What this role gets of it.
        folder = _carve(part, folder)
        splits[role] = Pairs.open(folder)
        origin[role] = {
            "split": part.description,
            "pairs": len(splits[role]),
            "rows": info["rows"],
            "repeated_ids": info["repeated_ids"],
            "dropped": len(info["dropped"]),
            "dropped_rows": info["dropped"],
            "mended_rows": info["mended"],
            "nul_rows": info["nul"],
            "sha256": read_info(folder)["sha256"],
        }

    missing = [name for name in config.reference_columns if name not in reference_columns]
    if missing:
        raise ConfigError(f"data.reference_columns={missing}: in no split of {config.path}")
    return splits, origin


def _print_same_split(role: str, first_role: str) -> None:
    """Print that two roles have the same rows: the scores mean something else then."""
    if role != first_role:
        print_line(
            f"data.{role}_split has the same rows as data.{first_role}_split: its scores are not "
            "those of new documents"
        )


def _check_number_of_splits(config: DataConfig, roles: dict[str, str | None]) -> None:
    """Reject a source of a single split if several are asked for."""
    others = [f"data.{role}_split" for role, split in roles.items() if split and role != "train"]
    path = user_path("data.path", config.path)
    if "train" in roles and others and files.is_one_split(path):
        kind = "file" if path.is_file() else "split"
        raise ConfigError(
            f"data.path={config.path} is one {kind}, the training split: set "
            f"{' and '.join(others)} to null"
        )


def carved_roles(config: DataConfig) -> list[str]:
    """Return the roles whose splits are carved out of the training split."""
    return [role for role in ("validation", "test") if _split(config, role) is None]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What a role gets of a split.

    Attributes:
        config: by which the split is carved.
        split: its name.
        role: whose examples: train, validation or test; None: all of them.
    """

    config: DataConfig
    split: str
    role: str | None

    @property
    def is_held_out(self) -> bool:
        """Whether it is carved out of the training split."""
        return self.role in carved_roles(self.config)

    @property
    def description(self) -> str:
        if self.is_held_out:
            return f"{self.role}, {self.config.carved_examples} of {self.split}"
        return self.split


def _find_part(
    config: DataConfig, role: str, split: str | None, trained: DataConfig | None
) -> _Part:
    """Return what a role gets of which split.

    A split that a run carved has no name in the source. When a finished run is evaluated,
    ``data.test_split=validation`` is nevertheless the one that it carved, and
    ``data.test_split=train`` what it has learned from, without what was held out.
    """
    carving = config
    if trained is not None and _is_carved_alike(config, trained):
        carving = trained
    carved = carved_roles(carving)

    if split is None:
        carving = carving if role in carved else config
        return _Part(config=carving, split=config.train_split, role=role)
    if carved and (role == "train" or (carving is trained and split == config.train_split)):
        return _Part(config=carving, split=split, role="train")
    if carving is trained and split in carved and not _has_files(config, split):
        return _Part(config=carving, split=config.train_split, role=split)
    return _Part(config=config, split=split, role=None)


def _is_carved_alike(config: DataConfig, trained: DataConfig) -> bool:
    """Return whether a config has the training split that a run carved, and carves it alike."""
    return _has_same_source(config, trained) and _is_equal(CARVING_KEYS, config, trained)


def _has_same_source(config: DataConfig, other: DataConfig) -> bool:
    """Return whether two configs have one training split, whatever the spelling of its path."""
    return _is_equal(SOURCE_KEYS, config, other) and _location(config) == _location(other)


def _location(config: DataConfig) -> Path | str:
    """Return where the data is: an absolute path without links, or a name that is no path."""
    if config.path != "docstrings":
        with suppress(ConfigError):  # of another user or machine: it cannot be read here
            path = user_path("data.path", config.path)
            if path.exists():
                return path.resolve()
    return config.path


def _is_equal(keys: tuple[str, ...], config: DataConfig, other: DataConfig) -> bool:
    return all(getattr(config, key) == getattr(other, key) for key in keys)


@dataclass(frozen=True, kw_only=True)
class CarvingDifference:
    """A key in which two configs carve one training split in different ways.

    Attributes:
        key: its name, such as ``data.carving_seed``.
        here: its value where the carved examples must be new ones.
        there: its value in the training of a model, as text.
    """

    key: str
    here: str
    there: str


def carving_difference(config: DataConfig, trained: DataConfig) -> CarvingDifference | None:
    """Return why a model may have trained on examples that a config holds out, or None.

    The examples of carved splits are in the training split of whoever carves it in another way.
    Other sources are not compared, nor splits that are not carved.

    Args:
        config: the ``data`` section whose carved splits must be new to the model.
        trained: the ``data`` section that the model was trained with.
    """
    if not carved_roles(config) or not _has_same_source(config, trained):
        return None

    # Which roles are carved comes first: without any, the other keys have no effect.
    differing = []
    for role in ("validation", "test"):
        if (role in carved_roles(config)) != (role in carved_roles(trained)):
            differing.append(f"{role}_split")
    differing += [key for key in CARVING_KEYS if not _is_equal((key,), config, trained)]
    if not differing:
        return None
    key = differing[0]
    here = getattr(config, key)
    there = getattr(trained, key)
    return CarvingDifference(
        key=f"data.{key}",
        here="null" if here is None else str(here),
        there="null" if there is None else str(there),
    )


def carving_of(config: DataConfig, role: str, trained: DataConfig) -> DataConfig | None:
    """Return by which config the split of a role is carved; None if it is not a carved one.

    Args:
        config: that of a run, with changes.
        role: validation or test.
        trained: the ``data`` section that the run was trained with.
    """
    part = _find_part(config, role, _split(config, role), trained)
    return part.config if part.is_held_out else None


def _check_held_out(part: _Part, trained: DataConfig) -> None:
    """Reject a carved split of which the evaluated run has trained on some examples."""
    difference = carving_difference(part.config, trained) if part.is_held_out else None
    if difference is not None:
        raise ConfigError(
            f"{difference.key}={difference.here}: the run was trained with "
            f"{difference.key}={difference.there}, and has learned from examples of this "
            f"{part.role} split; legal: {difference.there}"
        )


def _has_files(config: DataConfig, split: str) -> bool:
    """Return whether local files hold a split under its own name."""
    if config.path == "docstrings":
        return True
    path = user_path("data.path", config.path)
    if not path.exists() or files.is_one_split(path):
        return False
    try:
        return bool(files.find(path, split))
    except (ConfigError, OSError):
        return False


def _carve(part: _Part, folder: Path) -> Path:
    """Return the folder of the pairs of a part of a split.

    Splits that are null in the config are carved out of the training split: a permutation by
    ``data.carving_seed`` begins with the examples of the carved splits, and training has the rest.

    Args:
        part: which part.
        folder: of the pairs of the whole split.
    """
    config = part.config
    role = part.role
    carved = carved_roles(config)
    if role is None or not carved:
        return folder

    pairs = Pairs.open(folder)
    size = config.carved_examples
    if len(pairs) <= size * len(carved):
        raise ConfigError(
            f"data.carved_examples={size}: {' and '.join(carved)} would take all the "
            f"{len(pairs)} pairs of {config.train_split}; legal: at most "
            f"{(len(pairs) - 1) // len(carved)}"
        )

    # The examples of this role, in the order of the split.
    order = np.random.default_rng(config.carving_seed).permutation(len(pairs))
    is_carved = role in carved
    begin = size * (carved.index(role) if is_carved else len(carved))
    end = begin + size if is_carved else len(pairs)
    examples = np.sort(order[begin:end]).tolist()

    sha256 = read_info(folder)["sha256"]
    key = [CACHE_VERSION, sha256, begin, size, is_carved, config.carving_seed]
    return cached(
        config.cache_dir, "pairs", key, lambda folder: write_subset(pairs, examples, folder)
    )
