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
from headcount.errors import ConfigError
from headcount.escape import hide_passwords
from headcount.evaluation.report import Report
from headcount.runs.files import name_damage, write_atomically
from headcount.runs.folder import RunFile, stable_path
from headcount.runs.metrics_csv import MetricsFile
from headcount.runs.wandb_tracking import track

# For each setting that needs an extra: one of these modules must be there.
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
    """Start the loggers of a training, and end them with the block.

    Args:
        config: of the run.
        folder: the locked run folder.
        facts: what is logged to W&B beside the config: the size of the model and what it costs.
        step: that the training resumes from; 0: a new one.
    """
    with ExitStack() as stack:
        metrics = MetricsFile(folder)
        loggers: list[Logger] = [metrics]
        wandb_config = {**as_dict(config), **facts}
        loggers += stack.enter_context(track(config.tracking, folder, wandb_config))

        # A logger that stays open would write later, when the folder is no longer locked.
        if config.loggers.tensorboard:
            loggers.append(stack.enter_context(_finalized(_tensorboard(folder, step))))
        if config.loggers.mlflow:
            loggers.append(stack.enter_context(_finalized(_mlflow(config.loggers, folder))))
        yield loggers
        metrics.finalize("success")


@contextmanager
def _finalized(logger: Logger) -> Iterator[Logger]:
    """Finalize a logger with the block, by its outcome."""
    status = "failed"
    try:
        yield logger
        status = "success"
    finally:
        logger.finalize(status)


def log_means(loggers: Sequence[Logger], report: Report, step: int) -> None:
    """Log the mean test scores of the model."""
    means = {}
    for name, found in report.systems[0].metrics.items():
        if found is not None:
            means[f"test/{name}"] = found.mean
    for logger in loggers:
        logger.log_metrics(means, step)


def _tensorboard(folder: Path, step: int) -> TensorBoardLogger:
    """Return a logger into the folder ``tensorboard`` of a run.

    TensorBoard hides what an interrupted training logged from the step on: it is logged again.
    """
    return TensorBoardLogger(
        stable_path(folder),
        name=RunFile.TENSORBOARD,
        version="",
        default_hp_metric=False,
        purge_step=step or None,
    )


def _mlflow(settings: LoggersConfig, folder: Path) -> MLFlowLogger:
    """Return a logger to an MLflow run, which a resumed training continues.

    Raises:
        ConfigError: there is no such server, it does not know the run, or the file with the run's
            id is damaged.
    """
    uri = settings.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = uri or f"sqlite:///{folder.resolve().parent / RunFile.MLFLOW_STORE}"

    # The id of an earlier start of this run.
    known = None
    identifier = folder / RunFile.MLFLOW_ID
    if identifier.is_file():
        with name_damage(identifier, "train"):
            known = identifier.read_text(encoding="utf-8").strip()

    # Asking for the id connects to the store.
    try:
        logger = MLFlowLogger(
            experiment_name=settings.mlflow_experiment,
            run_name=folder.resolve().name,
            tracking_uri=uri,
            run_id=known,
        )
        run_id = logger.run_id
    except Exception as error:  # of MLflow, its stores and its servers
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        message = f"loggers.mlflow_uri={uri}: MLflow cannot log there: {reason}"
        raise ConfigError(hide_passwords(message)) from None
    assert run_id is not None
    write_atomically(identifier, run_id)
    return logger
