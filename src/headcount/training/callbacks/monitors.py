"""What is logged at each logged step beside the loss: the ``callbacks`` section of the config."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, DeviceStatsMonitor
from torch.optim import Optimizer

from headcount.config.schema import Config
from headcount.training.module import Summarizer
from headcount.training.optimizers import Muon, has_whole_weights


def monitors(config: Config, *, is_first_rank: bool) -> list[Callback]:
    """Return the callbacks of a config that log.

    Args:
        config: of the run.
        is_first_rank: whether this rank has loggers. Lightning rejects ``DeviceStatsMonitor`` on
            one without.
    """
    callbacks: list[Callback] = []
    if config.callbacks.learning_rate:
        callbacks.append(LearningRate())
    if config.callbacks.gradient_norm:
        callbacks.append(GradientNorm())
    if config.callbacks.device_stats and is_first_rank:
        callbacks.append(DeviceStatsMonitor())
    return callbacks


class LearningRate(Callback):
    """Logs ``train/learning_rate`` of AdamW, and ``train/muon_learning_rate`` of Muon.

    Lightning's ``LearningRateMonitor`` logs a row of its own, under names that depend on the
    optimizer.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Log the learning rate of the step that follows."""
        groups = optimizer.param_groups
        # The first group of Muon has the matrices. The last one of AdamW may be that of gates.
        if isinstance(optimizer, Muon):
            muon_group, *groups = groups
            pl_module.log("train/muon_learning_rate", muon_group["lr"])
        pl_module.log("train/learning_rate", groups[0]["lr"])


class GradientNorm(Callback):
    """Logs ``train/gradient_norm``: the norm of all gradients together, before clipping."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Log the norm, at the steps whose metrics are written."""
        assert isinstance(pl_module, Summarizer)
        if not pl_module.is_logging_step():
            return
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)

        # Each rank of a sharded model has a part of the gradients.
        if not has_whole_weights(trainer):
            norm = trainer.strategy.reduce(norm.square(), reduce_op="sum").sqrt()
        pl_module.log("train/gradient_norm", norm)
