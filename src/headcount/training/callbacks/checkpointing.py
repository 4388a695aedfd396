"""When a training saves itself, and when it ends before its end."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from headcount.errors import ConfigError, RunError
from headcount.runs.checkpoint import checkpoint_path, read_checkpoint, selection_key
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile
from headcount.terminal import print_line
from headcount.training.lightning_private import is_accumulating, validation_follows
from headcount.training.processes import gather
from headcount.training.signals import Signals

GO_ON, STOP, NOT_FINITE = range(3)  # what processes tell each other; the largest counts


class Checkpoints(Checkpoint):
    """Keeps ``best`` by a validation score (of equal scores by the lower validation loss, then the
    later one) and ``last``; ends the training at a signal and at a
    loss that is no number.

    What is saved is saved where Lightning can go on from it exactly: after a validation, or after
    a batch that none follows; never between the batches of one optimizer step.

    Args:
        run: the run folder.
        score: name of the score, of which more is better.
        signals: that end the training.
        patience: number of validations in a row without a better score after which the training
            ends; 0: it never ends early.

    Attributes:
        best: the best score with its loss, see ``selection_key``.
        stopped_early: why the training ended early; None if it did not.
    """

    def __init__(self, run: Path, score: str, signals: Signals, *, patience: int = 0) -> None:
        self.run = run
        self.score = score
        self.signals = signals
        self.patience = patience
        self.best: tuple[float, float] | None = None  # see selection_key
        self.best_step = 0
        self.worse_validations = 0
        self.stopped_early: str | None = None
        self.saved = 0  # the step of last.ckpt
        self.stop = self.due = False

    def state_dict(self) -> dict[str, Any]:
        """Return the best score with its loss, and how long it has been the best."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "worse_validations": self.worse_validations,
            "stopped_early": self.stopped_early,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best score back, unless its checkpoint is damaged."""
        best = state["best"]
        # Earlier versions saved the score alone.
        self.best = selection_key(best, math.inf) if isinstance(best, float) else best
        if "stopped_early" in state:  # earlier versions did not save these
            self.best_step = state["best_step"]
            self.worse_validations = state["worse_validations"]
            self.stopped_early = state["stopped_early"]
        if self.best is not None:
            try:
                read_checkpoint(checkpoint_path(self.run, "best"))
            except ConfigError as error:
                print_line(f"{error}; the best from here on takes its place")
                self.best = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look after the signals from here on.

        What an earlier start could not go on from is past.
        """
        (self.run / RunFile.NOT_FINITE).unlink(missing_ok=True)
        self.saved = trainer.global_step
        self.signals.install()
        self.signals.deferred = True
        # A run that was killed after it had stopped early has only its test summaries left.
        if self.stopped_early is not None:
            trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the training if it is to end.

        What was logged at the step before is in the files by now.
        """
        if self.stop and self.saved == trainer.global_step:
            self._end(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the loss and for signals; save if one came.

        Raises:
            RunError: the loss is not finite.
        """
        finite = bool(outputs["loss"].isfinite())
        mine = NOT_FINITE if not finite else STOP if self.signals.received else GO_ON
        told = torch.tensor(mine, device=trainer.strategy.root_device)
        found = int(trainer.strategy.reduce(told, reduce_op="max"))
        if found == NOT_FINITE:
            self._refuse(trainer, "loss", [] if finite else batch.indices)
        self.stop = self.stop or found == STOP
        # Lightning does not make up for a validation that was due when it was saved; that one
        # saves, too
        if (self.stop or self.due) and not validation_follows(trainer):
            self._save_last(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and keep the best.

        Raises:
            RunError: the loss or a weight is not finite, as after a step whose gradients were not.
        """
        if trainer.sanity_checking:
            return
        loss = trainer.callback_metrics["validation/loss"]
        if not loss.isfinite():
            self._refuse(trainer, "validation loss", [])
        self._check_weights(trainer)

        # Only a better score renews the patience.
        score = trainer.callback_metrics[self.score].item()
        if self.best is None or score > self.best[0]:
            self.best_step = trainer.global_step
            self.worse_validations = 0
        else:
            self._count_worse_validation(trainer, self.best[0])

        # Of equal scores the lower loss, then the later validation is kept.
        candidate = selection_key(score, loss.item())
        if self.best is None or candidate >= self.best:
            self.best = candidate
            trainer.save_checkpoint(
                checkpoint_path(self.run, "best"), weights_only=False
            )  # the optimizer, too
        self._save_last(trainer)

    def _count_worse_validation(self, trainer: pl.Trainer, best: float) -> None:
        """Let the training end if its patience is exhausted. The last checkpoint says so."""
        self.worse_validations += 1
        if not self.patience or self.worse_validations < self.patience or self.stopped_early:
            return
        self.stopped_early = (
            f"no better {self.score} than {best:.2f} of step {self.best_step:,} in "
            f"{self.patience} validations (evaluation.patience)"
        )
        print_line(f"step {trainer.global_step:,}: {self.stopped_early}; the training ends")
        trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end.

        Raises:
            RunError: the last step has made weights that are no numbers.
        """
        if self.saved != trainer.global_step:
            self._save_last(trainer)
        self.signals.deferred = False
        if self.stop or self.signals.received:
            self._end(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        self.due = is_accumulating(trainer)  # the gradients of half a step are in no checkpoint
        if not self.due:
            self._check_weights(trainer)
            for logger in trainer.loggers:
                logger.save()
            trainer.save_checkpoint(
                checkpoint_path(self.run, "last"), weights_only=False
            )  # the optimizer, too
            self.saved = trainer.global_step

    def _check_weights(self, trainer: pl.Trainer) -> None:
        if not torch.nn.utils.get_total_norm(trainer.lightning_module.parameters()).isfinite():
            self._refuse(trainer, "norm of the weights", [])

    def _end(self, trainer: pl.Trainer) -> None:
        name = signal.Signals(self.signals.exit_code - 128).name
        print_line(
            f"{name}: ended at step {trainer.global_step:,}; the same command resumes from there"
        )
        raise SystemExit(self.signals.exit_code)

    def _refuse(self, trainer: pl.Trainer, what: str, rows: list[int]) -> None:
        data = trainer.datamodule.splits.get("train")  # type: ignore[attr-defined] # Lightning sets it untyped
        mine = [str(row) if data is None else data.pairs.ids[row] for row in rows]
        ids = gather(trainer, mine)
        if not trainer.is_global_zero:
            raise SystemExit(1)
        file, named = self.run / RunFile.NOT_FINITE, ""
        if ids:
            write_atomically(file, json.dumps({"step": trainer.global_step, "ids": ids}, indent=2))
            named = f"; {file.name} in it names the {len(ids)} examples"
        raise RunError(
            f"{self.run}: the {what} of step {trainer.global_step:,} is not finite{named}; the "
            "checkpoints are older "
            "and whole; a lower optimizer.learning_rate may help"
        )
