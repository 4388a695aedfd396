"""Local files: which of them hold a split.

``headcount.data.readers`` reads them.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from headcount.errors import ConfigError

# The kinds of files, in order of preference where a split has several. JSON comes last, because
# metadata often lies beside data as JSON.
SUFFIXES = (
    ".parquet",
    ".arrow",
    ".jsonl",
    ".jsonl.gz",
    ".csv",
    ".csv.gz",
    ".tsv",
    ".tsv.gz",
    ".json",
    ".json.gz",
)

PART = re.compile(r"-(\d{1,6})-of-(\d{1,6})(?=\.)")  # of the name of one of several files

# Files beside data that hold no rows.
METADATA = {
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "metadata.json",
    "state.json",
}


def is_one_split(path: Path) -> bool:
    """Return whether a path holds a single split: a file, or a ``Dataset`` saved to disk."""
    return path.is_file() or _is_saved_dataset(path)


def has_known_suffix(path: Path) -> bool:
    """Return whether a name ends like that of a file that can be read."""
    return path.name.endswith(SUFFIXES)


def find(path: Path, split: str) -> list[Path]:
    """Return the files of a split.

    Args:
        path: a file, a ``Dataset`` or ``DatasetDict`` that ``save_to_disk`` wrote, or a folder
            with SPLIT.parquet, SPLIT-*.parquet, SPLIT/*.parquet or data/SPLIT-*.parquet (a clone
            of a hub repository), likewise for the other suffixes.
        split: the name of the split.

    Raises:
        ConfigError: the split has no files, or the folder cannot be read.
    """
    if path.is_file():
        if not has_known_suffix(path):
            raise ConfigError(
                f"data.path={path}: unknown kind of file; legal: {', '.join(SUFFIXES)}"
            )
        return [path]
    if not path.is_dir():
        raise ConfigError(f"data.path={path}: neither a file nor a folder")

    for folder in (path, path / split):
        if _is_saved_dataset(folder):
            return _files_of_saved_dataset(folder)
    files = _files_of_split(path, split)
    if not files:
        names = sorted(entry.name for entry in _list(path))
        raise ConfigError(
            f"data.path={path}: no {split} ({'|'.join(SUFFIXES)}) in it; there is: "
            f"{', '.join(names) or 'nothing'}"
        )
    return files


def _files_of_split(path: Path, split: str) -> list[Path]:
    """Return the files whose names say that they are of a split, all of one kind.

    Names are compared as text: a split named ``*`` is no pattern.
    """
    name = Path(split).name
    parent = (path / split).parent
    whole = _data_files(parent)
    parts = [file for file in whole if file.name.startswith(f"{name}-")]
    inside = _data_files(path / split)
    clone = [file for file in _data_files(path / "data") if file.name.startswith(f"{name}-")]

    for suffix in SUFFIXES:
        named = [file for file in whole if file.name == f"{name}{suffix}"]
        for candidates in (named, parts, inside, clone):
            files = [file for file in candidates if file.name.endswith(suffix)]
            if files:
                _check_all_parts(files)
                return files
    return []


def _check_all_parts(files: Sequence[Path]) -> None:
    """Check that files named ``NAME-00000-of-00003`` are all there, and of one set.

    An interrupted download would be a part of the data without a word.
    """
    numbered = [match for file in files if (match := PART.search(file.name))]
    totals = {match[2] for match in numbered}
    if not totals:
        return
    if len(totals) > 1:
        raise ConfigError(
            f"data.path: {files[0].parent} has parts of several sets, of "
            f"{' and of '.join(sorted(totals))}; legal: those of one"
        )
    [total] = totals
    numbers = {int(match[1]) for match in numbered}
    missing = sorted(set(range(int(total))) - numbers)
    if missing:
        name = PART.sub(f"-{missing[0]:0{len(total)}}-of-{total}", files[0].name)
        raise ConfigError(
            f"data.path: {files[0].parent / name} is missing, one of {len(missing)} of "
            f"{int(total)} parts; legal: all of them"
        )


def _data_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold rows, sorted by name; none if it is no folder."""
    if not folder.is_dir():
        return []
    files = []
    for file in sorted(_list(folder)):
        is_hidden = file.name.startswith((".", "_"))
        if file.is_file() and not is_hidden and file.name not in METADATA:
            files.append(file)
    return files


def _list(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ConfigError(
            f"data.path={folder}: cannot read the folder: {error.strerror or error}"
        ) from None


def _is_saved_dataset(folder: Path) -> bool:
    """Return whether ``datasets.Dataset.save_to_disk`` wrote a folder."""
    if not folder.is_dir():
        return False
    names = {file.name for file in _list(folder)}
    has_arrow = any(name.endswith(".arrow") for name in names)
    return has_arrow and names >= {"state.json", "dataset_info.json"}


def _files_of_saved_dataset(folder: Path) -> list[Path]:
    """Return the files of a saved ``Dataset``, in the order of its rows.

    The folder may hold other Arrow files: ``datasets`` puts there what it caches of a set that was
    loaded and mapped.
    """
    state = folder / "state.json"
    try:
        names = [part["filename"] for part in json.loads(state.read_bytes())["_data_files"]]
        files = [folder / name for name in names]
        is_complete = bool(files) and all(
            file.parent == folder and file.is_file() for file in files
        )
    except (OSError, ValueError, KeyError, TypeError):
        is_complete = False
    if not is_complete:
        raise ConfigError(
            f"{state}: does not name the files of this data set; legal: a folder as "
            "datasets.Dataset.save_to_disk wrote it"
        )
    return files


def digest(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
