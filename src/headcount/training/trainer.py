"""Lightning's Trainer from the config, and which of its warnings are harmless here."""

import logging
import warnings

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import Logger

from headcount.config import Config, ConfigError
from headcount.training.processes import check_strategy

logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
for harmless in (
    ".*does not have many workers",  # a batch is a slice of arrays in memory
    "Experiment logs directory .* is not empty",  # it holds the run's config and tokenizer
    "Glyph .* missing from font",  # a picture shows a box for it
    ".*LeafSpec.* is deprecated",  # Lightning 2.6 on torch 2.13
):
    warnings.filterwarnings("ignore", harmless)


def make_trainer(config: Config, *, loggers: list[Logger], callbacks: list[Callback]) -> pl.Trainer:
    """Make the Trainer of a config; ConfigError where it refuses an argument. Our loaders share the data themselves."""
    keeps = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    given = {"enable_progress_bar": False, "enable_model_summary": False, **config.trainer}
    try:
        trainer = pl.Trainer(
            **given, logger=loggers, callbacks=callbacks, enable_checkpointing=keeps, use_distributed_sampler=False
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from None
    check_strategy(trainer)
    return trainer
