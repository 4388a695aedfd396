"""Checkpoints of a run: ``best`` by validation score, ``last``, and ``previous`` before it.

A run resumes from ``last``, or from ``previous`` if that is damaged. An export has only ``best``.

A checkpoint is written to a scratch file, flushed to disk, read back and then renamed. Its SHA-256
is the first line of a side file, followed by those of its predecessors. The side file is written
before the rename, so that it lists the checkpoint whenever a run is killed: the new or the old
one.
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from safetensors import safe_open

from headcount.config.load import as_dict, changed, flatten
from headcount.config.schema import Config
from headcount.data.readers import LFS_POINTER, SIGNATURES
from headcount.errors import ConfigError, RunError, first_line
from headcount.runs.files import put_aside, write_atomically
from headcount.runs.folder import RunFile, config_differences, current_folder

# Key of an export's metadata: shared weights are stored once, and this maps their other names to
# the stored one.
TIED = "tied"
# Digests in a side file. Two would be enough if no save were ever interrupted.
MAX_DIGESTS = 8
CHECKPOINTS_STATE = "Checkpoints"  # key of the state of the callback Checkpoints
# What to do about a best checkpoint that was deleted after the last validation.
RESTORE = "the file and its .sha256 from a copy of the run, or train --fresh for another run"
FIXED_BY_TRAINING = (  # keys that cannot be changed for a trained model
    "model.",
    "tokenizer.",
    "data.max_document_tokens",
    "data.max_summary_tokens",
    "heads.gates",
    "heads.keep",
)


def is_selected(score: float, best: float | None, margin: float) -> bool:
    """Return whether the weights of a validation are selected over those of earlier ones.

    They are if the score is the best so far, or lower by no more than ``margin``: scores of a
    sample differ by chance, and the learning rate has come down further since.

    Args:
        score: of the validation.
        best: best score so far; None if it is the first validation.
        margin: ``evaluation.selection_margin``.
    """
    return best is None or score >= best - margin


class CheckpointFiles(TorchCheckpointIO):
    """Makes Lightning write and read checkpoints with the functions below."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint, see ``write_checkpoint``."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: Any = None
    ) -> dict[str, Any]:
        """Read a checkpoint, see ``read_checkpoint``."""
        return read_checkpoint(Path(path))


class _HashingFile:
    """A file that computes the SHA-256 of what is written to it."""

    def __init__(self, file: BufferedWriter) -> None:
        self.file = file
        self.flush = file.flush
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint. An earlier ``last.ckpt`` becomes ``previous.ckpt``.

    Raises:
        RunError: it cannot be written; the earlier checkpoints are unchanged.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A disk may accept data that it does not store: read the file back before it replaces
        # another.
        written = _write_scratch(content, scratch)
        with scratch.open("rb") as file_back:
            if hashlib.file_digest(file_back, "sha256").hexdigest() != written:
                raise OSError("its content differs from what was written")

        if path.name == "last.ckpt" and path.exists():
            _move_with_digests(path, path.with_name("previous.ckpt"), _digests(path))
        _move_with_digests(scratch, path, [written])
    except Exception as error:  # a full disk: OSError, RuntimeError of torch, or our RunError
        with suppress(OSError):
            scratch.unlink()
        # The folder of the checkpoint may not exist.
        existing = next(each for each in path.parents if os.path.exists(each))
        free = shutil.disk_usage(existing).free
        raise RunError(
            f"{path}: cannot be written ({first_line(error)}); {free:,} bytes are free on its "
            "disk; the previous checkpoint is intact"
        ) from error


def _write_scratch(content: dict[str, Any], scratch: Path) -> str:
    """Write a file, flush it to disk, and return its SHA-256."""
    with scratch.open("wb") as file:
        hashing = _HashingFile(file)
        torch.save(content, hashing)  # type: ignore[arg-type] # torch calls write and flush only
        file.flush()
        os.fsync(file.fileno())
    return hashing.sha256.hexdigest()


def _move_with_digests(source: Path, path: Path, digests: list[str]) -> None:
    """List the digests of a file at its new name, then rename it."""
    listed = [*digests, *_digests(path)][:MAX_DIGESTS]
    write_atomically(_side_file(path), "".join(f"{each}\n" for each in listed))
    os.replace(source, path)


def _side_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> list[str]:
    side = _side_file(path)
    return side.read_text(encoding="utf-8").split() if side.is_file() else []


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU, also while a training replaces it.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            return _read_open(file, path)
    except FileNotFoundError:
        raise ConfigError(_describe_missing(path)) from None
    except ConfigError:
        raise
    except Exception as error:  # torch, zipfile and the unpickler each raise their own
        raise ConfigError(
            f"{path}: damaged, or not a checkpoint ({type(error).__name__})"
        ) from None


def _describe_missing(path: Path) -> str:
    """Return the message about a checkpoint that does not exist."""
    run = path.parent.parent
    if (run / RunFile.FINISHED).exists():
        return f"{path}: missing from a finished run; legal: {RESTORE}"
    return f"{run}: not a run folder with a checkpoint ({path} is missing)"


def _read_open(file: BufferedReader, path: Path) -> dict[str, Any]:
    """Read an open checkpoint: the digest is that of the same file, also if it is replaced now."""
    # A checkpoint that was copied without its side file has no digest.
    digests = _digests(path)
    if digests and hashlib.file_digest(file, "sha256").hexdigest() not in digests:
        raise ConfigError(
            f"{path}: damaged, or not a checkpoint (its SHA-256 is not in {path.name}.sha256)"
        )
    file.seek(0)
    if path.name == RunFile.WEIGHTS:
        return _read_export(path.parent)

    content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    if "global_step" not in content:
        raise ConfigError(f"{path}: damaged, or not a checkpoint (it has no global_step)")
    if not _is_weights(content.get("state_dict")):
        raise ConfigError(f"{path}: damaged, or not a checkpoint (it has no weights)")
    return content


def _is_weights(value: Any) -> bool:
    """Return whether something is a mapping of names to tensors."""
    if not isinstance(value, dict):
        return False
    return all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in value.items()
    )


def checkpoint_path(run: Path, name: str) -> Path:
    """Return the path of a checkpoint of a run: ``best``, ``last`` or ``previous``."""
    run = current_folder(run)
    if name == "best" and (run / RunFile.WEIGHTS).is_file():
        return run / RunFile.WEIGHTS
    return run / RunFile.CHECKPOINTS / f"{name}.ckpt"


def load_checkpoint(run: Path, name: str) -> dict[str, Any]:
    """Load a checkpoint of a run to the CPU; ConfigError where it is missing or damaged."""
    return read_checkpoint(checkpoint_path(run, name))


def has_checkpoint(run: Path) -> bool:
    """Return whether a run has a checkpoint to resume from, which may be damaged."""
    return any(checkpoint_path(run, name).exists() for name in ("last", "previous"))


class Resumable(NamedTuple):
    """A checkpoint that a run can resume from.

    Attributes:
        path: the file.
        step: training step at which it was written.
        has_stopped_early: whether ``evaluation.patience`` has ended the training.
        has_validated: whether a validation has saved the best checkpoint.
    """

    path: Path
    step: int
    has_stopped_early: bool = False
    has_validated: bool = False


def last_good_checkpoint(run: Path, config: Config | None = None) -> Resumable | None:
    """Return the newest checkpoint that a run can resume from; None if there is none.

    A checkpoint that is damaged, or belongs to another run, is put aside.

    Args:
        run: the run folder.
        config: config of the run; None: it is not compared with those in the checkpoints.
    """
    for name in ("last", "previous"):
        path = checkpoint_path(run, name)
        content = _read_or_put_aside(path, config)
        if content is not None:
            state = _checkpoints_state(content)
            return Resumable(
                path,
                content["global_step"],
                has_stopped_early=state.get("stopped_early") is not None,
                has_validated=state.get("best") is not None,
            )
    return None


def _checkpoints_state(content: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the callback ``Checkpoints`` in a checkpoint; empty if it has none."""
    callbacks = content.get("callbacks")
    state = callbacks.get(CHECKPOINTS_STATE) if isinstance(callbacks, dict) else None
    return state if isinstance(state, dict) else {}


def check_best(run: Path, config: Config) -> None:
    """Put the best checkpoint aside if it is damaged, or belongs to another run."""
    _read_or_put_aside(checkpoint_path(run, "best"), config)


def _read_or_put_aside(path: Path, config: Config | None) -> dict[str, Any] | None:
    """Return a checkpoint; None if it does not exist, or has just been put aside."""
    if not path.exists():
        return None
    try:
        content = read_checkpoint(path)
        if config is not None:
            _check_same_run(content, path, config)
    except ConfigError as error:
        put_aside(path, str(error).removeprefix(f"{path}: "))
        return None
    return content


def _check_same_run(content: dict[str, Any], path: Path, config: Config) -> None:
    """Check that a checkpoint was written by a run of a config.

    Raises:
        ConfigError: it was written by another run; the message lists the settings that differ.
    """
    try:
        others = config_differences(content["config"], config)
    except (KeyError, AttributeError):
        raise ConfigError(f"{path}: not a checkpoint of this version (no config)") from None
    if others:
        raise ConfigError(f"{path}: a checkpoint of another run, with {', '.join(others)}")


def remove_scratch(run: Path) -> None:
    """Remove the scratch files of saves that were interrupted when a run was killed."""
    for scratch in (run / RunFile.CHECKPOINTS).glob(".*"):
        scratch.unlink()


def _read_export(folder: Path) -> dict[str, Any]:
    """Return an export as a checkpoint that has only weights, config and step."""
    path = folder / RunFile.WEIGHTS
    with path.open("rb") as raw:
        if raw.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ConfigError(f"{path}: this is {SIGNATURES[LFS_POINTER]}; legal: the file itself")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if missing := [name for name in (TIED, "step") if name not in metadata]:
            raise ConfigError(
                f"{path}: its metadata has no {' and no '.join(missing)}: another program has "
                "saved it; legal: as headcount export writes it"
            )
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is not a dict

    # Weights of a diverged model can be read, but give no summaries.
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ConfigError(f"{path}: {name} holds NaN or infinity")

    # Shared weights are stored once.
    tied: dict[str, str] = json.loads(metadata[TIED])
    weights |= {name: weights[known] for name, known in tied.items()}
    config = json.loads((folder / RunFile.EXPORTED_CONFIG).read_text(encoding="utf-8"))
    return {"state_dict": weights, "config": config, "global_step": int(metadata["step"])}


def check_unchanged(run: Path, config: Config) -> None:
    """Check that model, tokenizer and lengths of a config are those that a run was trained with.

    Raises:
        ConfigError: one of them differs; the message names the key, its value and the run's.
    """
    try:
        trained = flatten(load_checkpoint(run, "best")["config"])
    except (KeyError, AttributeError):
        raise ConfigError(
            f"{checkpoint_path(run, 'best')}: not a checkpoint of this version (no config)"
        ) from None

    # A key that is new in the schema is no difference unless its value is set.
    set_keys = changed(config)
    for name, value in flatten(as_dict(config)).items():
        if not name.startswith(FIXED_BY_TRAINING):
            continue
        if name not in trained and name not in set_keys:
            continue
        if value != trained.get(name):
            legal = trained.get(name, "to leave it out")
            raise ConfigError(
                f"{name}={value}: {run} was trained with another value; legal: {legal}"
            )
