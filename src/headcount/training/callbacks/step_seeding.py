"""Dropout that a resumed run repeats.

Each step's random numbers depend on its place in the training alone.
"""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class SeededSteps(Callback):
    """Seeds torch before each training batch, so that no state of a generator has to be kept."""

    def __init__(self, seed: int) -> None:
        """Take the run's seed."""
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed by run, epoch, batch and process."""
        place = np.random.SeedSequence(
            [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        )
        torch.manual_seed(int(place.generate_state(1, np.uint64)[0]))
