"""Dropout that a resumed run repeats exactly: the random numbers of a step depend on its position
in the training alone.

So no state of a random number generator has to be saved, and neither the number of loader workers
nor a validation in between changes what follows.
"""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class SeededSteps(Callback):
    """Seeds torch before each training batch.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed by run, epoch, batch and rank."""
        position = [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        [mixed] = np.random.SeedSequence(position).generate_state(1, np.uint64)
        torch.manual_seed(int(mixed))
