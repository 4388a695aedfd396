"""One bar for a whole training, in steps, and a line at each validation, which is all there is without a terminal."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from headcount.data.module import Batch
from headcount.evaluation.rouge import ROUGE_TYPES


def bar(console: Console) -> Progress:
    """Return a bar with counts, times and a note."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("<"), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, TextColumn("{task.fields[note]}"), console=console)


class TrainingProgress(Callback):
    """Shows steps, loss, tokens per second and validation scores; while summaries are written, batches."""

    def __init__(self, console: Console) -> None:
        """Take the console to draw on."""
        self.console = console
        self.progress = bar(console)
        self.tokens = 0
        self.seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar."""
        self.console.print(f"training: {sum(p.numel() for p in pl_module.parameters()):,} parameters")
        self._begin("training", trainer.estimated_stepping_batches, trainer.global_step)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Start the clock of this step."""
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Move the bar; log the speed."""
        self.tokens += len(batch.document_ids) + len(batch.summary_ids)
        self.seconds += time.perf_counter() - self.started
        pl_module.log("train/tokens_per_second", self.tokens / self.seconds)
        self.progress.update(self.task, completed=trainer.global_step, note=self._note(trainer, "train/loss"))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the figures of this validation."""
        figures = self._note(trainer, "train/loss", *(f"validation/{name}" for name in ("loss", *ROUGE_TYPES)))
        self.console.print(f"step {trainer.global_step:,}  {figures}", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it is."""
        self.progress.stop()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar."""
        self._begin("writing summaries", sum(trainer.num_predict_batches), 0)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the bar."""
        self.progress.advance(self.task)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it is."""
        self.progress.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self.progress.stop()

    def _begin(self, description: str, total: float, completed: int) -> None:
        self.progress = bar(self.console)
        self.progress.start()
        self.task = self.progress.add_task(
            description, total=None if total == float("inf") else total, completed=completed, note=""
        )

    def _note(self, trainer: pl.Trainer, *names: str) -> str:
        shown = trainer.callback_metrics
        figures = [f"{name.replace('/', ' ')} {shown[name]:.2f}" for name in names if name in shown]
        speed = f"{self.tokens / self.seconds:,.0f} tokens/s" if self.seconds else ""
        return "  ".join([*figures, speed])
