"""Lightning's Trainer from the config, and which of its warnings are harmless here."""

import logging
import warnings
from pathlib import Path

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import Logger

from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.runs.checkpoint import CheckpointFiles
from headcount.training.processes import check_strategy

HARMLESS_WARNINGS = (
    ".*does not have many workers",  # a batch is a slice of arrays in memory
    "Experiment logs directory .* is not empty",  # it holds the run's config and tokenizer
    "The `srun` command is available",  # a run on the login node is as good
    # sharded models are rejected
    ".*WeightAveraging callback with a model that overrides the configure_model",
    "Glyph .* missing from font",  # a plot shows a box instead
    ".*LeafSpec.* is deprecated",  # Lightning 2.6 on torch 2.13
)
QUIET_LOGGERS = ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.distributed")


def silence_harmless_warnings() -> None:
    """Silence warnings and messages of Lightning and matplotlib that are harmless here."""
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", pattern)


def make_trainer(
    config: Config, *, loggers: list[Logger], callbacks: list[Callback], folder: Path | None = None
) -> pl.Trainer:
    """Make the Trainer of a config; ConfigError where it refuses an argument. Our loaders share
    the data themselves.

    Args:
        config: its ``trainer`` is used.
        loggers: where to log.
        callbacks: what to call.
        folder: the run's; Lightning goes on from what an ``hpc_ckpt`` is in it, and finds none.

    Raises:
        ConfigError: Lightning refuses an argument.
    """
    keeps = any(isinstance(callback, Checkpoint) for callback in callbacks)
    silence_harmless_warnings()
    given = {"enable_progress_bar": False, "enable_model_summary": False, **config.trainer}
    try:
        trainer = pl.Trainer(
            **given,
            logger=loggers,
            callbacks=callbacks,
            default_root_dir=folder,
            enable_checkpointing=keeps,
            plugins=[CheckpointFiles(), *_cluster_environment(config)],
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from None
    check_strategy(trainer)
    return trainer


def _cluster_environment(config: Config) -> list[ClusterEnvironment]:
    """Return how the processes of a run are started, where that is not left to Lightning.

    A run of one process does not listen to another launcher's variables. Under SLURM whoever
    launched the run requeues it.
    """
    is_single = (
        config.trainer.get("devices") in (1, "1") and config.trainer.get("num_nodes", 1) == 1
    )
    if is_single:
        return [LightningEnvironment()]
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
