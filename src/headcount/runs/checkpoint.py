"""Checkpoints of a run folder: ``best`` by validation; ``last`` and the one before it, from which
a run goes on. An export has ``best`` alone.

Each is written beside its place, brought to the disk, read back, and only then put there. Its
SHA-256 stands in a file beside it, above those of the ones before it, so that a run killed between
the two has a checkpoint that is listed.
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from safetensors import safe_open

from headcount.config.load import as_dict, changed, flatten
from headcount.config.schema import Config
from headcount.errors import ConfigError, RunError
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile
from headcount.terminal import print_line

# in its metadata: for the names of weights that are stored once the names that they are stored
# under
TIED = "tied"
LISTED = 8  # sums of one side file; two would do, were no save ever cut


def selection_key(score: float, loss: float) -> tuple[float, float]:
    """Return what validations are compared by to select a checkpoint: the score, then the loss.

    The larger key is the better one. Of equal keys the later validation is selected: a score that
    stays at zero must not keep the weights of the first validation.
    """
    return score, -loss


class CheckpointFiles(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints: whole, checked, and with no code in them."""

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
    """A file that sums what is written into it."""

    def __init__(self, file: BufferedWriter) -> None:
        self.file, self.sum, self.flush = file, hashlib.sha256(), file.flush

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        return self.file.write(data)


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; what ``last.ckpt`` was becomes ``previous.ckpt``.

    Raises:
        RunError: it cannot be written; all that was there is as it was.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            summed = _Summing(file)
            torch.save(content, summed)  # type: ignore[arg-type] # no more of a file is needed
            file.flush()
            os.fsync(file.fileno())
        written = summed.sum.hexdigest()
        with scratch.open("rb") as file_back:
            if hashlib.file_digest(file_back, "sha256").hexdigest() != written:
                raise OSError("it reads back as something else")
        if path.name == "last.ckpt" and path.exists():
            _put(path, path.with_name("previous.ckpt"), _sums(path))
        _put(scratch, path, [written])
    except Exception as error:  # a full disk shows itself in many ways
        with suppress(OSError):
            scratch.unlink()
        free = shutil.disk_usage(next(each for each in path.parents if os.path.exists(each))).free
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"{path}: cannot be written ({why}); {free:,} bytes are free on its disk; the "
            "checkpoint before it is whole"
        ) from error


def _put(source: Path, path: Path, sums: list[str]) -> None:
    write_atomically(
        _side_file(path), "".join(f"{each}\n" for each in [*sums, *_sums(path)][:LISTED])
    )
    os.replace(source, path)


def _side_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sums(path: Path) -> list[str]:
    side = _side_file(path)
    return side.read_text(encoding="utf-8").split() if side.is_file() else []


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU, also while a training replaces it.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            listed = _sums(path)
            # a bare copy has no list
            if listed and hashlib.file_digest(file, "sha256").hexdigest() not in listed:
                raise ConfigError(
                    f"{path}: damaged, or not a checkpoint (its SHA-256 is not in "
                    f"{path.name}.sha256)"
                )
            file.seek(0)
            if path.name == RunFile.WEIGHTS:
                return _read_export(path.parent)
            content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            if "global_step" not in content:
                raise ConfigError(f"{path}: damaged, or not a checkpoint (it has no global_step)")
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parents[1]}: not a run folder with a checkpoint ({path} is missing)"
        ) from None
    except ConfigError:
        raise
    except Exception as error:  # what is no checkpoint fails in many ways
        raise ConfigError(
            f"{path}: damaged, or not a checkpoint ({type(error).__name__})"
        ) from None
    return content


def checkpoint_path(run: Path, name: str) -> Path:
    """Return where a checkpoint of a run is: ``best``, ``last`` or ``previous``."""
    if name == "best" and (run / RunFile.WEIGHTS).is_file():
        return run / RunFile.WEIGHTS
    return run / RunFile.CHECKPOINTS / f"{name}.ckpt"


def load_checkpoint(run: Path, name: str) -> dict[str, Any]:
    """Load a checkpoint of a run to the CPU; ConfigError where it is missing or damaged."""
    return read_checkpoint(checkpoint_path(run, name))


def has_checkpoint(run: Path) -> bool:
    """Return whether a run has a checkpoint to resume from, which may be damaged."""
    return any(checkpoint_path(run, name).exists() for name in ("last", "previous"))


def last_good_checkpoint(run: Path) -> tuple[Path, int] | None:
    """Return the newest checkpoint that a run can go on from, and its step.

    A damaged one is named and put aside.
    """
    for path in checkpoint_path(run, "last"), checkpoint_path(run, "previous"):
        if path.exists():
            try:
                return path, read_checkpoint(path)["global_step"]
            except ConfigError as error:
                print_line(f"{error}; it is put aside, and the one before it is used")
                os.replace(path, path.with_name(f"{path.name}.damaged"))
    return None


def remove_scratch(run: Path) -> None:
    """Remove what a run that was killed in the middle of a save left."""
    for scratch in (run / RunFile.CHECKPOINTS).glob(".*"):
        scratch.unlink()


def _read_export(folder: Path) -> dict[str, Any]:
    """Read an export as what its checkpoint has of it."""
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
    """Refuse a config that has another model, tokenizer or lengths than the run was trained with.

    Raises:
        ConfigError: it has; the key, its value and the run's.
    """
    try:
        then = flatten(load_checkpoint(run, "best")["config"])
    except (KeyError, AttributeError):
        raise ConfigError(
            f"{checkpoint_path(run, 'best')}: not a checkpoint of this version (no config)"
        ) from None
    set_now = changed(config)
    for name, now in flatten(as_dict(config)).items():
        if not name.startswith(
            ("model.", "tokenizer.", "data.max_document_tokens", "data.max_summary_tokens")
        ):
            continue
        # a key that is new in the schema is no difference by itself
        if name not in then and name not in set_now:
            continue
        if now != then.get(name):
            legal = then.get(name, "to leave it out")
            raise ConfigError(f"{name}={now}: {run} was trained with another; legal: {legal}")
