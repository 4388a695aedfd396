"""Logging to Weights & Biases, whose failures never stop a run.

When W&B fails, an online run continues offline under the same id, and an offline run without W&B.
``metrics.csv`` has the metrics in any case.

A training is one W&B run, which a resumed training continues. ``evaluate``, ``heads`` and
``report`` are separate W&B runs with a job type; their config links to the trainings that they
evaluate or describe.
"""

import json
import math
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Any, Literal

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

from headcount.config.schema import Config
from headcount.config.sections.evaluation import SelectionMetric
from headcount.config.sections.tracking import TrackingConfig
from headcount.errors import first_line
from headcount.escape import hide_passwords, map_texts
from headcount.evaluation.report import ScoreReport
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.runs.checkpoint import checkpoint_path
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile, load_run_config
from headcount.terminal import print_line

INIT_TIMEOUT = 20  # seconds until a start counts as failed; W&B itself takes 10 more to give up
PATIENCE = 5  # seconds that logging a row may take; W&B waits for an answer twice as long
FINISH_TIMEOUT = 20  # seconds that the end of a run waits until all is sent

# W&B's own step is this many times the training step, plus the number of the row at that step.
ROWS_PER_STEP = 10
STEP = "trainer/global_step"  # Lightning's name of the x-axis
MAX_TABLE_ROWS = 1000  # largest number of test summaries in the table

Mode = Literal["online", "offline", "disabled"]
NEXT_MODE: dict[Mode, Mode] = {"online": "offline", "offline": "disabled"}


@dataclass(frozen=True, kw_only=True)
class _RunArguments:
    """The arguments of ``track``. A W&B run is started with them, and again in another mode."""

    tracking: TrackingConfig
    folder: Path
    config: dict[str, Any]
    job_type: str | None
    trainings: Sequence[Path]


def tracking_after_training(config: Config, run: Path) -> TrackingConfig:
    """Return the ``tracking`` section for a W&B run that evaluates or describes a training.

    The name in the training's config is that of the training; only a change of it names the other.

    Args:
        config: the run's config, with changes.
        run: the run folder of the training, or its export.
    """
    name = config.tracking.name
    if name == load_run_config(run, []).tracking.name:
        name = None
    return replace(config.tracking, name=name)


@contextmanager
def track(
    tracking: TrackingConfig,
    folder: Path,
    config: dict[str, Any],
    *,
    job_type: str | None = None,
    trainings: Sequence[Path] = (),
) -> Iterator[list["Tracker"]]:
    """Start the W&B run of a folder, and finish it at the end of the block.

    Args:
        tracking: the ``tracking`` section.
        folder: the run folder.
        config: logged as the config of the W&B run, without users and passwords in URLs.
        job_type: kind of a run that is not a training; None: a training.
        trainings: run folders of the trainings that a run of another kind evaluates or describes.

    Yields:
        A list of one logger; empty if tracking is disabled.
    """
    arguments = _RunArguments(
        tracking=tracking, folder=folder, config=config, job_type=job_type, trainings=trainings
    )
    tracker: Tracker | None = None

    # W&B is configured by variables, which must not reach what this process starts later.
    earlier_environment = dict(os.environ)
    _set_environment(folder)
    try:
        mode = _choose_mode(tracking, folder)
        if mode != "disabled":
            tracker = _start_tracker(arguments, mode)
        yield [] if tracker is None else [tracker]

        if tracker is not None:
            tracker.finalize("success")
            tracker.finish(exit_code=0)
    finally:
        # After a success the run is finished, and this does nothing.
        if tracker is not None:
            tracker.finish(exit_code=1)
        os.environ.clear()
        os.environ |= earlier_environment


def _set_environment(folder: Path) -> None:
    """Silence W&B, shorten its timeout, and put all of its files into the run folder."""
    os.environ.setdefault("WANDB_SILENT", "true")  # we print one line instead
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(2 * PATIENCE))
    for kind in ("data", "cache"):
        os.environ[f"WANDB_{kind.upper()}_DIR"] = str(folder.resolve() / RunFile.WANDB / kind)


def _start_tracker(arguments: _RunArguments, mode: Mode) -> "Tracker | None":
    """Return a W&B logger; None if W&B cannot be started in any mode."""
    try:
        return Tracker(arguments, mode)
    except Exception as error:  # W&B must not stop the run, whatever fails in it
        reason = first_line(error)
        print_line(f"W&B: {reason}; this run is not tracked there, but in metrics.csv")
        return None


class Tracker(WandbLogger):
    """Logs to W&B. After a first failure it continues offline, after a second one without W&B.

    The numbers of rows follow from their training steps. A resumed training logs some steps again;
    W&B drops a row with a number that it has, so no row appears twice.

    Args:
        arguments: of the W&B run.
        mode: the mode to start in.
    """

    def __init__(self, arguments: _RunArguments, mode: Mode) -> None:
        self.arguments = arguments
        self.mode = mode
        self.is_finished = False
        self.step = 0  # training step of the last row
        self.row = 0  # number of the next row at that step
        super().__init__(experiment=self._start_run())

    def _start_run(self) -> wandb.Run:
        """Start the W&B run in the present mode, or in the next one if that fails."""
        if self.mode == "disabled":
            # Without names and tags: one of them may have caused the failure.
            return wandb.init(mode="disabled")
        try:
            run = _init(self.arguments, self.mode)
            _define_metrics(run)
            return run
        except Exception as error:  # W&B must not stop the run, whatever fails in it
            self._leave_mode(error)
            return self._start_run()

    def _leave_mode(self, reason: object) -> None:
        """Change to the next mode, and print why."""
        self.mode = NEXT_MODE[self.mode]
        consequence = "not tracked there, but in metrics.csv"
        if self.mode == "offline":
            consequence = "tracked offline"
        print_line(f"W&B: {first_line(reason)}; this run is {consequence}")

        # W&B's service process may have died, or may still hold the id of this run.
        with suppress(Exception, SystemExit):
            wandb.teardown()

    def attempt(self, action: Callable[[wandb.Run], object]) -> None:
        """Call a function with the W&B run. If it fails or takes too long, leave the present mode.

        After a failure it is called again in the next mode; after a timeout it has succeeded.
        """
        run = self.experiment
        started = time.monotonic()
        reason: object = None
        try:
            action(run)
        except Exception as error:  # W&B must not stop the run, whatever fails in it
            if self.mode == "disabled":
                raise
            reason = error
        seconds = time.monotonic() - started
        if reason is None and (self.mode != "online" or seconds < PATIENCE):
            return

        # End this run, and start it again in the next mode.
        with suppress(Exception):
            run.finish(exit_code=1)
        self._leave_mode(reason or f"no answer for {seconds:.0f} s")
        self._experiment = self._start_run()
        if reason is not None:
            self.attempt(action)

    def log_hyperparams(self, *_: Any) -> None:
        """Do nothing: the config was logged when the run was started."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row at a training step; None: the step of the previous row."""
        if step is not None and step != self.step:
            self.step = step
            self.row = 0
        row = {**metrics, STEP: self.step}
        number = self._next_number()
        self.attempt(lambda run: run.log(row, step=number, commit=True))

    def log_image(
        self, key: str, images: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Log images as Lightning does.

        W&B writes each image to the system's temporary folder. If that is full, the images are not
        logged, and a line is printed.
        """
        try:
            super().log_image(key, images, step, **kwargs)
        except Exception as error:  # W&B must not stop the run, whatever fails in it
            print_line(f"W&B: {key} is not logged there ({first_line(error)})")

    def log_html(self, name: str, path: Path) -> None:
        """Log an HTML file unchanged, at the step of the last row."""
        number = self._next_number()

        def log(run: wandb.Run) -> None:
            # A disabled run would still copy the file, which can fail.
            if self.mode != "disabled":
                page = wandb.Html(path, inject=False)
                run.log({name: page, STEP: self.step}, step=number, commit=True)

        self.attempt(log)

    def log_files(self, files: Sequence[Path], metadata: Mapping[str, Any]) -> None:
        """Log files of a model as an artifact, ``model-ID`` with the alias ``best``."""

        def log(run: wandb.Run) -> None:
            if self.mode == "disabled":
                return
            artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=dict(metadata))
            for file in files:
                artifact.add_file(str(file), name=file.name)
            run.log_artifact(artifact, aliases=["best"])

        self.attempt(log)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        self.attempt(lambda run: run.summary.update(dict(values)))

    def _next_number(self) -> int:
        """Return W&B's own step for the next row."""
        number = ROWS_PER_STEP * self.step + self.row
        self.row += 1
        return number

    def finish(self, *, exit_code: int) -> None:
        """End the W&B run.

        What cannot be sent within ``FINISH_TIMEOUT`` seconds is kept; see ``sync_command``.
        """
        if self.is_finished:
            return
        self.is_finished = True
        run = self.experiment
        try:
            run.finish(exit_code=exit_code)
            if self.mode == "online":
                # ``wandb sync`` marks a run that is sent by the same file.
                Path(run.settings.sync_file).with_suffix(".wandb.synced").touch()
        except Exception as error:  # W&B must not stop the run, whatever fails in it
            print_line(f"W&B: not all of this run could be sent ({first_line(error)})")


def sync_command(folder: Path) -> str | None:
    """Return the command that sends unsent data of a run folder to W&B, quoted for a shell; None
    if all is sent."""
    files = folder.glob(f"{RunFile.WANDB}/*/*.wandb")
    unsent = [file for file in files if not file.with_suffix(".wandb.synced").exists()]
    if not unsent:
        return None
    return shlex.join(["wandb", "sync", "--include-online", str(folder / RunFile.WANDB)])


# What is logged at the end of a run


def log_report(loggers: Sequence[Logger], report: ScoreReport) -> None:
    """Log a table of all systems, the signature and the alarms to W&B."""
    columns = ["system", "metric", "mean", "low", "high", "signature"]
    rows = []
    for system in report.systems:
        for name, estimate in system.metrics.items():
            if estimate is not None:
                numbers = [estimate.mean, estimate.low, estimate.high]
                rows.append([system.name, name, *numbers, report.signature])
    texts = {"test/signature": report.signature, "test/alarms": report.alarms}
    for tracker in _trackers(loggers):
        tracker.summarize(texts)
        tracker.log_table("test/scores", columns=columns, data=rows)


def log_summaries(loggers: Sequence[Logger], report: ScoreReport, predictions: Path) -> None:
    """Log a table of the first test summaries to W&B.

    Args:
        loggers: loggers of the run.
        report: scores of these summaries; its first system is the model.
        predictions: path of ``predictions.jsonl``.
    """
    trackers = list(_trackers(loggers))
    if not trackers:
        return

    columns = ["id", "document", "references", "summary", *EXAMPLE_METRICS]
    rows = []
    values = report.systems[0].values.tolist()
    with predictions.open(encoding="utf-8") as lines:
        for line, scores in zip(lines, values[:MAX_TABLE_ROWS], strict=False):
            row = json.loads(line)
            texts = [row["id"], row["document"], "\n".join(row["references"]), row["summary"]]
            # NaN: the example does not have the metric.
            rows.append([*texts, *(None if math.isnan(score) else score for score in scores)])
    for tracker in trackers:
        tracker.log_table("test/summaries", columns=columns, data=rows)


def log_costs(loggers: Sequence[Logger], costs: Mapping[str, float | str]) -> None:
    """Add what a run cost to its summary in W&B, by the names in ``costs.json``."""
    for tracker in _trackers(loggers):
        tracker.summarize({f"costs/{name}": value for name, value in costs.items()})


def log_checkpoint(
    loggers: Sequence[Logger], folder: Path, metric: SelectionMetric, report: ScoreReport
) -> None:
    """Log the best checkpoint, its config and its tokenizer to W&B as an artifact.

    Args:
        loggers: loggers of the run.
        folder: the run folder.
        metric: the metric whose test score is stored with the artifact.
        report: scores of the test summaries.
    """
    files = [checkpoint_path(folder, "best"), folder / RunFile.CONFIG, folder / RunFile.TOKENIZER]
    score = report.systems[0].mean(metric)
    for tracker in _trackers(loggers):
        tracker.log_files(files, {f"test/{metric}": score, "signature": report.signature})


def log_page(loggers: Sequence[Logger], path: Path) -> None:
    """Log the page of a training to W&B."""
    for tracker in _trackers(loggers):
        tracker.log_html("attention", path)


def _trackers(loggers: Sequence[Logger]) -> Iterator[Tracker]:
    for logger in loggers:
        if isinstance(logger, Tracker):
            yield logger


# How a run is started


def _choose_mode(tracking: TrackingConfig, folder: Path) -> Mode:
    """Return the mode of a run, and print why if it is not the configured one."""
    configured = _users_mode() if tracking.mode == "auto" else tracking.mode
    if configured == "disabled":
        return "disabled"

    # If this folder cannot be written, W&B would silently use the system's temporary folder.
    wandb_folder = folder / RunFile.WANDB
    try:
        wandb_folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=wandb_folder):
            pass
    except OSError as error:
        print_line(
            f"W&B: {wandb_folder} cannot be written ({error.strerror}); this run is not tracked "
            "there, but in metrics.csv"
        )
        return "disabled"
    if configured in ("offline", "dryrun"):
        return "offline"

    # An online run needs a key. Whether the server accepts it is found out at the start of the
    # run.
    try:
        has_key = wandb.login(prompt=False, verify=False)
    except Exception as error:  # W&B must not stop the run, whatever fails in it
        reason = first_line(error)
        print_line(f"W&B: the key cannot be used ({reason}); this run is tracked offline")
        return "offline"
    if not has_key:
        print_line("W&B: no key is configured (wandb login); this run is tracked offline")
        return "offline"
    return "online"


def _users_mode() -> str:
    """Return the mode that the user has configured in W&B itself.

    The variables WANDB_DISABLED and WANDB_MODE override the settings file, which ``wandb offline``
    and ``wandb disabled`` write.
    """
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on"):
        return "disabled"
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    try:
        return str(wandb.setup().settings.mode)
    except Exception:  # a settings file that W&B rejects must not stop the run
        return "auto"


def _init(arguments: _RunArguments, mode: Mode) -> wandb.Run:
    """Start a W&B run, or continue that of the run folder.

    Environment variables, such as those of a sweep's agent, override the config.
    """
    tracking = arguments.tracking
    variable = os.environ.get

    # The name of an evaluation or analysis begins with that of the training.
    name = arguments.folder.name
    if arguments.trainings:
        name = f"{arguments.trainings[0].resolve().name}/{name}"

    run = wandb.init(
        mode=mode,
        id=_choose_id(arguments, mode),
        resume="allow",
        name=variable("WANDB_NAME") or tracking.name or name,
        project=variable("WANDB_PROJECT") or tracking.project,
        entity=variable("WANDB_ENTITY") or tracking.entity,
        group=variable("WANDB_RUN_GROUP") or tracking.group,
        job_type=arguments.job_type,
        tags=tracking.tags,
        config=map_texts(hide_passwords, arguments.config),
        dir=arguments.folder.resolve(),  # W&B's process has a current folder of its own
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
        ),
    )

    # Links have a URL if the run is online; reading that of an offline run makes W&B warn.
    project_url = None if run.offline else run.project_url
    if links := _links(arguments.trainings, project_url):
        run.config.update({"trainings": links})
    return run


def _choose_id(arguments: _RunArguments, mode: Mode) -> str:
    """Return the id of a W&B run, and store that of a training in its folder."""
    if arguments.job_type is not None:
        return token_hex(4)
    identifier = _known_id(arguments.folder) or token_hex(4)

    # An id from the environment counts only in a sweep. One that was left in a shell would make
    # all trainings that are started there the same W&B run.
    if "WANDB_SWEEP_ID" in os.environ:
        identifier = os.environ.get("WANDB_RUN_ID") or identifier
    if mode != "disabled":
        write_atomically(arguments.folder / RunFile.WANDB_ID, identifier)
    return identifier


def _known_id(folder: Path) -> str | None:
    """Return the id of a training's W&B run; None if it has none, or its file is not readable."""
    try:
        identifier = (folder / RunFile.WANDB_ID).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return identifier if re.fullmatch(r"[\w-]{1,64}", identifier) else None


def _links(trainings: Sequence[Path], project_url: str | None) -> list[dict[str, str]]:
    """Return for each training the name of its folder and, if it was tracked, its W&B run."""
    links = []
    for folder in trainings:
        link = {"folder": folder.resolve().name}
        if identifier := _known_id(folder):
            link["id"] = identifier
            if project_url:
                link["url"] = f"{project_url}/runs/{identifier}"
        links.append(link)
    return links


def _define_metrics(run: wandb.Run) -> None:
    """Let the training step be the x-axis, and keep the best and the last value of each metric.

    W&B calls them ``validation/rougeL.max`` and ``validation/rougeL.last`` in the summary.
    """
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    for metric in ("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf", "token_accuracy"):
        run.define_metric(f"validation/{metric}", step_metric=STEP, summary="max,last")
    for metric in ("train/loss", "validation/loss"):
        run.define_metric(metric, step_metric=STEP, summary="min,last")
