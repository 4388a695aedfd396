"""A moving average of the weights, by which a run validates and writes while it trains on with its own."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import Tensor

from headcount.config import Config


class AveragedWeights(WeightAveraging):
    """Keeps the average; checkpoints have it for their weights, and beside it what training goes on from."""

    def __init__(self, decay: float, device: torch.device) -> None:
        """Take what the average keeps of itself at a step, and where it is kept."""

        def update(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor) -> None:
            # the first steps, when weights still change much, are left behind sooner
            share = 1 - torch.clamp((1 + updates) / (10 + updates), max=decay)
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight, share.to(average.dtype))

        super().__init__(device, use_buffers=False, multi_avg_fn=update)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in its place: the summarizer is still to draw with it."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the weights back that training goes on with."""
        super().on_validation_epoch_end(trainer, pl_module)


def averaging(config: Config, trainer: pl.Trainer) -> list[Callback]:
    """Return what averages the weights of a run, if its config says so; on the device that the trainer trains on."""
    decay = config.optimizer.averaging
    return [AveragedWeights(decay, trainer.strategy.root_device)] if decay else []
