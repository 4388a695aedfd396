"""When a training saves its checkpoints, and when it ends early."""

import json
import signal
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from headcount.errors import ConfigError, RunError
from headcount.runs.checkpoint import (
    CHECKPOINTS_STATE,
    checkpoint_path,
    is_selected,
    read_checkpoint,
)
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile, current_folder
from headcount.terminal import print_line
from headcount.training.lightning_private import is_accumulating, validation_follows
from headcount.training.optimizers import has_whole_weights
from headcount.training.processes import gather
from headcount.training.signals import Signals


class State(IntEnum):
    """What each rank reports after a batch. The largest value counts for all."""

    CONTINUE = 0
    STOP = 1
    NOT_FINITE = 2


class Checkpoints(Checkpoint):
    """Saves ``best`` by a validation score and ``last``; ends the training at a signal.

    Of validations whose scores are within the margin of the best one, the latest is selected. A
    loss or a weight that is not finite ends the training before it is saved.

    A checkpoint is saved only where Lightning can resume exactly: after a validation, or after a
    batch that no validation follows, and not between the batches of one optimizer step. Only the
    end of the training may be there, as when its time is up: no batch follows it.

    Args:
        run: the run folder.
        score: name of the validation score; higher is better.
        signals: that end the training.
        margin: points by which the score of a selected validation may lie below the best one.
        patience: number of validations in a row without a better score after which the training
            ends; 0: it never ends early.
        patience_from: validations up to this step, before the last stage, do not count for it.

    Attributes:
        best: the best score, which is not that of the selected weights if later ones came close
            to it; None before any validation.
        stage_best: the best score of the last stage and its step, which patience compares with:
            an earlier stage may have a better one. None before a validation of the last stage.
        stopped_early: why the training ended early; None if it did not.
    """

    def __init__(
        self,
        run: Path,
        score: str,
        signals: Signals,
        *,
        margin: float = 0.0,
        patience: int = 0,
        patience_from: int = 0,
    ) -> None:
        self.run = run
        self.score = score
        self.signals = signals
        self.margin = margin
        self.patience = patience
        self.patience_from = patience_from

        # State of the selection and of the patience, which is in checkpoints.
        self.best: float | None = None
        self.stage_best: tuple[float, int] | None = None
        self.worse_validations = 0
        self.stopped_early: str | None = None

        # State of the saves.
        self.saved_step = 0  # of last.ckpt
        self.is_stopping = False
        self.is_due = False  # a save was put off to the end of the optimizer step

    @property
    def state_key(self) -> str:
        """Where its state is in a checkpoint."""
        return CHECKPOINTS_STATE

    def state_dict(self) -> dict[str, Any]:
        """Return the best scores, and for how long there has been no better one."""
        return {
            "best": self.best,
            "stage_best": self.stage_best,
            "worse_validations": self.worse_validations,
            "stopped_early": self.stopped_early,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the best score, unless its checkpoint is damaged."""
        # Earlier versions saved the score with its loss, or none of the others.
        best = state["best"]
        self.best = best[0] if isinstance(best, (tuple, list)) else best
        if "stopped_early" in state:
            self.stage_best = self._stage_best_of(state)
            self.worse_validations = state["worse_validations"]
            self.stopped_early = state["stopped_early"]

        if self.best is None:
            return
        path = checkpoint_path(self.run, "best")
        try:
            read_checkpoint(path)
        except ConfigError as error:
            reason = error if path.exists() else f"{path}: missing"
            print_line(f"{reason}; the best from here on takes its place")
            self.best = None

    def _stage_best_of(self, state: dict[str, Any]) -> tuple[float, int] | None:
        """Return the best score of the last stage, and its step."""
        if "stage_best" in state:
            saved: tuple[float, int] | None = state["stage_best"]
            return saved
        # Earlier versions had one best score for all stages. If it is not of the last stage, that
        # of the last stage begins with the next validation.
        if self.best is None or state["best_step"] <= self.patience_from:
            return None
        return self.best, state["best_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Defer signals to the ends of batches; forget where an earlier start failed."""
        (current_folder(self.run) / RunFile.NOT_FINITE).unlink(missing_ok=True)
        self.saved_step = trainer.global_step
        self.signals.install()
        self.signals.deferred = True
        # A run that was killed after it had stopped early has only its test summaries left.
        if self.stopped_early is not None:
            trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the training if it is to end: by now the metrics of the last step are logged."""
        if self.is_stopping and self.saved_step == trainer.global_step:
            self._end(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Check the loss and the signals of all ranks, and save if one of them has to stop.

        Raises:
            RunError: the loss is not finite.
        """
        is_finite = bool(outputs["loss"].isfinite())
        state = self._largest_state(trainer, is_finite=is_finite)
        if state == State.NOT_FINITE:
            self._fail(trainer, "loss", [] if is_finite else batch.indices)
        self.is_stopping = self.is_stopping or state == State.STOP

        # If a validation follows, it has to come first: Lightning does not make up for one that
        # was due when the checkpoint was saved. It ends with a checkpoint of its own.
        if (self.is_stopping or self.is_due) and not validation_follows(trainer):
            self._save_last_after_step(trainer)

    def _largest_state(self, trainer: pl.Trainer, *, is_finite: bool) -> int:
        """Return the largest state of all ranks."""
        mine = State.STOP if self.signals.received else State.CONTINUE
        if not is_finite:
            mine = State.NOT_FINITE
        state = torch.tensor(mine, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(state, reduce_op="max"))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save ``last``, and ``best`` if the score is the best so far or within the margin of it.

        Raises:
            RunError: the loss or a weight is not finite, as after a step whose gradients were not.
        """
        if trainer.sanity_checking:
            return
        loss = trainer.callback_metrics["validation/loss"]
        if not loss.isfinite():
            self._fail(trainer, "validation loss", [])
        self._check_weights(trainer)

        # Only a better score renews the patience, and only one of the last stage.
        score = trainer.callback_metrics[self.score].item()
        if trainer.global_step > self.patience_from:
            if self.stage_best is None or score > self.stage_best[0]:
                self.stage_best = (score, trainer.global_step)
                self.worse_validations = 0
            else:
                self._count_worse_validation(trainer, *self.stage_best)

        # Within the margin of the best score, the later validation is kept.
        selected = is_selected(score, self.best, self.margin)
        self.best = score if self.best is None else max(score, self.best)
        if selected:
            self._save(trainer, "best")
        self._save_last_after_step(trainer)

    def _count_worse_validation(self, trainer: pl.Trainer, best: float, best_step: int) -> None:
        """Let the training end if its patience is exhausted. The last checkpoint says so."""
        self.worse_validations += 1
        if not self.patience or self.worse_validations < self.patience or self.stopped_early:
            return
        self.stopped_early = (
            f"no better {self.score} than {best:.2f} of step {best_step:,} in "
            f"{self.patience} validations (evaluation.patience)"
        )
        print_line(f"step {trainer.global_step:,}: {self.stopped_early}; the training ends")
        trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the training.

        Raises:
            RunError: the weights of the last step are not finite.
        """
        if self.is_due or self.saved_step != trainer.global_step:
            self._save_last(trainer)
        self.signals.deferred = False
        if self.is_stopping or self.signals.received:
            self._end(trainer)

    def _save_last_after_step(self, trainer: pl.Trainer) -> None:
        """Save ``last``, or put it off: the gradients of half an optimizer step are in no
        checkpoint."""
        self.is_due = is_accumulating(trainer)
        if not self.is_due:
            self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        self._check_weights(trainer)
        for logger in trainer.loggers:
            logger.save()
        self._save(trainer, "last")
        self.saved_step = trainer.global_step

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        path = checkpoint_path(self.run, name)
        trainer.save_checkpoint(path, weights_only=False)  # with the state of the optimizer

    def _check_weights(self, trainer: pl.Trainer) -> None:
        norm = torch.nn.utils.get_total_norm(trainer.lightning_module.parameters())
        # A rank of a sharded model sees a part of the weights; all ranks must fail together.
        if not has_whole_weights(trainer):
            norm = trainer.strategy.reduce(norm, reduce_op="sum")
        if not norm.isfinite():
            self._fail(trainer, "norm of the weights", [])

    def _end(self, trainer: pl.Trainer) -> None:
        """End the process with the exit code of the signal; print where the run resumes."""
        name = signal.Signals(self.signals.exit_code - 128).name
        now = current_folder(self.run)
        how = "the same command resumes from there"
        if now != self.run:
            how = f"the run folder was moved: the command with run.folder={now} resumes from there"
        print_line(f"{name}: ended at step {trainer.global_step:,}; {how}")
        raise SystemExit(self.signals.exit_code)

    def _fail(self, trainer: pl.Trainer, what: str, rows: list[int]) -> None:
        """End the run because a number is not finite; name the examples of the batch."""
        data = trainer.datamodule.splits.get("train")  # type: ignore[attr-defined] # untyped in Lightning
        names = [str(row) if data is None else data.pairs.ids[row] for row in rows]
        ids = gather(trainer, names)
        if not trainer.is_global_zero:
            raise SystemExit(1)

        named = ""
        if ids:
            file = current_folder(self.run) / RunFile.NOT_FINITE
            write_atomically(file, json.dumps({"step": trainer.global_step, "ids": ids}, indent=2))
            named = f"; {file.name} in it names the {len(ids)} examples"
        raise RunError(
            f"{self.run}: the {what} of step {trainer.global_step:,} is not finite{named}; the "
            "checkpoints were saved before and are intact; a lower optimizer.learning_rate may "
            "help"
        )
