"""An exponential moving average of the weights: training continues with the weights themselves,
validation and generation use the average.

Polyak and Juditsky 1992 averaged all steps equally; an exponential average forgets the first ones.
"""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import Tensor

from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.training.optimizers import has_whole_weights


class AveragedWeights(WeightAveraging):
    """Keeps the average.

    The weights in a checkpoint are the average. What training resumes from is beside them.

    Args:
        decay: share of the average that remains at a step; less in the first steps.
        device: that holds the average.
    """

    def __init__(self, decay: float, device: torch.device) -> None:
        def update(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor) -> None:
            # In the first steps the weights change much, so the average forgets faster.
            share = 1 - torch.clamp((1 + updates) / (10 + updates), max=decay)
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight, share.to(average.dtype))

        super().__init__(device, use_buffers=False, multi_avg_fn=update)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Build the model as Lightning does, so that the initial weights are those of a run
        without averaging."""
        with (
            trainer.strategy.tensor_init_context(),
            trainer.precision_plugin.module_init_context(),
        ):
            pl_module.configure_model()
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing yet: the summarizer draws its attention plot with the average."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the weights that training continues with."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing yet: the last checkpoint is made of the weights."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the weights by the average."""
        super().on_train_end(trainer, pl_module)


def averaging(config: Config, trainer: pl.Trainer) -> list[Callback]:
    """Return the callback that averages the weights; none with ``optimizer.ema_decay=0``.

    Raises:
        ConfigError: the trainer shards the weights, or does not keep them in fp32.
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
    if not has_whole_weights(trainer):
        raise ConfigError(
            f"{key} does not go with weights that a strategy shards; legal: "
            "trainer.strategy=ddp, or 0"
        )
    return [AveragedWeights(decay, trainer.strategy.root_device)]
