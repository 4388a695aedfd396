"""The loggers of a training: ``metrics.csv`` and W&B, and those of the ``loggers`` section.

TensorBoard and MLflow are Lightning's own loggers. Their packages are extras.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger

from headcount.config.load import as_dict
from headcount.config.schema import Config
from headcount.config.sections.loggers import LoggersConfig
from headcount.errors import ConfigError, first_line
from headcount.escape import hide_passwords
from headcount.evaluation.report import ScoreReport
from headcount.runs.files import damage_as_config_error, write_atomically
from headcount.runs.folder import RunFile, stable_path
from headcount.runs.metrics_csv import MetricsFile
from headcount.runs.wandb_tracking import track

# Settings that need an extra, and modules of which one must be installed.
EXTRAS = {
    "loggers.tensorboard": ("tensorboard", "tensorboardX"),
    "loggers.mlflow": ("mlflow",),
    "callbacks.device_stats": ("psutil",),
}


def check_extras(config: Config) -> None:
    """Check that the packages of loggers and callbacks are installed.

    Raises:
        ConfigError: one is missing; the message names the extra.
    """
    for key, modules in EXTRAS.items():
        section, name = key.split(".")
        is_wanted = getattr(getattr(config, section), name)
        if is_wanted and not any(find_spec(module) for module in modules):
            extra = name.replace("_", "-")
            raise ConfigError(
                f"{key}=True needs the package {modules[0]}; legal: False, or pip install "
                f"'headcount[{extra}]'"
            )


@contextmanager
def start_loggers(
    config: Config, folder: Path, facts: dict[str, Any], step: int
) -> Iterator[list[Logger]]:
    """Start the loggers of a training, and finalize them at the end of the block.

    Args:
        config: config of the run.
        folder: the locked run folder.
        facts: size and cost of the model, which W&B gets in addition to the config.
        step: step from which the training resumes; 0: a new training.
    """
    with ExitStack() as stack:
        metrics = MetricsFile(folder)
        loggers: list[Logger] = [metrics]
        wandb_config = {**as_dict(config), **facts}
        loggers += stack.enter_context(track(config.tracking, folder, wandb_config))

        # Finalize them before the lock is released: an open logger may write at any time.
        if config.loggers.tensorboard:
            loggers.append(stack.enter_context(_finalized(_tensorboard(folder, step))))
        if config.loggers.mlflow:
            loggers.append(stack.enter_context(_finalized(_mlflow(config.loggers, folder))))
        yield loggers
        metrics.finalize("success")


@contextmanager
def _finalized(logger: Logger) -> Iterator[Logger]:
    """Finalize a logger at the end of the block, as successful or failed."""
    status = "failed"
    try:
        yield logger
        status = "success"
    finally:
        logger.finalize(status)


def log_means(loggers: Sequence[Logger], report: ScoreReport, step: int) -> None:
    """Log the mean test scores of the model."""
    means = {}
    for name, estimate in report.systems[0].metrics.items():
        if estimate is not None:
            means[f"test/{name}"] = estimate.mean
    for logger in loggers:
        logger.log_metrics(means, step)


def _tensorboard(folder: Path, step: int) -> TensorBoardLogger:
    """Return a logger that writes into the folder ``tensorboard`` of a run.

    ``purge_step`` makes TensorBoard hide what an interrupted training logged from that step on,
    because the resumed training logs it again: everything, if it had no checkpoint.
    """
    return TensorBoardLogger(
        stable_path(folder),
        name=RunFile.TENSORBOARD,
        version="",
        default_hp_metric=False,
        purge_step=step,
    )


def _mlflow(settings: LoggersConfig, folder: Path) -> MLFlowLogger:
    """Return a logger for an MLflow run, which a resumed training continues.

    Raises:
        ConfigError: the server cannot be reached, does not know the run, or the file with the id
            of the run is damaged.
    """
    uri = settings.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = uri or f"sqlite:///{folder.resolve().parent / RunFile.MLFLOW_STORE}"

    # A resumed training has stored the id of its MLflow run.
    known_id = None
    id_file = folder / RunFile.MLFLOW_ID
    if id_file.is_file():
        with damage_as_config_error(id_file, "train"):
            known_id = id_file.read_text(encoding="utf-8").strip()

    # The logger connects to the store when its id is first read.
    try:
        logger = MLFlowLogger(
            experiment_name=settings.mlflow_experiment,
            run_name=folder.resolve().name,
            tracking_uri=uri,
            run_id=known_id,
        )
        run_id = logger.run_id
    except Exception as error:  # MLflow, its stores and its servers each raise their own
        message = f"loggers.mlflow_uri={uri}: MLflow cannot log there: {first_line(error)}"
        raise ConfigError(hide_passwords(message)) from None
    assert run_id is not None
    write_atomically(id_file, run_id)
    return logger
