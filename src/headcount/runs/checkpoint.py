"""Checkpoints of a run: ``best`` by validation score, ``last``, and ``previous`` before it.

A run resumes from ``last``, or from ``previous`` if that is damaged. An export has only ``best``.

A checkpoint is written to a scratch file, flushed to disk, read back and then renamed. Its SHA-256
is the first line of a side file, followed by those of its predecessors. The side file is written
before the rename: whatever a killed run leaves at the checkpoint's name is listed in it.
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
from headcount.errors import ConfigError, RunError
from headcount.runs.files import put_aside, write_atomically
from headcount.runs.folder import RunFile, config_differences, follow

# Key of an export's metadata: shared weights are stored once, and this maps their other names to
# the stored one.
TIED = "tied"
# Digests in a side file. Two would be enough if no save were ever interrupted.
MAX_DIGESTS = 8
CHECKPOINTS_STATE = "Checkpoints"  # where the state of the callback Checkpoints is in a checkpoint
OF_TRAINED_MODEL = (  # keys that a trained model cannot change
    "model.",
    "tokenizer.",
    "data.max_document_tokens",
    "data.max_summary_tokens",
    "heads.gates",
    "heads.keep",
)


def selection_key(score: float, loss: float) -> tuple[float, float]:
    """Return what validations are compared by to select a checkpoint: the score, then the loss.

    The larger key is the better one. Of equal keys the later validation is selected: a score that
    stays at zero must not keep the weights of the first validation.
    """
    return score, -loss


class CheckpointFiles(TorchCheckpointIO):
    """Lets Lightning write and read checkpoints with the functions below."""

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


class _Summing:
    """A file that computes the SHA-256 of what is written into it."""

    def __init__(self, file: BufferedWriter) -> None:
        self.file = file
        self.flush = file.flush
        self.sum = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        return self.file.write(data)


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint. An earlier ``last.ckpt`` becomes ``previous.ckpt``.

    Raises:
        RunError: it cannot be written; the earlier checkpoints are unchanged.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A disk may accept what it does not store: read the file back before it replaces another.
        written = _write_scratch(content, scratch)
        with scratch.open("rb") as file_back:
            if hashlib.file_digest(file_back, "sha256").hexdigest() != written:
                raise OSError("it reads back as something else")

        if path.name == "last.ckpt" and path.exists():
            _put(path, path.with_name("previous.ckpt"), _digests(path))
        _put(scratch, path, [written])
    except Exception as error:  # of a full disk: OSError, RuntimeError of torch, our RunError
        with suppress(OSError):
            scratch.unlink()
        existing = next(each for each in path.parents if os.path.exists(each))
        free = shutil.disk_usage(existing).free
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"{path}: cannot be written ({why}); {free:,} bytes are free on its disk; the "
            "checkpoint before it is whole"
        ) from error


def _write_scratch(content: dict[str, Any], scratch: Path) -> str:
    """Write a file, flush it to disk, and return its SHA-256."""
    with scratch.open("wb") as file:
        summing = _Summing(file)
        torch.save(content, summing)  # type: ignore[arg-type] # torch calls write and flush only
        file.flush()
        os.fsync(file.fileno())
    return summing.sum.hexdigest()


def _put(source: Path, path: Path, digests: list[str]) -> None:
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
        raise ConfigError(
            f"{path.parent.parent}: not a run folder with a checkpoint ({path} is missing)"
        ) from None
    except ConfigError:
        raise
    except Exception as error:  # of torch, zipfile or the unpickler, by what was damaged
        raise ConfigError(
            f"{path}: damaged, or not a checkpoint ({type(error).__name__})"
        ) from None


def _read_open(file: BufferedReader, path: Path) -> dict[str, Any]:
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
    """Return where a checkpoint of a run is: ``best``, ``last`` or ``previous``."""
    run = follow(run)
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
        path: of the file.
        step: of the training.
        has_stopped_early: whether the training had ended by ``evaluation.patience``.
    """

    path: Path
    step: int
    has_stopped_early: bool = False


def last_good_checkpoint(run: Path, config: Config | None = None) -> Resumable | None:
    """Return the newest checkpoint that a run can resume from; None without any.

    A damaged one, or one of another run, is put aside.

    Args:
        run: the run folder.
        config: of the run; None: the configs in the checkpoints are not compared with it.
    """
    for name in ("last", "previous"):
        path = checkpoint_path(run, name)
        content = _read_or_put_aside(path, config)
        if content is not None:
            return Resumable(path, content["global_step"], _has_stopped_early(content))
    return None


def _has_stopped_early(content: dict[str, Any]) -> bool:
    """Return whether a checkpoint is of a training that ended by its patience."""
    callbacks = content.get("callbacks")
    state = callbacks.get(CHECKPOINTS_STATE) if isinstance(callbacks, dict) else None
    return isinstance(state, dict) and state.get("stopped_early") is not None


def check_best(run: Path, config: Config) -> None:
    """Put the best checkpoint aside if it is damaged, or that of another run."""
    _read_or_put_aside(checkpoint_path(run, "best"), config)


def _read_or_put_aside(path: Path, config: Config | None) -> dict[str, Any] | None:
    """Return a checkpoint of a run; None if there is none that can be used."""
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
        ConfigError: it was written by another run; the settings that differ.
    """
    try:
        others = config_differences(content["config"], config)
    except (KeyError, AttributeError):
        raise ConfigError(f"{path}: not a checkpoint of this version (no config)") from None
    if others:
        raise ConfigError(f"{path}: a checkpoint of another run, with {', '.join(others)}")


def remove_scratch(run: Path) -> None:
    """Remove what a run left that was killed in the middle of a save."""
    for scratch in (run / RunFile.CHECKPOINTS).glob(".*"):
        scratch.unlink()


def _read_export(folder: Path) -> dict[str, Any]:
    """Return what an export holds of a checkpoint: weights, config and step."""
    with safe_open(folder / RunFile.WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is not a dict
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ConfigError(f"{folder / RunFile.WEIGHTS}: {name} holds NaN or infinity")
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
        then = flatten(load_checkpoint(run, "best")["config"])
    except (KeyError, AttributeError):
        raise ConfigError(
            f"{checkpoint_path(run, 'best')}: not a checkpoint of this version (no config)"
        ) from None
    set_now = changed(config)
    for name, now in flatten(as_dict(config)).items():
        if not name.startswith(OF_TRAINED_MODEL):
            continue
        # A key that is new in the schema is no difference by itself.
        if name not in then and name not in set_now:
            continue
        if now != then.get(name):
            legal = then.get(name, "to leave it out")
            raise ConfigError(f"{name}={now}: {run} was trained with another; legal: {legal}")
