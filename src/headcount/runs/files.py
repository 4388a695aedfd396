"""Files that are written completely or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headcount.errors import RunError


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
