"""Makes Lightning's Trainer from the config, and silences its warnings that are harmless here."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.lsf import LSFEnvironment
from lightning_fabric.plugins.environments.mpi import MPIEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import PyTorchProfiler

from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.runs.checkpoint import CheckpointFiles
from headcount.runs.folder import RunFile
from headcount.training.lightning_private import ShardingOnCPU
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
LAUNCHERS = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
LAUNCHER_VARIABLES = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_PORT")
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
    """Make the Trainer of a config.

    Args:
        config: its ``trainer`` section is used.
        loggers: where to log.
        callbacks: what to call. Checkpoints are enabled if one of them is a ``Checkpoint``.
        folder: the run folder, where a trace of torch's profiler is written. Lightning would
            resume from an ``hpc_ckpt`` file in its root folder, and finds none there.

    Raises:
        ConfigError: Lightning rejects an argument.
    """
    silence_harmless_warnings()
    defaults = {"enable_progress_bar": False, "enable_model_summary": False}
    try:
        trainer = pl.Trainer(
            **{**defaults, **config.trainer, **_sharding(config)},
            logger=loggers,
            callbacks=callbacks,
            default_root_dir=folder,
            enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
            plugins=[CheckpointFiles(), *_cluster_environment(config)],
            use_distributed_sampler=False,  # our loaders share the data themselves
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise _rejected(error) from None
    check_strategy(trainer)
    _check_started_processes(trainer)

    # Without a folder the profiler of torch writes no trace, and only warns.
    profiler = getattr(trainer, "profiler", None)
    if folder is not None and isinstance(profiler, PyTorchProfiler):
        profiler.dirpath = folder / RunFile.PROFILER

    # Lightning would decode the first batches, which are the longest. The data module takes a
    # random sample of as many instead. A fast_dev_run is to meet the longest.
    if not config.trainer.get("fast_dev_run"):
        trainer.limit_predict_batches = 1.0
        if trainer.limit_val_batches:
            trainer.limit_val_batches = 1.0
    return trainer


@contextmanager
def rejections_as_config_errors() -> Iterator[None]:
    """Report what Lightning rejects only while it trains or predicts as a mistake in the config.

    Raises:
        ConfigError: Lightning rejected an argument, in one line.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise _rejected(error) from None


def _rejected(error: Exception) -> ConfigError:
    return ConfigError(f"trainer: {' '.join(str(error).split())}")


def _sharding(config: Config) -> dict[str, ShardingOnCPU]:
    """Return the strategy of FSDP on a CPU, which Lightning rejects by its name; else nothing."""
    has_gpu = config.trainer.get("accelerator", "auto") != "cpu" and torch.cuda.is_available()
    if config.trainer.get("strategy") != "fsdp" or has_gpu:
        return {}
    return {"strategy": ShardingOnCPU()}


def _cluster_environment(config: Config) -> list[ClusterEnvironment]:
    """Return how the ranks of a run are started, where that is not left to Lightning.

    A run of one process ignores the variables of another launcher. Under SLURM whoever launched
    the run requeues it.

    Raises:
        ConfigError: a variable of a launcher is no number.
    """
    trainer = config.trainer
    is_one_node = trainer.get("num_nodes", 1) == 1
    if trainer.get("devices") in (1, "1") and is_one_node:
        return [LightningEnvironment()]
    if any(environment.detect() for environment in LAUNCHERS):
        return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    if is_one_node:
        _forget_other_launchers()
    _check_launcher_variables()
    return []


def _check_started_processes(trainer: pl.Trainer) -> None:
    """Check that a launcher starts as many processes as the config has devices.

    Raises:
        ConfigError: it starts others: the training would use only some of the devices.
    """
    needed = trainer.num_devices * trainer.num_nodes
    if trainer.world_size != needed:
        raise ConfigError(
            f"trainer.devices={trainer.num_devices} and trainer.num_nodes={trainer.num_nodes} "
            f"need {needed} processes, and the launcher has started {trainer.world_size}; legal: "
            f"as many, for SLURM srun --ntasks-per-node={trainer.num_devices}"
        )


def _forget_other_launchers() -> None:
    """Remove what another launcher has left in the environment, unless it starts these ranks.

    Ranks that are started from outside need an agreed port. Without one, ``LOCAL_RANK`` or
    ``NODE_RANK`` are of somebody else, and each process would wait for others that never come.
    """
    if not {"LOCAL_RANK", "MASTER_PORT"} <= os.environ.keys():
        for name in LAUNCHER_VARIABLES:
            os.environ.pop(name, None)
        os.environ.pop("MASTER_ADDR", None)


def _check_launcher_variables() -> None:
    for name in LAUNCHER_VARIABLES:
        value = os.environ.get(name, "0")
        if not value.isdecimal():
            raise ConfigError(
                f"environment variable {name}={value}: not a number; legal: that of the launcher "
                "of several processes, or none"
            )
