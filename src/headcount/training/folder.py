"""Folders of results: none is written into twice, and a file is whole or not there."""

import os
from contextlib import suppress
from itertools import count
from pathlib import Path

from headcount.config import ConfigError


def new_folder(parent: Path, name: str) -> Path:
    """Make the first of NAME-1, NAME-2, ... that is not there: a folder of results is never written into twice."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = parent / f"{name}-{number}"
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise ConfigError(f"{parent}/{name}: cannot make a run folder: {error.strerror}") from None
    raise AssertionError


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
