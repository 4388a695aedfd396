"""Where a run is followed: ``metrics.csv`` always, Weights & Biases where it can be, never at the run's cost."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

from headcount.config import TrackingConfig
from headcount.evaluation.report import Report
from headcount.training.metrics import MetricsFile

INIT_TIMEOUT = 30  # seconds that a run waits for W&B before it goes on offline


@contextmanager
def track(
    tracking: TrackingConfig, folder: Path, plain: dict[str, Any], *, job_type: str | None = None
) -> Iterator[list[Logger]]:
    """Start the loggers of a run and end them with it.

    Args:
        tracking: the ``tracking`` section.
        folder: the run folder.
        plain: the resolved config; all of it is logged.
        job_type: by which W&B tells what is no training from what is one.

    Yields:
        ``metrics.csv``, and a W&B logger unless tracking is disabled.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # what it has to say is said here, in one line
    wandb.setup()  # reads that
    loggers: list[Logger] = [MetricsFile(folder)]
    mode = _mode(tracking)
    if mode == "online":
        try:
            loggers.append(_start(tracking, folder, plain, job_type, offline=False))
        except Exception as error:  # whatever keeps W&B away does not keep the run from training
            print(f"W&B: cannot reach it ({str(error).splitlines()[0]}); this run is tracked offline")
            mode = "offline"
    if mode == "offline":
        loggers.append(_start(tracking, folder, plain, job_type, offline=True))
    exit_code = 1
    try:
        yield loggers
        for logger in loggers:
            logger.finalize("success")
        exit_code = 0
    finally:
        wandb.finish(exit_code=exit_code)


def offline_run(folder: Path) -> Path | None:
    """Return the folder of the offline W&B run that waits within a run folder, if there is one."""
    return next(iter(sorted((folder / "wandb").glob("offline-run-*"))), None)


def log_report(loggers: Sequence[Logger], report: Report, step: int) -> None:
    """Log the model's means; in W&B also a table of all systems, the signature and the alarms."""
    figures = report.systems[0].figures
    means = {f"test/{name}": figure.mean for name, figure in figures.items() if figure is not None}
    columns = ["system", "figure", "mean", "low", "high", "signature"]
    rows = [
        [system.name, name, figure.mean, figure.low, figure.high, report.signature]
        for system in report.systems
        for name, figure in system.figures.items()
        if figure is not None
    ]
    for logger in loggers:
        logger.log_metrics(means, step)
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({"test/signature": report.signature, "test/alarms": report.alarms})
            logger.log_table("test/scores", columns=columns, data=rows)


def _mode(tracking: TrackingConfig) -> str:
    mode = os.environ.get("WANDB_MODE", tracking.mode) if tracking.mode == "auto" else tracking.mode
    if mode != "auto":
        return mode
    try:
        if wandb.login(prompt=False):
            return "online"
        print("W&B: no key is configured (wandb login); this run is tracked offline")
    except wandb.Error as error:
        print(f"W&B: the key cannot be used ({error}); this run is tracked offline")
    return "offline"


def _start(
    tracking: TrackingConfig, folder: Path, plain: dict[str, Any], job_type: str | None, *, offline: bool
) -> WandbLogger:
    logger = WandbLogger(
        name=tracking.name or folder.name,
        save_dir=folder.resolve(),  # W&B's own process stays where it was started
        project=tracking.project,
        offline=offline,
        entity=tracking.entity,
        group=tracking.group,
        job_type=job_type,
        tags=tracking.tags,
        config=plain,
        settings=wandb.Settings(
            mode="offline" if offline else "online",
            silent=True,
            console="off",
            init_timeout=INIT_TIMEOUT,
            finish_timeout=60,
        ),
    )
    _ = logger.experiment  # this starts the run, here, where a failure is met
    return logger
