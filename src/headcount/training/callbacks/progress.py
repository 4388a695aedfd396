"""One bar for a whole training, in steps, and a line at each validation, which is all there is
without a terminal."""

import time
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
from headcount.terminal import say


def bar(console: Console) -> Progress:
    """Return a bar with counts, times and a note."""
    times = TimeElapsedColumn(), TextColumn("<"), TimeRemainingColumn()
    note = TextColumn("{task.fields[note]}")
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *times,
        note,
        console=console,
    )


class TrainingProgress(Callback):
    """Shows steps, loss, tokens per second and validation scores."""

    def __init__(self, console: Console) -> None:
        """Take the console to draw on."""
        self.console = console
        self.progress = bar(console)
        self.tokens, self.seconds = 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar."""
        say(
            self.console,
            f"training: {sum(p.numel() for p in pl_module.parameters()):,} parameters",
        )
        total = trainer.estimated_stepping_batches
        self.progress = bar(self.console)
        self.progress.start()
        steps = None if total == float("inf") else int(total)
        self.task = self.progress.add_task(
            "training", total=steps, completed=trainer.global_step, note=""
        )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of this step."""
        self.started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bar; log the speed."""
        self.tokens += len(batch.document_ids) + len(batch.summary_ids)
        self.seconds += time.perf_counter() - self.started
        pl_module.log("train/tokens_per_second", self.tokens / self.seconds)
        self.progress.update(
            self.task, completed=trainer.global_step, note=self._training(trainer)
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the metrics of this validation."""
        corpus = [
            name for name in CORPUS_METRICS if f"validation/{name}" in trainer.callback_metrics
        ]
        names = ("loss", *ROUGE_TYPES, *corpus)
        shown = "  ".join(
            f"{name} {trainer.callback_metrics[f'validation/{name}']:.2f}" for name in names
        )
        line = f"step {trainer.global_step:,}: {self._training(trainer)}; validation {shown}"
        say(self.console, line)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it is."""
        self.progress.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.progress.stop()

    def _training(self, trainer: pl.Trainer) -> str:
        loss = trainer.callback_metrics.get("train/loss")
        figures = [f"loss {loss:.2f}"] if loss is not None else []
        return "  ".join(
            [*figures, f"{self.tokens / self.seconds:,.0f} tokens/s"] if self.seconds else figures
        )
