"""Weights & Biases: what a run logs there, and how it continues when W&B fails.

A failure of W&B never stops a run. An online run continues offline under the same id, and an
offline one without W&B. ``metrics.csv`` has the metrics in any case.

A training is one W&B run, which a resumed training continues. ``evaluate``, ``heads`` and
``report`` are runs of their own with a job type; their config names the trainings they are about.
"""

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Any, Literal

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

from headcount.config.sections.evaluation import SelectionMetric
from headcount.config.sections.tracking import TrackingConfig
from headcount.escape import hide_passwords, map_texts
from headcount.evaluation.report import Report
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.runs.checkpoint import checkpoint_path
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile
from headcount.terminal import print_line

INIT_TIMEOUT = 20  # seconds until a start counts as failed; W&B itself takes 10 more to give up
PATIENCE = 5  # seconds that logging a row may take; W&B waits for an answer twice as long
FINISH_TIMEOUT = 20  # seconds that the end of a run waits for what is still to be sent

# W&B's own step is this many times the training step, plus the number of the row at that step.
ROWS_PER_STEP = 10
STEP = "trainer/global_step"  # Lightning's name of the x-axis
MAX_TABLE_ROWS = 1000  # of the table of test summaries

Mode = Literal["online", "offline", "disabled"]
NEXT_MODE: dict[Mode, Mode] = {"online": "offline", "offline": "disabled"}


@dataclass(frozen=True, kw_only=True)
class _Start:
    """What a W&B run is started with; see ``track``."""

    tracking: TrackingConfig
    folder: Path
    config: dict[str, Any]
    job_type: str | None
    trainings: Sequence[Path]


@contextmanager
def track(
    tracking: TrackingConfig,
    folder: Path,
    config: dict[str, Any],
    *,
    job_type: str | None = None,
    trainings: Sequence[Path] = (),
) -> Iterator[list["Tracker"]]:
    """Start the W&B run of a folder, and end it with the block.

    Args:
        tracking: the ``tracking`` section.
        folder: the run folder.
        config: all of it is logged, but for users and passwords in addresses.
        job_type: kind of a run that is not a training; None: a training.
        trainings: run folders that a run of another kind is about. Its config links to them.

    Yields:
        The logger; none if tracking is disabled.
    """
    start = _Start(
        tracking=tracking, folder=folder, config=config, job_type=job_type, trainings=trainings
    )
    tracker: Tracker | None = None
    earlier_environment = dict(os.environ)
    _set_environment(folder)
    try:
        mode = _choose_mode(tracking, folder)
        if mode != "disabled":
            tracker = _start_tracker(start, mode)
        yield [] if tracker is None else [tracker]

        if tracker is not None:
            tracker.finalize("success")
            tracker.finish(exit_code=0)
    finally:
        # After a success this does nothing: the run is finished.
        if tracker is not None:
            tracker.finish(exit_code=1)
        os.environ.clear()
        os.environ |= earlier_environment


def _set_environment(folder: Path) -> None:
    """Keep W&B quiet and impatient, and all of its files in the run folder."""
    os.environ.setdefault("WANDB_SILENT", "true")  # we print one line instead
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(2 * PATIENCE))
    for kind in ("data", "cache"):
        os.environ[f"WANDB_{kind.upper()}_DIR"] = str(folder.resolve() / RunFile.WANDB / kind)


def _start_tracker(start: _Start, mode: Mode) -> "Tracker | None":
    """Return a W&B logger; None if W&B cannot even be disabled."""
    try:
        return Tracker(start, mode)
    except Exception as error:
        reason = _first_line(error)
        print_line(f"W&B: {reason}; this run is not tracked there, but in metrics.csv")
        return None


class Tracker(WandbLogger):
    """Logs to W&B. At the first failure it continues offline, at the second one without W&B.

    Each row is numbered by its training step. A resumed training logs some steps again; W&B drops
    rows whose number it has, so no row appears twice.

    Args:
        start: what the W&B run is started with.
        mode: to start in.
    """

    def __init__(self, start: _Start, mode: Mode) -> None:
        self.start = start
        self.mode = mode
        self.is_finished = False
        self.step = 0  # training step of the last row
        self.row = 0  # number of the next row at that step
        super().__init__(experiment=self._start_run())

    def _start_run(self) -> wandb.Run:
        """Start the W&B run in the present mode, or in the next one if that fails."""
        if self.mode == "disabled":
            # Without names and tags: one of them may have been the reason of the failure.
            return wandb.init(mode="disabled")
        try:
            run = _init(self.start, self.mode)
            _define_metrics(run)
            return run
        except Exception as error:  # whatever it is, the training must not end
            self._leave_mode(error)
            return self._start_run()

    def _leave_mode(self, reason: object) -> None:
        """Change to the next mode, and print why."""
        self.mode = NEXT_MODE[self.mode]
        consequence = "not tracked there, but in metrics.csv"
        if self.mode == "offline":
            consequence = "tracked offline"
        print_line(f"W&B: {_first_line(reason)}; this run is {consequence}")

        # The process of W&B may have died, or hold the id of this run.
        with suppress(Exception, SystemExit):
            wandb.teardown()

    def attempt(self, action: Callable[[wandb.Run], object]) -> None:
        """Do something with the W&B run; if that fails or takes long, leave the present mode."""
        run = self.experiment
        started = time.monotonic()
        reason: object = None
        try:
            action(run)
        except Exception as error:
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
        """Log a row at a training step; None: the step of the row before it."""
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

        W&B writes each to the temporary folder of the system when it is made. If that is full, a
        line is printed, and the images are not logged.
        """
        try:
            super().log_image(key, images, step, **kwargs)
        except Exception as error:  # whatever it is, the training must not end
            print_line(f"W&B: {key} is not logged there ({_first_line(error)})")

    def log_html(self, name: str, path: Path) -> None:
        """Log an HTML file as it is, at the step of the last row."""
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

        What could not be sent within FINISH_TIMEOUT waits; see ``how_to_send``.
        """
        if self.is_finished:
            return
        self.is_finished = True
        run = self.experiment
        try:
            run.finish(exit_code=exit_code)
            if self.mode == "online":
                # As ``wandb sync`` marks what it has sent.
                Path(run.settings.sync_file).with_suffix(".wandb.synced").touch()
        except Exception as error:
            print_line(f"W&B: not all of this run could be sent ({_first_line(error)})")


def _first_line(reason: object) -> str:
    """Return the first line of a message; of an error without one, its type."""
    return (str(reason).strip() or type(reason).__name__).splitlines()[0]


def how_to_send(folder: Path) -> str | None:
    """Return the command that sends what waits in a run folder to W&B; None if nothing does."""
    files = folder.glob(f"{RunFile.WANDB}/*/*.wandb")
    waiting = [file for file in files if not file.with_suffix(".wandb.synced").exists()]
    return f"wandb sync --include-online {folder / RunFile.WANDB}" if waiting else None


# What is logged at the end of a run


def log_report(loggers: Sequence[Logger], report: Report) -> None:
    """Log a table of all systems, the signature and the alarms to W&B."""
    columns = ["system", "figure", "mean", "low", "high", "signature"]
    rows = []
    for system in report.systems:
        for name, found in system.metrics.items():
            if found is not None:
                estimate = [found.mean, found.low, found.high]
                rows.append([system.name, name, *estimate, report.signature])
    texts = {"test/signature": report.signature, "test/alarms": report.alarms}
    for tracker in _trackers(loggers):
        tracker.summarize(texts)
        tracker.log_table("test/scores", columns=columns, data=rows)


def log_summaries(loggers: Sequence[Logger], report: Report, predictions: Path) -> None:
    """Log a table of the first test summaries to W&B.

    Args:
        loggers: of the run.
        report: on these summaries; its first system is the model.
        predictions: ``predictions.jsonl``.
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
            # NaN: an example without such a metric.
            rows.append([*texts, *(None if math.isnan(score) else score for score in scores)])
    for tracker in trackers:
        tracker.log_table("test/summaries", columns=columns, data=rows)


def log_costs(loggers: Sequence[Logger], costs: Mapping[str, float | str]) -> None:
    """Add what a run cost to its summary in W&B, by the names in ``costs.json``."""
    for tracker in _trackers(loggers):
        tracker.summarize({f"costs/{name}": value for name, value in costs.items()})


def log_checkpoint(
    loggers: Sequence[Logger], folder: Path, metric: SelectionMetric, report: Report
) -> None:
    """Log the best checkpoint, its config and its tokenizer to W&B as an artifact.

    Args:
        loggers: of the run.
        folder: the run folder.
        metric: whose test score is stored with the artifact.
        report: on the test summaries.
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
    """Return the mode of a run. Prints why, if it is less than what was asked for."""
    asked = _users_mode() if tracking.mode == "auto" else tracking.mode
    if asked == "disabled":
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
    if asked in ("offline", "dryrun"):
        return "offline"

    try:
        has_key = wandb.login(prompt=False, verify=False)
    except Exception as error:
        reason = _first_line(error)
        print_line(f"W&B: the key cannot be used ({reason}); this run is tracked offline")
        return "offline"
    if not has_key:
        print_line("W&B: no key is configured (wandb login); this run is tracked offline")
        return "offline"
    return "online"


def _users_mode() -> str:
    """Return the mode that a user has set in W&B itself.

    The variables WANDB_DISABLED and WANDB_MODE come first, then the settings file that ``wandb
    offline`` and ``wandb disabled`` write.
    """
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on"):
        return "disabled"
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    try:
        return str(wandb.setup().settings.mode)
    except Exception:  # a settings file that W&B rejects must not stop the run
        return "auto"


def _init(start: _Start, mode: Mode) -> wandb.Run:
    """Start a W&B run, or continue that of the run folder.

    Variables of a sweep's agent override the config.
    """
    # An evaluation or analysis is named after the training, too.
    tracking = start.tracking
    given = os.environ.get
    name = start.folder.name
    if start.trainings:
        name = f"{start.trainings[0].resolve().name}/{name}"

    run = wandb.init(
        mode=mode,
        id=_choose_id(start, mode),
        resume="allow",
        name=given("WANDB_NAME") or tracking.name or name,
        project=given("WANDB_PROJECT") or tracking.project,
        entity=given("WANDB_ENTITY") or tracking.entity,
        group=given("WANDB_RUN_GROUP") or tracking.group,
        job_type=start.job_type,
        tags=tracking.tags,
        config=map_texts(hide_passwords, start.config),
        dir=start.folder.resolve(),  # W&B's process has a current folder of its own
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
        ),
    )

    # A link has an address if the run is online; W&B warns where an offline run is asked for it.
    project_url = None if run.offline else run.project_url
    if links := _links(start.trainings, project_url):
        run.config.update({"trainings": links})
    return run


def _choose_id(start: _Start, mode: Mode) -> str:
    """Return the id of a W&B run, and note that of a training in its folder."""
    if start.job_type is not None:
        return token_hex(4)
    identifier = _known_id(start.folder) or token_hex(4)

    # Only of an agent: an id that is left in a shell would merge all runs started from there.
    if "WANDB_SWEEP_ID" in os.environ:
        identifier = os.environ.get("WANDB_RUN_ID") or identifier
    if mode != "disabled":
        write_atomically(start.folder / RunFile.WANDB_ID, identifier)
    return identifier


def _known_id(folder: Path) -> str | None:
    """Return the id of a training's W&B run; None if it has none, or a file holds no id."""
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
