"""Run folders: the names of their files, finding the folder of a config, and locking it."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml
from filelock import FileLock, Timeout

from headcount.config.load import SAFE_LOADER, as_dict, changed, flatten, load
from headcount.config.paths import user_path
from headcount.config.schema import Config
from headcount.errors import ConfigError, RunError
from headcount.escape import hide_passwords, map_texts
from headcount.terminal import print_line


class RunFile(StrEnum):
    """The files and folders of a run folder. The names are written nowhere else."""

    CONFIG = "config.yaml"
    MODELS = "models.json"  # of an evaluation outside of run folders: the runs that it evaluates
    DATA = "data.json"
    TOKENIZER = "tokenizer.json"
    INITIAL_WEIGHTS = "initial_weights.json"  # with model.start_from: which weights these were
    CHECKPOINTS = "checkpoints"
    METRICS = "metrics.csv"
    COSTS = "costs.json"
    ENVIRONMENT = "environment.json"
    PARTIAL_PREDICTIONS = "parts"
    PROVENANCE = "provenance.json"  # of summaries: the weights and settings that they depend on
    PREDICTIONS = "predictions.jsonl"
    PER_EXAMPLE_METRICS = "per_example_metrics.csv"
    SCORES = "scores.json"
    ATTENTION_PLOT = "cross_attention.png"
    ATTENTION_PICTURE = "attention.png"  # of the command attention
    ATTENTION_PAGE = "attention.html"
    PAGE = "page.html"
    PROFILER = "profiler"  # traces of torch's profiler
    NOT_FINITE = "not_finite.json"
    WANDB = "wandb"
    WANDB_ID = "wandb_id"
    TENSORBOARD = "tensorboard"
    MLFLOW_ID = "mlflow_id"
    MLFLOW_STORE = "mlflow.db"  # beside the run folders, which share it
    FINISHED = "finished"  # written last
    LOCK = ".lock"

    # Of an analysis of heads, in a folder heads-N.
    HEADS = "heads.csv"
    CURVES = "curves.csv"
    MEASUREMENTS = "measurements.jsonl"
    FINDINGS = "findings.md"

    # Of a pruned run.
    PRUNING = "pruning.json"

    # Of an export, which has no checkpoints.
    EXPORTED_CONFIG = "config.json"
    WEIGHTS = "model.safetensors"
    TOKENIZER_CONFIG = "tokenizer_config.json"  # for the transformers library, as is the next
    GENERATION_CONFIG = "generation_config.json"
    CARD = "README.md"


HEAD_ANALYSIS_KEYS = (
    "heads.split",
    "heads.documents",
    "heads.points",
    "heads.random_orders",
    "heads.margin",
)
# Keys that cannot change the results of a run, or the beginnings of such keys.
KEYS_WITHOUT_EFFECT = (
    "run.",
    "tracking.",
    "loggers.",
    "callbacks.",
    "data.cache_dir",
    "data.num_workers",
    *HEAD_ANALYSIS_KEYS,
)
# What runs did before a key existed, where that is not the key's default today.
VALUES_BEFORE_KEYS = {"evaluation.selection_margin": 0.0}
# What a command writes into its folder before the first result.
WRITTEN_AT_START = (RunFile.LOCK, RunFile.CONFIG, RunFile.MODELS, RunFile.PROVENANCE)
# All files of an export.
EXPORT_FILES = (
    RunFile.EXPORTED_CONFIG,
    RunFile.TOKENIZER,
    RunFile.TOKENIZER_CONFIG,
    RunFile.GENERATION_CONFIG,
    RunFile.CARD,
    RunFile.WEIGHTS,
)


def has_effect(key: str, config: Config) -> bool:
    """Return whether a key of a config can change the results.

    Each worker of a stream reads a part of it, so the number of workers determines the order of
    the examples.
    """
    if key == "data.num_workers":
        return config.data.streaming
    return not key.startswith(KEYS_WITHOUT_EFFECT)


def settings_of_run(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run by their dotted keys, with those that its version did not have
    in its config yet.

    Args:
        config: of the run, as nested mappings.

    Raises:
        AttributeError: the config is not a mapping.
    """
    return VALUES_BEFORE_KEYS | flatten(config)


def config_file(run: Path) -> str:
    """Return the path of the config of a run folder or of an export."""
    exported = run / RunFile.EXPORTED_CONFIG
    return str(exported if exported.is_file() else run / RunFile.CONFIG)


# Arguments of the Trainer that describe the machine on which a run was trained, and their values
# on another machine.
MACHINE_TRAINER_ARGS = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}


def load_run_config(run: Path, overrides: list[str]) -> Config:
    """Load the config of a run folder or an export.

    The devices in the config of an export are ignored: they are those of another machine.

    Args:
        run: a run folder or an export.
        overrides: changes of the config as ``KEY=VALUE``.

    Raises:
        ConfigError: the folder is neither of these, its config is empty, or an override is not
            legal.
    """
    file = config_file(run)
    # Empty YAML is legal elsewhere. Here it would be a model of default sizes.
    if Path(file).is_file() and os.path.getsize(file) == 0:
        raise ConfigError(f"{file}: damaged (empty); legal: as train has written it")
    if Path(file).name != RunFile.EXPORTED_CONFIG:
        return load([file], overrides)
    here = [f"trainer.{name}={value}" for name, value in MACHINE_TRAINER_ARGS.items()]
    return load([file], [*here, *overrides])


def create_numbered_folder(parent: Path, name: str) -> Path:
    """Create the first of NAME-1, NAME-2, ... that does not exist.

    Raises:
        ConfigError: no folder can be created there.
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
    """Return the folder of the run that was started with this config; None if there is none.

    Args:
        config: the run is in its ``run.folder`` if that is set. Otherwise it is in the newest
            folder ``NAME-N`` of ``run.directory`` with the same config.

    Raises:
        ConfigError: ``run.folder`` has another run or other files in it, or cannot be read.
    """
    if config.run.folder is None:
        return _find_numbered_run(config)

    folder = user_path("run.folder", config.run.folder)
    try:
        is_run = (folder / RunFile.CONFIG).is_file()
        if not is_run:
            _reject_other_content(folder)
    except OSError as error:
        raise ConfigError(
            f"run.folder={folder}: cannot be read: {error.strerror}; legal: a folder of your own"
        ) from None
    if not is_run:
        return None
    if others := differences(folder, config):
        raise ConfigError(
            f"run.folder={folder}: the run in it was started with {', '.join(others)}; "
            "legal: the same config, another folder, or --fresh"
        )
    return folder


def _find_numbered_run(config: Config) -> Path | None:
    """Return the newest of the folders NAME-1, NAME-2, ... with a run of this config."""
    pattern = re.compile(rf"{re.escape(config.run.name or 'run')}-(\d+)")
    numbered = []
    for folder in user_path("run.directory", config.run.directory).glob("*"):
        match = pattern.fullmatch(folder.name)
        if match:
            numbered.append((int(match[1]), folder))

    for _, folder in sorted(numbered, reverse=True):
        # In a shared directory some folders belong to other users and cannot be read.
        with suppress(OSError):
            if not (folder / RunFile.CONFIG).is_file() or differences(folder, config):
                continue
            # A finished run of another user is returned, an unfinished one could not be resumed.
            effective = os.access in os.supports_effective_ids
            is_writable = os.access(folder, os.W_OK, effective_ids=effective)
            if is_writable or (folder / RunFile.FINISHED).exists():
                return folder
    return None


def _reject_other_content(folder: Path) -> None:
    """Reject a folder that has files but is not a run folder. Hidden files do not count."""
    if not folder.is_dir() or (folder / RunFile.CONFIG).is_file():
        return
    for path in folder.iterdir():
        if not path.name.startswith("."):
            raise ConfigError(
                f"run.folder={folder}: not a run folder, {path.name} is in it; "
                "legal: a new or an empty folder"
            )


def differences(folder: Path, config: Config) -> list[str]:
    """Return the settings of a run that differ from a config and can change results, as KEY=VALUE.

    A key that is new in the schema is no difference if the config has its default, unless earlier
    versions did something else.
    """
    try:
        text = (folder / RunFile.CONFIG).read_text(encoding="utf-8")
        return config_differences(yaml.load(text, Loader=SAFE_LOADER), config)
    except (OSError, ValueError, yaml.YAMLError, AttributeError, RecursionError):
        return ["a config.yaml that cannot be read"]


def config_differences(before: dict[str, Any], config: Config) -> list[str]:
    """Return the settings of an earlier config that differ, see ``differences``.

    Passwords in addresses are not compared, because checkpoints do not have them.

    Args:
        before: the earlier config, as nested mappings.
        config: the present one.

    Raises:
        AttributeError: the earlier config is not a mapping.
    """
    earlier = settings_of_run(map_texts(hide_passwords, before))
    present = flatten(map_texts(hide_passwords, as_dict(config)))
    found = []
    for key in sorted(earlier.keys() | changed(config).keys()):
        if earlier.get(key) != present.get(key) and has_effect(key, config):
            value = "null" if earlier.get(key) is None else earlier[key]
            found.append(f"{key}={value}")
    return found


def reject_links(folder: Path) -> None:
    """Reject a run folder with a link that leads out of it, through which a command would write to
    files elsewhere.

    Raises:
        ConfigError: there is such a link.
    """
    # In the cache of the hub, the files of a snapshot are links to a folder beside the snapshots.
    home = folder.resolve()
    if home.parent.name == "snapshots" and (home.parents[1] / "blobs").is_dir():
        home = home.parents[1]
    for path in folder.rglob("*"):
        if _was_written_by_wandb(path.relative_to(folder)) and not path.is_dir():
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            raise ConfigError(
                f"{path}: leads out of {folder}, to {path.readlink()}; legal: links within it"
            )


def _was_written_by_wandb(path: Path) -> bool:
    """Return whether W&B wrote a path of a run folder, or of an evaluation's folder in it.

    W&B links to its own logs by absolute paths.
    """
    return RunFile.WANDB in path.parts[:2]


# Open descriptor of each folder that this process has locked, by every path that it has had.
_handles: dict[Path, int] = {}


@contextmanager
def lock_folder(folder: Path, *, fresh: bool = False) -> Iterator[None]:
    """Lock a run folder for this process, and create it if it does not exist.

    The operating system releases the lock when the process ends, however it ends. On exit the
    folder is deleted if nothing but ``WRITTEN_AT_START`` is in it.

    Args:
        folder: the run folder.
        fresh: rename an earlier run in this folder to ``FOLDER.old-N``, and back if the new folder
            is deleted on exit, as after a mistake in the config.

    Raises:
        ConfigError: another process has the lock, the folder cannot be written, a link leads out
            of it, or (with ``fresh``) it has files of something else in it.
    """
    reject_links(folder)
    earlier = _move_aside(folder) if fresh and folder.exists() else None

    lock = FileLock(folder / RunFile.LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        # A lock file can be locked also in a folder that cannot be written, so try to write.
        with TemporaryFile(dir=folder):
            pass
        is_new = {path.name for path in folder.iterdir()} <= {RunFile.LOCK}
        _handles[folder] = os.open(folder, os.O_RDONLY)
    except Timeout:
        raise ConfigError(
            f"{folder}: another process is using this folder; legal: after it has ended"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{folder}: cannot be written as a run folder: {reason}") from None

    try:
        yield
    finally:
        is_removed = is_new and _remove_if_unused(folder)

        # The folder may have several paths: it may have been renamed.
        handle = _handles[folder]
        for path in [path for path, held in _handles.items() if held == handle]:
            del _handles[path]
        os.close(handle)
        lock.release()
        if is_removed and earlier is not None:
            _move_back(earlier, folder)


def _remove_if_unused(folder: Path) -> bool:
    """Remove a new folder if nothing but its config was written; return whether it was removed."""
    with suppress(OSError, RunError):
        folder = current_folder(folder)
        if {path.name for path in folder.iterdir()} <= set(WRITTEN_AT_START):
            for name in WRITTEN_AT_START:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
            return True
    return False


def current_folder(folder: Path) -> Path:
    """Return the current path of a locked folder, which a user may have renamed.

    Otherwise the run would write its next files to a new folder with the old name, apart from the
    earlier ones.

    Args:
        folder: the path under which this process has locked it, or that this function has
            returned. Any other path is returned unchanged.

    Raises:
        RunError: the folder was deleted, or moved to another disk.
    """
    handle = _handles.get(folder)
    if handle is None:
        return folder
    locked = os.fstat(handle)
    for path in (folder, _path_of_handle(handle)):
        with suppress(OSError):
            if os.path.samestat(locked, path.stat()):
                _handles[path] = handle  # it may be renamed once more
                return path
    raise RunError(f"{folder}: it was deleted or moved away while this run was using it")


def stable_path(folder: Path) -> Path:
    """Return a path of a folder that stays valid after a rename, for libraries that store a path.

    Args:
        folder: the path under which this process has locked it. On systems other than Linux, and
            for a folder that is not locked, the path is returned unchanged.
    """
    handle = _handles.get(folder)
    path = Path(f"/proc/self/fd/{handle}")
    return path if handle is not None and path.is_dir() else folder


def _path_of_handle(handle: int) -> Path:
    get_path = getattr(fcntl, "F_GETPATH", None)
    if get_path is not None:  # macOS
        return Path(os.fsdecode(fcntl.fcntl(handle, get_path, bytes(1024)).rstrip(b"\0")))
    return Path(os.readlink(f"/proc/self/fd/{handle}"))


def _move_aside(folder: Path) -> Path | None:
    """Rename a run folder to the first free ``FOLDER.old-N``, and return its new path; None if it
    was empty, and is now deleted."""
    _reject_other_content(folder)
    if folder.name in ("", ".."):
        raise ConfigError(
            f"run.folder={folder}: cannot be renamed; legal: a path that ends with a name"
        )
    with lock_folder(folder):
        for number in count(1):
            target = folder.with_name(f"{folder.name}.old-{number}")
            if not target.exists():
                break
        folder.rename(target)
    if not target.exists():
        return None
    print_line(f"{folder}: the earlier run in it was moved to {target}")
    return target


def _move_back(earlier: Path, folder: Path) -> None:
    with suppress(OSError):  # somebody else has made another folder there
        earlier.rename(folder)
        print_line(f"{folder}: no new run was started in it, so the earlier one was moved back")
