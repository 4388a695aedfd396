"""Lightning's Trainer from the config, and which of its warnings are harmless here."""

import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import Logger

from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.runs.checkpoint import CheckpointFiles
from headcount.training.processes import check_strategy

logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
for harmless in (
    ".*does not have many workers",  # a batch is a slice of arrays in memory
    "Experiment logs directory .* is not empty",  # it holds the run's config and tokenizer
    "The `srun` command is available",  # a run on the login node is as good
    ".*WeightAveraging callback with a model that overrides the configure_model",  # none that shards it gets so far
    "Glyph .* missing from font",  # a picture shows a box for it
    ".*LeafSpec.* is deprecated",  # Lightning 2.6 on torch 2.13
):
    warnings.filterwarnings("ignore", harmless)


def make_trainer(
    config: Config, *, loggers: list[Logger], callbacks: list[Callback], folder: Path | None = None
) -> pl.Trainer:
    """Make the Trainer of a config; ConfigError where it refuses an argument. Our loaders share the data themselves.

    Args:
        config: its ``trainer`` is used.
        loggers: where to log.
        callbacks: what to call.
        folder: the run's; Lightning goes on from what an ``hpc_ckpt`` is in it, and finds none.

    Raises:
        ConfigError: Lightning refuses an argument.
    """
    keeps = any(isinstance(callback, Checkpoint) for callback in callbacks)
    plugins: list[Any] = [CheckpointFiles()]
    if SLURMEnvironment.detect():  # who launched the run requeues it
        plugins.append(SLURMEnvironment(auto_requeue=False))
    given = {"enable_progress_bar": False, "enable_model_summary": False, **config.trainer}
    try:
        trainer = pl.Trainer(
            **given,
            logger=loggers,
            callbacks=callbacks,
            default_root_dir=folder,
            enable_checkpointing=keeps,
            plugins=plugins,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from None
    check_strategy(trainer)
    return trainer
