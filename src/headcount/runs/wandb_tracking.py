"""Where a run is followed.

``metrics.csv`` always, Weights & Biases where it can be, never at the run's cost.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

from headcount.config.schema import TrackingConfig
from headcount.evaluation.report import Report
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile
from headcount.runs.metrics_csv import MetricsFile
from headcount.terminal import print_line

# seconds that a run waits for W&B before it goes on offline; 30 pass by the clock
INIT_TIMEOUT = 20
# seconds that logging may take before a run goes on offline; W&B gives up on an answer after twice
# that
PATIENCE = 5
FINISH_TIMEOUT = 20  # seconds that the end of a run waits for what is still to be sent
# W&B's own step is this many times the training step, plus the number of the row at that step
ROWS = 10
WITHOUT = {"online": "offline", "offline": "disabled"}  # how a run goes on where W&B fails


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
    loggers: list[Logger] = [MetricsFile(folder)]
    before = dict(os.environ)
    os.environ.setdefault("WANDB_SILENT", "true")  # what it has to say is said here, in one line
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(2 * PATIENCE))
    os.environ |= {
        f"WANDB_{kind.upper()}_DIR": str(folder.resolve() / RunFile.WANDB / kind)
        for kind in ("data", "cache")
    }
    tracker = None
    try:
        mode = _mode(tracking, folder)
        if mode != "disabled":
            tracker = _start_tracker(tracking, folder, plain, job_type, mode)
        if tracker is not None:
            loggers.append(tracker)
        yield loggers
        for logger in loggers:
            logger.finalize("success")
        if tracker:
            tracker.finish(exit_code=0)
    finally:
        if tracker:
            tracker.finish(exit_code=1)  # does nothing where it is finished
        os.environ.clear()
        os.environ |= before


def _start_tracker(
    tracking: TrackingConfig, folder: Path, plain: dict[str, Any], job_type: str | None, mode: str
) -> "Tracker | None":
    """Return a W&B logger; None if W&B cannot even be disabled. The run is logged without it."""
    try:
        return Tracker(tracking, folder, plain, job_type, mode)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print_line(f"W&B: {reason}; this run is not tracked there, but in metrics.csv")
        return None


class Tracker(WandbLogger):
    """Logs to W&B: online, from its first failure on offline, and if that fails too no more.

    A row is numbered by its training step, so that a resumed run, which logs some steps again, has
    none of them twice.
    """

    def __init__(
        self,
        tracking: TrackingConfig,
        folder: Path,
        plain: dict[str, Any],
        job_type: str | None,
        mode: str,
    ) -> None:
        """Start the W&B run of a run folder; see ``track``."""
        self.begin = partial(_init, tracking, folder, plain, job_type)
        self.step, self.row = 0, 0
        self.mode, self.finished = mode, False
        super().__init__(experiment=self._start())

    def _start(self) -> wandb.Run:
        """Start in the mode that it is in, or else in the next one."""
        if self.mode == "disabled":
            return wandb.init(
                mode="disabled"
            )  # of the names and tags one may have been the reason
        try:
            run = self.begin(self.mode)
            run.define_metric("trainer/global_step")
            run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            return run
        except Exception as error:  # whatever keeps W&B away does not keep the run from training
            self._give_up(error)
            return self._start()

    def _give_up(self, reason: object) -> None:
        self.mode = WITHOUT[self.mode]
        how = (
            "tracked offline"
            if self.mode == "offline"
            else "not tracked there, but in metrics.csv"
        )
        said = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        print_line(f"W&B: {said}; this run is {how}")
        with suppress(Exception, SystemExit):  # its own process may be gone, or hold the run's id
            wandb.teardown()

    def attempt(self, action: Callable[[wandb.Run], object]) -> None:
        """Do something with the W&B run.

        Where it fails or takes long, offline from here on, and then no more.
        """
        run, began = self.experiment, time.monotonic()
        try:
            action(run)
            if self.mode != "online" or time.monotonic() - began < PATIENCE:
                return
            reason: object = f"no answer for {time.monotonic() - began:.0f} s"
        except Exception as error:
            if self.mode == "disabled":
                raise
            reason = error
        with suppress(Exception):
            run.finish(exit_code=1)
        self._give_up(reason)
        self._experiment = self._start()
        if isinstance(reason, Exception):
            self.attempt(action)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row at a training step; None: the step of the row before it."""
        if step is not None and step != self.step:
            self.step, self.row = step, 0
        at = ROWS * self.step + self.row
        self.row += 1
        row = {**metrics, "trainer/global_step": self.step}
        self.attempt(lambda run: run.log(row, step=at, commit=True))

    def log_html(self, name: str, path: Path) -> None:
        """Log a file of HTML as it is, at the step of the last row."""
        at = ROWS * self.step + self.row
        self.row += 1

        def log(run: wandb.Run) -> None:
            if self.mode == "disabled":  # where W&B would still copy the file, which can fail
                return
            row = {name: wandb.Html(path, inject=False), "trainer/global_step": self.step}
            run.log(row, step=at, commit=True)

        self.attempt(log)

    def finish(self, *, exit_code: int) -> None:
        """End the W&B run.

        What could not be sent within FINISH_TIMEOUT waits, see ``how_to_send``.
        """
        if self.finished:
            return
        self.finished = True
        run = self.experiment
        try:
            run.finish(exit_code=exit_code)
            if self.mode == "online":
                # as ``wandb sync`` does
                Path(run.settings.sync_file).with_suffix(".wandb.synced").touch()
        except Exception as error:
            print_line(
                f"W&B: not all of this run could be sent ({str(error) or type(error).__name__})"
            )


def how_to_send(folder: Path) -> str | None:
    """Return the command that sends what waits in a run folder to W&B, None where nothing does."""
    waiting = [
        file
        for file in folder.glob("wandb/*/*.wandb")
        if not file.with_suffix(".wandb.synced").exists()
    ]
    return f"wandb sync --include-online {folder / 'wandb'}" if waiting else None


def log_report(loggers: Sequence[Logger], report: Report, step: int) -> None:
    """Log the model's means; in W&B also a table of all systems, the signature and the alarms."""
    metrics = report.systems[0].metrics
    means = {f"test/{name}": found.mean for name, found in metrics.items() if found is not None}
    columns = ["system", "figure", "mean", "low", "high", "signature"]
    rows = [
        [system.name, name, found.mean, found.low, found.high, report.signature]
        for system in report.systems
        for name, found in system.metrics.items()
        if found is not None
    ]
    said = {"test/signature": report.signature, "test/alarms": report.alarms}
    for logger in loggers:
        logger.log_metrics(means, step)
        if isinstance(logger, Tracker):
            logger.attempt(lambda run: run.summary.update(said))
            logger.log_table("test/scores", columns=columns, data=rows)


def log_page(loggers: Sequence[Logger], path: Path) -> None:
    """Log the page of a training to W&B."""
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.log_html("attention", path)


def _users_mode() -> str:
    """Return the mode that a user has set for W&B itself.

    By the variables WANDB_DISABLED and WANDB_MODE, or by ``wandb offline`` and ``wandb disabled``,
    which write it into a settings file.
    """
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on"):
        return "disabled"
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    try:
        return str(wandb.setup().settings.mode)
    except Exception:  # whatever is wrong with the file, the run goes its way without it
        return "auto"


def _mode(tracking: TrackingConfig, folder: Path) -> str:
    """Return whether a run is to be online, offline or disabled.

    Says why, if that is less than what was asked for.
    """
    asked = _users_mode() if tracking.mode == "auto" else tracking.mode
    mode = {"disabled": "disabled", "offline": "offline", "dryrun": "offline"}.get(asked, "online")
    if mode == "disabled":
        return mode
    try:  # W&B itself would go to the system's temporary folder, where nobody looks
        kept = folder / RunFile.WANDB
        kept.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=kept):
            pass
    except OSError as error:
        print_line(
            f"W&B: {kept} cannot be written ({error.strerror}); this run is not tracked there, "
            "but in metrics.csv"
        )
        return "disabled"
    try:
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            print_line("W&B: no key is configured (wandb login); this run is tracked offline")
            return "offline"
    except Exception as error:
        print_line(
            f"W&B: the key cannot be used ({str(error).splitlines()[0]}); this run is tracked "
            "offline"
        )
        return "offline"
    return mode


def _init(
    tracking: TrackingConfig, folder: Path, plain: dict[str, Any], job_type: str | None, mode: str
) -> wandb.Run:
    """Start a W&B run, or go on with that of the run folder.

    What an agent of a sweep has set goes before ours. Only then: a run id that is left in a shell
    would merge all runs that are started from it.
    """
    is_agent = "WANDB_SWEEP_ID" in os.environ
    given = os.environ.get
    known = folder / RunFile.WANDB_ID
    before = known.read_text(encoding="utf-8") if known.exists() and job_type is None else ""
    identifier = before if re.fullmatch(r"[\w-]{1,64}", before) else token_hex(4)
    if is_agent:
        identifier = given("WANDB_RUN_ID") or identifier
    if mode != "disabled" and job_type is None:
        write_atomically(known, identifier)
    return wandb.init(
        mode=mode,  # type: ignore[arg-type]
        id=identifier,
        resume="allow",
        name=given("WANDB_NAME") or tracking.name or folder.name,
        project=given("WANDB_PROJECT") or tracking.project,
        entity=given("WANDB_ENTITY") or tracking.entity,
        group=given("WANDB_RUN_GROUP") or tracking.group,
        job_type=job_type,
        tags=tracking.tags,
        config=plain,
        dir=folder.resolve(),  # W&B's own process stays where it was started
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
        ),
    )
