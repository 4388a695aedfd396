"""A moving average of the weights, by which a run validates and writes while it trains on with its
own.

Polyak and Juditsky 1992 averaged all steps alike; an exponential average forgets the first ones.
"""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from headcount.config.schema import Config
from headcount.errors import ConfigError


class AveragedWeights(WeightAveraging):
    """Keeps the average.

    Checkpoints have it for their weights, and beside it what training resumes from.
    """

    def __init__(self, decay: float, device: torch.device) -> None:
        """Take what the average keeps of itself at a step, after the first ones, and where it is
        kept."""

        def update(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor) -> None:
            # the first steps, when weights still change much, are left behind sooner
            share = 1 - torch.clamp((1 + updates) / (10 + updates), max=decay)
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight, share.to(average.dtype))

        super().__init__(device, use_buffers=False, multi_avg_fn=update)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Build the model as Lightning would, so that its first weights are those of a run without
        averaging."""
        with (
            trainer.strategy.tensor_init_context(),
            trainer.precision_plugin.module_init_context(),
        ):
            pl_module.configure_model()
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in its place: the summarizer is still to draw with it."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the weights that training continues with."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the weights: the last checkpoint is still to be made of them."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in their place."""
        super().on_train_end(trainer, pl_module)


def averaging(config: Config, trainer: pl.Trainer) -> list[Callback]:
    """Return what averages the weights of a run, if its config says so; on the device that the
    trainer trains on.

    Raises:
        ConfigError: the trainer shards the weights or has them in less or more than fp32.
    """
    decay = config.optimizer.ema_decay
    if not decay:
        return []
    key = f"optimizer.ema_decay={decay}"
    if trainer.precision != "32-true" and not trainer.precision.endswith("-mixed"):
        raise ConfigError(
            f"{key} does not go with trainer.precision={trainer.precision}; legal: 32-true, or "
            "mixed"
        )
    if not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
        raise ConfigError(
            f"{key} does not go with weights that a strategy shards; legal: "
            "trainer.strategy=ddp, or 0"
        )
    return [AveragedWeights(decay, trainer.strategy.root_device)]
