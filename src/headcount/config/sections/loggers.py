"""The section ``loggers`` of a config."""

from __future__ import annotations

from dataclasses import dataclass

from headcount.config.section import Section, key


@dataclass(frozen=True, kw_only=True)
class LoggersConfig(Section):
    """Loggers of a training beside ``metrics.csv`` and W&B, see ``tracking``."""

    tensorboard: bool = key(
        False, "log to the folder tensorboard of the run; needs headcount[tensorboard]"
    )
    mlflow: bool = key(False, "log to MLflow; needs headcount[mlflow]")
    mlflow_uri: str | None = key(
        None, "MLflow store or server; null: MLFLOW_TRACKING_URI, or mlflow.db beside the run"
    )
    mlflow_experiment: str = key("headcount", "MLflow experiment")
