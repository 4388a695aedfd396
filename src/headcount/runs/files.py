"""Files that are written completely or not at all, and errors of files in one line."""

import csv
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir

import yaml

from headcount.errors import ConfigError, RunError
from headcount.terminal import print_line

MIN_ROOM = 2**20  # bytes; a place with less is full

# What parsing raises when the content of a file is not what a command has written.
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
def name_damage(path: Path, writer: str) -> Iterator[None]:
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
            f"{path}: damaged ({type(error).__name__}: {reason}); legal: as {writer} has written "
            "it"
        ) from None


@contextmanager
def name_unwritable(path: Path) -> Iterator[None]:
    """Turn an error such as a full disk into a RunError that names the path."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_atomically(path: Path, text: str | Iterator[str]) -> None:
    """Write a text file completely or not at all, and flush it to disk.

    Args:
        path: the file; what it held before is replaced.
        text: the content, or pieces of it.

    Raises:
        RunError: the file cannot be written. Its earlier content is unchanged.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with name_unwritable(path):
            with scratch.open("w", encoding="utf-8") as file:
                file.writelines([text] if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
    finally:
        with suppress(OSError):
            scratch.unlink()


def put_aside(path: Path, reason: str) -> None:
    """Rename a damaged file to ``NAME.damaged``, and say so.

    Args:
        path: the file; the run continues without it.
        reason: what is wrong with it.

    Raises:
        RunError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged")
    with name_unwritable(aside):
        os.replace(path, aside)
    print_line(f"{path}: {reason}; it is put aside as {aside.name}")


def describe_os_error(error: OSError, folder: Path) -> str | None:
    """Return one line on an error of a run that its environment caused; None for any other.

    Args:
        error: what a run ended with.
        folder: the run folder.
    """
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # The error of a semaphore or of a shared array does not name its place.
        place = error.filename or _full_place(folder)
        return f"{place}: {reason}; the same command resumes when there is room"
    if error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(folder):
        return f"{os.fsdecode(error.filename)}: {reason}"
    return None


def _full_place(folder: Path) -> Path:
    """Return the place that has no room: shared memory, the temporary folder, or a run folder."""
    for place in (Path("/dev/shm"), Path(gettempdir())):
        if place.is_dir() and shutil.disk_usage(place).free < MIN_ROOM:
            return place
    return folder
