"""Files that are written completely or not at all, and one-line messages for errors of files."""

import csv
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any, BinaryIO, TypeVar

import yaml

from headcount.errors import ConfigError, RunError
from headcount.terminal import print_line

Kind = TypeVar("Kind", dict[str, Any], list[Any])

MIN_FREE_BYTES = 2**20  # a file system with less is regarded as full

# The errors of a parser on a file whose content is not what a command has written.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    csv.Error,
    yaml.YAMLError,
)


@contextmanager
def damage_as_config_error(path: Path, writer: str) -> Iterator[None]:
    """Turn an error about the content of a file into a ConfigError that names the file.

    Args:
        path: the file that is read.
        writer: the command that writes such a file.
    """
    try:
        yield
    except FileNotFoundError as error:
        missing = Path(error.filename)
        raise ConfigError(
            f"{missing.parent}: no {missing.name} in it; legal: a folder that {writer} has written"
        ) from None
    except DAMAGE as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"{current_path(path)}: damaged ({type(error).__name__}: {reason}); legal: as "
            f"{writer} has written it"
        ) from None


@contextmanager
def unwritable_as_run_error(path: Path) -> Iterator[None]:
    """Turn an error such as a full disk into a RunError that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"{current_path(path)}: cannot be written: {reason}") from error


def current_path(path: Path) -> Path:
    """Return a path as a user would write it now.

    A path through the descriptor of an open folder (``stable_path``) is valid also after the
    folder was renamed, but means nothing to the reader of a message.
    """
    # /proc/self/fd/N/...
    root, *parts = path.parts
    if root == "/" and parts[:3] == ["proc", "self", "fd"] and len(parts) > 3:
        with suppress(OSError):
            return Path(os.readlink(Path(*path.parts[:5])), *path.parts[5:])
    return path


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a scratch file for bytes. At the end of the block it is flushed to disk and replaces a
    path; after an error it is deleted.

    Raises:
        RunError: the file cannot be written. Its earlier content is unchanged.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unwritable_as_run_error(path):
            with scratch.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
    finally:
        with suppress(OSError):
            scratch.unlink()


def write_atomically(path: Path, text: str | Iterator[str]) -> None:
    """Write a text file completely or not at all, and flush it to disk.

    Args:
        path: the file, which is replaced if it exists.
        text: the content, or an iterator over its parts.

    Raises:
        RunError: the file cannot be written. Its earlier content is unchanged.
    """
    pieces = [text] if isinstance(text, str) else text
    with replacing(path) as file:
        for piece in pieces:
            file.write(piece.encode("utf-8"))


def reject_used_folder(folder: Path) -> None:
    """Reject an output folder that exists and is not empty.

    Raises:
        ConfigError: it is such a folder, or a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder}: exists, and is not an empty folder; legal: a new or empty one"
        )


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files completely or not at all, readable for all users.

    A new folder is renamed into place. An existing empty one is filled, not replaced: it may be
    the current folder of the user's shell.

    Args:
        folder: a new or empty folder.
        files: contents of the files by their paths within the folder.

    Raises:
        ConfigError: the folder is neither new nor empty, or cannot be written.
        RunError: the disk is full.
    """
    reject_used_folder(folder)
    try:
        _write_folder(folder.resolve(), files)
    except OSError as error:
        message = f"{folder}: cannot be written: {error.strerror}"
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (RunError if is_full else ConfigError)(message) from None


def _write_folder(to: Path, files: Mapping[str, bytes]) -> None:
    is_new = not to.exists()
    scratch = to.with_name(f".{to.name}.{os.getpid()}") if is_new else to / f".{os.getpid()}"
    moved = []
    try:
        # Write everything to a scratch folder on the same disk, so that it can be renamed.
        scratch.mkdir(parents=True)
        for name, content in files.items():
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            path.chmod(0o644)

        # Move it into place.
        if is_new:
            os.replace(scratch, to)
            return
        for name in dict.fromkeys(Path(name).parts[0] for name in files):
            os.replace(scratch / name, to / name)
            moved.append(to / name)

    # Also after Ctrl-C the user's folder is as it was before.
    except BaseException:
        for path in moved:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put_aside(path: Path, reason: str) -> None:
    """Rename a damaged file to ``NAME.damaged``, and print why. The run continues without it.

    Args:
        path: the file.
        reason: what is wrong with it.

    Raises:
        RunError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged")
    with unwritable_as_run_error(aside):
        os.replace(path, aside)
    print_line(f"{path}: {reason}; it is put aside as {aside.name}")


def read_json_or_put_aside(path: Path, kind: type[Kind]) -> Kind | None:
    """Return the content of a JSON file; None if there is none, or it was damaged and is now put
    aside.

    Args:
        path: the file.
        kind: what the content is: a dictionary or a list.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, kind):
            raise ValueError(f"not a {kind.__name__}")
    except (OSError, ValueError) as error:
        put_aside(path, f"damaged ({type(error).__name__}: {error})")
        return None
    return content


def describe_os_error(error: OSError, folder: Path) -> str | None:
    """Return a one-line message for an error that the environment caused; None for other errors.

    Args:
        error: the error that ended a run.
        folder: the run folder.
    """
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # The error of a semaphore or of a shared array has no path.
        place = error.filename or _full_folder(folder)
        return f"{place}: {reason}; the same command resumes when there is room"
    if error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(folder):
        return f"{os.fsdecode(error.filename)}: {reason}"
    return None


def _full_folder(folder: Path) -> Path:
    """Return the folder whose disk is full: shared memory, the temporary or the run folder."""
    for candidate in (Path("/dev/shm"), Path(gettempdir())):
        if candidate.is_dir() and shutil.disk_usage(candidate).free < MIN_FREE_BYTES:
            return candidate
    return folder
