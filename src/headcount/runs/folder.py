"""Folders of results.

One run each, held by one process at a time; what is written whole is whole or not there.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml
from filelock import FileLock, Timeout

from headcount.config.load import as_dict, changed, flatten
from headcount.errors import ConfigError, RunError
from headcount.config.schema import Config
from headcount.config.paths import user_path

FINISHED = "finished"  # the file that is written last
LOCK = ".lock"
# keys that cannot change what comes out
NO_MATTER = ("run.", "tracking.", "data.cache_dir", "data.num_workers")


def has_effect(key: str, config: Config) -> bool:
    """Return whether a key of a resolved config can change the results.

    Workers of a stream each read a part of it, so that their number decides the order; otherwise
    it has no effect.
    """
    if key == "data.num_workers":
        return config.data.streaming
    return not key.startswith(NO_MATTER)


def new_folder(parent: Path, name: str) -> Path:
    """Make the first of NAME-1, NAME-2, ...

    That is not there: a folder of results is never written into twice.
    """
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


def find_run(config: Config) -> Path | None:
    """Find the folder of the run that a config belongs to, if it was begun.

    Args:
        config: its ``run`` section says where: ``folder``, or else the newest folder of its name
            with the same config.

    Raises:
        ConfigError: ``run.folder`` has something else in it; the keys that differ.
    """
    run = config.run
    if run.folder is None:
        numbered = re.compile(rf"{re.escape(run.name or 'run')}-(\d+)")
        found = [
            (numbered.fullmatch(folder.name), folder) for folder in user_path("run.directory", run.directory).glob("*")
        ]
        for _, folder in sorted(((int(match[1]), folder) for match, folder in found if match), reverse=True):
            if (folder / "config.yaml").is_file() and not differences(folder, config):
                return folder
        return None
    folder = user_path("run.folder", run.folder)
    if (folder / "config.yaml").is_file():
        if others := differences(folder, config):
            raise ConfigError(
                f"run.folder={folder}: the run in it was begun with {', '.join(others)}; "
                "legal: the same config, another folder, or --fresh"
            )
        return folder
    _refuse_strange(folder)
    return None


def _refuse_strange(folder: Path) -> None:
    if not folder.is_dir() or (folder / "config.yaml").is_file():
        return
    if strange := next((path for path in folder.iterdir() if not path.name.startswith(".")), None):
        raise ConfigError(f"run.folder={folder}: not a run's, {strange.name} is in it; legal: a new or an empty folder")


def differences(folder: Path, config: Config) -> list[str]:
    """Return what of a run's config another config changes, as KEY=VALUE."""
    try:
        then = flatten(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError, AttributeError, RecursionError):
        return ["a config.yaml that cannot be read"]
    now, set_now = flatten(as_dict(config)), changed(config)
    return [
        f"{key}={'null' if then.get(key) is None else then[key]}"
        # a key that is new in the schema is no difference by itself
        for key in sorted(then.keys() | set_now.keys())
        if then.get(key) != now.get(key) and has_effect(key, config)
    ]


def refuse_links(folder: Path) -> None:
    """Refuse a run folder in which something is a link to elsewhere: a run from a stranger is not
    written through it.

    Raises:
        ConfigError: there is one.
    """
    for path in folder.rglob("*"):
        if folder / "wandb" in path.parents and not path.is_dir():
            continue  # W&B links its logs there, by absolute paths
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{path}: leads out of {folder}, to {path.readlink()}; legal: links within it")


@contextmanager
def hold(folder: Path, *, afresh: bool = False) -> Iterator[None]:
    """Keep other processes out of a run folder, which is made where it is missing.

    If nothing was in it, and nothing but a config came into it, it goes again.

    The system lets go of it when the process ends, however it ends.

    Args:
        folder: the run folder.
        afresh: move what is there out of the way, to ``FOLDER.old-N``.

    Raises:
        ConfigError: another process holds it, it cannot be written, a link leads out of it, or
            what is to be moved out of the way is not a run's.
    """
    refuse_links(folder)
    if afresh and folder.exists():
        _refuse_strange(folder)
        if folder.name in ("", ".."):
            raise ConfigError(f"run.folder={folder}: cannot be moved out of the way; legal: a folder by its name")
        with hold(folder):
            aside = next(old for n in count(1) if not (old := folder.with_name(f"{folder.name}.old-{n}")).exists())
            folder.rename(aside)
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        # an old lock could be taken in a folder that cannot be written
        with TemporaryFile(dir=folder):
            pass
        new = {path.name for path in folder.iterdir()} <= {LOCK}
    except Timeout:
        raise ConfigError(f"{folder}: another process is at work here; legal: when it has ended") from None
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written as a run folder: {error.strerror}") from None
    try:
        yield
    finally:
        with suppress(OSError):  # it was moved
            if new and {path.name for path in folder.iterdir()} <= {LOCK, "config.yaml"}:
                for name in "config.yaml", LOCK:
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()
        lock.release()


@contextmanager
def say_unwritten(path: Path) -> Iterator[None]:
    """Turn what keeps a file from being written, a full disk, say, into a RunError that names it.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_whole(path: Path, text: str | Iterator[str]) -> None:
    """Write a file, or one of several pieces, whole or not at all.

    Raises:
        RunError: it cannot be written; what was there is as it was.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with say_unwritten(path):
            with scratch.open("w", encoding="utf-8") as file:
                file.writelines([text] if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
    finally:
        with suppress(OSError):
            scratch.unlink()
