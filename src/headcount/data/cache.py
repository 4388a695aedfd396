"""The cache of prepared data. An entry that is missing or damaged is built again."""

import hashlib
import json
import os
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from headcount.config.paths import user_path
from headcount.data.files import digest
from headcount.errors import ConfigError
from headcount.terminal import print_line

DIGESTS = "sha256.json"  # file of an entry: the SHA-256 of each of its other files
VERSION = 2  # increase it when entries of earlier versions must not be used

# Files whose content this process has compared with its digest: their states and digests.
_verified: set[tuple[tuple[str | int, ...], str]] = set()


def cached(cache_dir: str, kind: str, key: Any, build: Callable[[Path], None]) -> Path:
    """Return a cached folder; build it first where it is missing or damaged.

    - An entry is built in a scratch folder, flushed to disk and then renamed, so that a killed
      process leaves no incomplete entry.
    - Of several processes one builds; the others wait.
    - Opening an entry compares its files with their digests.
    - A complete entry is only read, so that a cache may be shared without being writable.

    Args:
        cache_dir: ``data.cache_dir`` of a config.
        kind: kind of the entry, the first word of the folder's name.
        key: everything that the content depends on; it can be written as JSON.
        build: writes the content into an empty folder.

    Raises:
        ConfigError: the cache cannot be written.
    """
    name = hashlib.sha256(json.dumps([VERSION, key], sort_keys=True).encode()).hexdigest()[:16]
    folder = user_path("data.cache_dir", cache_dir) / f"{kind}-{name}"
    try:
        if folder.is_dir() and _find_damage(folder) is None:
            return folder

        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            # Another process may have built or repaired the entry while this one waited.
            damage = _find_damage(folder) if folder.is_dir() else None
            if folder.is_dir() and damage is None:
                return folder
            if damage is not None:
                print_line(f"{folder}: {damage}; it is built again")
            _build(folder, build)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"data.cache_dir={cache_dir}: cannot write {folder.name}: {reason}"
        ) from None
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    build(partial)

    # Everything is on the disk before the folder is renamed: a crash leaves no empty file in an
    # entry.
    digests = {path.name: digest(path) for path in sorted(partial.iterdir())}
    (partial / DIGESTS).write_text(json.dumps(digests, indent=2), encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        _flush(path)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _find_damage(folder: Path) -> str | None:
    """Return what is wrong with an entry; None if it is complete and unchanged.

    A process reads each file once, unless its state changes.
    """
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        for name, expected in digests.items():
            path = folder / name
            verified = _state(path), expected
            if verified in _verified:
                continue
            if digest(path) != expected:
                return f"{name} is not what was written"
            _verified.add(verified)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"not readable ({type(error).__name__})"
    return None


def _state(path: Path) -> tuple[str | int, ...]:
    """Return what changes whenever the content of a file does.

    A program may restore the modification time of a file, but not the time at which its inode
    changed (``ctime``).
    """
    status = path.stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def remembered_digest(file: Path, cache_dir: str) -> str:
    """Return the SHA-256 of a large file, which is read again only if its state has changed.

    The digests are stored in the cache. If the cache cannot be written, the file is read each
    time.
    """
    state = json.dumps(_state(file.resolve()))
    name = hashlib.sha256(state.encode()).hexdigest()[:16]
    note = user_path("data.cache_dir", cache_dir) / "digests" / name
    try:
        known = note.read_text(encoding="ascii")
        if len(known) == 64 and set(known) <= set(string.hexdigits):
            return known
    except (OSError, ValueError):
        pass

    found = digest(file)
    scratch = note.with_name(f".{name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(found, encoding="ascii")
        os.replace(scratch, note)
    except OSError:
        pass
    return found
