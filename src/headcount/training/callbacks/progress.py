"""The progress of a training on the terminal: one bar, counted in steps, and a line at each
validation. Without a terminal only the lines are printed."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from headcount.evaluation.corpus_metrics import CORPUS_METRICS
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.terminal import print_on


def progress_bar(console: Console) -> Progress:
    """Return a progress bar with counts, elapsed and remaining time, and a note."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("<"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class TrainingProgress(Callback):
    """Shows steps, validation scores, and what other callbacks log: loss and tokens per second.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = progress_bar(console)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the number of parameters and draw the bar."""
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        print_on(self.console, f"training: {parameters:,} parameters")

        total = trainer.estimated_stepping_batches
        steps = None if total == float("inf") else int(total)
        self.progress = progress_bar(self.console)
        self.progress.start()
        self.task = self.progress.add_task(
            "training", total=steps, completed=trainer.global_step, note=""
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the bar."""
        note = self._describe_training(trainer)
        self.progress.update(self.task, completed=trainer.global_step, note=note)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the metrics of this validation."""
        shown = []
        for name in ("loss", *ROUGE_TYPES, *CORPUS_METRICS):
            value = trainer.callback_metrics.get(f"validation/{name}")
            if value is not None:
                shown.append(f"{name} {value:.2f}")
        training = self._describe_training(trainer)
        line = f"step {trainer.global_step:,}: {training}; validation {'  '.join(shown)}"
        print_on(self.console, line)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the bar and leave it on the terminal."""
        self.progress.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the terminal."""
        self.progress.stop()

    def _describe_training(self, trainer: pl.Trainer) -> str:
        parts = []
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None:
            parts.append(f"loss {loss:.2f}")
        speed = trainer.callback_metrics.get("train/tokens_per_second")
        if speed is not None:
            parts.append(f"{speed:,.0f} tokens/s")
        return "  ".join(parts)
