"""What a run costs: ``costs.json`` in its folder, written by training and completed by decoding.

| key | meaning |
| --- | --- |
| ``parameters`` | of the model |
| ``training_flops`` | of the matrix products of all training examples, by their true lengths |
| ``training_tokens`` | of documents and summaries, without padding |
| ``training_seconds`` | without validation |
| ``tokens_per_second`` | the quotient of these two; logged as ``train/tokens_per_second`` |
| ``peak_memory_bytes`` | with validation; allocated by torch on a GPU, else by the process |
| ``kv_cache_bytes`` | of one summary of ``generation.max_tokens`` and its longest document, fp32 |
| ``device`` | that all of this was measured on |
| ``decode_ms_per_summary`` | of decoding the test split |

A training step counts as three forward passes: the backward pass takes two. R-Drop doubles it.
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
from headcount.runs.environment import add_environment, describe_environment
from headcount.runs.files import read_json_or_put_aside, write_atomically
from headcount.runs.folder import RunFile, current_folder


class TrainingCosts(Callback):
    """Counts what a training costs, logs tokens and speed, and writes ``costs.json`` at the end
    and ``environment.json`` at the beginning.

    Checkpoints have the counts, so a resumed run has the sums; steps that were lost with a killed
    process are not counted. With several ranks the first one counts, and assumes that the others
    have trained on as much.

    Args:
        folder: the run folder.
        config: of the run.
        vocabulary_size: number of tokens of the tokenizer.
    """

    def __init__(self, folder: Path, config: Config, vocabulary_size: int) -> None:
        self.folder = folder
        self.config = config
        self.vocabulary_size = vocabulary_size
        # The same pairs of lengths come again and again.
        self.forward_flops = cache(partial(forward_flops, config.model, vocabulary_size))

        self.seconds = 0.0
        self.tokens = 0
        self.flops = 0
        self.peak_memory = 0
        self.started: float | None = None  # when the clock was started; None: it is stopped
        self.device = torch.device("cpu")

    def state_dict(self) -> dict[str, Any]:
        """Return the counts so far."""
        return {
            "seconds": self._seconds_so_far(),
            "tokens": self.tokens,
            "flops": self.flops,
            "peak_memory": max(self.peak_memory, peak_memory_bytes(self.device)),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the counts of a checkpoint."""
        self.seconds = state_dict["seconds"]
        self.tokens = state_dict["tokens"]
        self.flops = state_dict["flops"]
        self.peak_memory = state_dict["peak_memory"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the environment, and reset the peak memory of a GPU."""
        self.device = trainer.strategy.root_device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        if trainer.is_global_zero:
            add_environment(self.folder, describe_environment(self.device, trainer.world_size))

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
        """Count a batch; log tokens and mean speed of the training so far."""
        tokens = len(batch.document_ids) + len(batch.summary_ids)
        self.tokens += trainer.world_size * tokens
        # Summaries of a float beyond 2^24 would be inexact.
        pl_module.log("train/tokens", torch.tensor(self.tokens, dtype=torch.float64))
        pl_module.log("train/tokens_per_second", self._tokens_per_second())

        # The last token of a summary is predicted, but never read.
        forward = 0.0
        for document, summary in zip(batch.document_lengths, batch.summary_lengths, strict=True):
            forward += self.forward_flops(document, summary - 1)
        passes = self.config.optimizer.passes
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
        """Write the costs, also if a checkpoint left nothing to train."""
        if not trainer.is_global_zero:
            return

        # What the model is, and what its cache holds of a longest document and summary.
        document_tokens = self.config.data.max_document_tokens
        summary_tokens = self.config.generation.max_tokens
        model = cost(
            self.config.model,
            vocabulary_size=self.vocabulary_size,
            max_positions=self.config.max_positions,
            document_tokens=document_tokens,
            summary_tokens=summary_tokens,
        )
        document_bytes = model.cache_bytes_per_document_token * document_tokens
        summary_bytes = model.cache_bytes_per_summary_token * summary_tokens

        # What this training took.
        costs: dict[str, float | str] = {
            "parameters": model.parameters,
            "training_flops": float(self.flops),
            "training_tokens": self.tokens,
            "training_seconds": self.seconds,
            "tokens_per_second": self._tokens_per_second(),
            "peak_memory_bytes": max(self.peak_memory, peak_memory_bytes(self.device)),
            "kv_cache_bytes": document_bytes + summary_bytes,
            "device": _device_name(self.device),
        }
        add_costs(self.folder, costs)

    def _seconds_so_far(self) -> float:
        running = 0.0 if self.started is None else time.perf_counter() - self.started
        return self.seconds + running

    def _tokens_per_second(self) -> float:
        seconds = self._seconds_so_far()
        return self.tokens / seconds if seconds else 0.0

    def _stop(self) -> None:
        self.seconds = self._seconds_so_far()
        self.started = None


def peak_memory_bytes(device: torch.device) -> int:
    """Return the largest amount of memory that torch has had allocated on a GPU; on a CPU, the
    largest that this process has had, libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB elsewhere
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def add_costs(folder: Path, costs: dict[str, float | str]) -> None:
    """Add to the ``costs.json`` of a folder. A key that it already has gets the new value.

    Args:
        folder: a run folder, or that of an evaluation within one.
        costs: by the keys in the module's docstring.
    """
    known = read_costs(folder)
    write_atomically(current_folder(folder) / RunFile.COSTS, json.dumps(known | costs, indent=2))


def read_costs(folder: Path) -> dict[str, float | str]:
    """Return the costs that a folder has so far; a damaged file is put aside."""
    return read_json_or_put_aside(current_folder(folder) / RunFile.COSTS, dict) or {}
