"""What a run cost, as ``costs.json`` in its folder: training writes it, decoding adds to it.

Its keys: ``parameters``; ``training_flops`` (see below); ``training_tokens``, of documents and
summaries, unpadded; ``training_seconds``, validation left out; ``tokens_per_second``, the quotient
of the last two; ``peak_memory_bytes`` of training and its validations: what torch allocated on a
GPU, otherwise what this process held, libraries included; ``kv_cache_bytes`` of a summary of
``generation.max_tokens`` and its longest document, in fp32; ``device``, which all of that was
measured on; and from decoding ``decode_ms_per_summary``.

``training_flops`` are those of matrix products: three times a forward pass (the backward pass
takes two; R-Drop has two of each), summed over the true lengths of all examples that were trained
on.
"""

import json
import resource
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from headcount.config.schema import Config
from headcount.model.cost import cost, forward_flops
from headcount.runs.files import put_aside, write_atomically
from headcount.runs.folder import RunFile, follow


class TrainingCosts(Callback):
    """Counts what a training costs, and writes that at its end.

    Checkpoints keep the counts, so a resumed run has the sum; what was trained after
    it is lost, and not counted. Of several processes the first counts, and takes the others to
    have trained on as much as it has.
    """

    def __init__(self, folder: Path, config: Config, vocabulary_size: int) -> None:
        """Start from nothing.

        Args:
            folder: the run folder.
            config: the run's config.
            vocabulary_size: tokens of the tokenizer.
        """
        self.folder, self.config, self.vocabulary_size = folder, config, vocabulary_size
        self.forward_flops = cache(
            partial(forward_flops, config.model, vocabulary_size)
        )  # lengths come again and again
        self.seconds, self.tokens, self.flops, self.peak_memory = 0.0, 0, 0, 0
        self.started: float | None = None  # the clock's time while it runs
        self.device = torch.device("cpu")

    def state_dict(self) -> dict[str, Any]:
        """Return the counts so far."""
        running = 0.0 if self.started is None else time.perf_counter() - self.started
        return {
            "seconds": self.seconds + running,
            "tokens": self.tokens,
            "flops": self.flops,
            "peak_memory": max(self.peak_memory, peak_memory_bytes(self.device)),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the counts of a checkpoint."""
        self.seconds, self.tokens = state_dict["seconds"], state_dict["tokens"]
        self.flops, self.peak_memory = state_dict["flops"], state_dict["peak_memory"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what a GPU held before."""
        self.device = trainer.strategy.root_device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a batch; the last token of a summary is not read, only predicted."""
        self.tokens += trainer.world_size * (len(batch.document_ids) + len(batch.summary_ids))
        lengths = zip(batch.document_lengths, batch.summary_lengths, strict=True)
        forward = sum(self.forward_flops(document, summary - 1) for document, summary in lengths)
        passes = 2 if self.config.optimizer.r_drop else 1
        self.flops += trainer.world_size * 3 * passes * round(forward)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again, unless training is yet to begin."""
        if not trainer.sanity_checking:
            self.started = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._stop()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the costs, which are there also when a checkpoint left nothing to train."""
        if not trainer.is_global_zero:
            return
        document_tokens, summary_tokens = (
            self.config.data.max_document_tokens,
            self.config.generation.max_tokens,
        )
        model = cost(
            self.config.model,
            vocabulary_size=self.vocabulary_size,
            max_positions=self.config.max_positions,
            document_tokens=document_tokens,
            summary_tokens=summary_tokens,
        )
        document_bytes = model.cache_bytes_per_document_token * document_tokens
        summary_bytes = model.cache_bytes_per_summary_token * summary_tokens
        costs: dict[str, float | str] = {
            "parameters": model.parameters,
            "training_flops": float(self.flops),
            "training_tokens": self.tokens,
            "training_seconds": self.seconds,
            "tokens_per_second": self.tokens / self.seconds if self.seconds else 0.0,
            "peak_memory_bytes": max(self.peak_memory, peak_memory_bytes(self.device)),
            "kv_cache_bytes": document_bytes + summary_bytes,
            "device": _name(self.device),
        }
        add_costs(self.folder, costs)

    def _stop(self) -> None:
        if self.started is not None:
            self.seconds, self.started = self.seconds + time.perf_counter() - self.started, None


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most that torch had allocated on a GPU.

    On a CPU, the most that this process has held.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB elsewhere
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def add_costs(folder: Path, costs: dict[str, float | str]) -> None:
    """Add to the ``costs.json`` of a folder; a key that it already has gets the new value.

    Args:
        folder: a run folder, or that of an evaluation within one.
        costs: by the keys in the module's docstring.
    """
    known = read_costs(folder)
    write_atomically(follow(folder) / RunFile.COSTS, json.dumps(known | costs, indent=2))


def read_costs(folder: Path) -> dict[str, float | str]:
    """Return the costs that a folder has so far; a damaged file is put aside."""
    path = follow(folder) / RunFile.COSTS
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict):
            raise ValueError("not a mapping")
    except (OSError, ValueError) as error:
        put_aside(path, f"damaged ({type(error).__name__}: {error})")
        return {}
    return known
