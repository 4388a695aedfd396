"""The command that trains.

A run folder holds ``config.yaml``, ``data.json`` (what the data is made of), ``audit.json`` and
``lengths.png`` (what is in it), ``tokenizer.json``, ``checkpoints/``, ``metrics.csv``,
``costs.json`` (see ``costs``), what an evaluation leaves (see ``evaluate``), ``wandb/`` and
``wandb_id`` (by which W&B knows it), and, when all that is there, ``finished``. ``parts/`` has the
test summaries until they are complete, ``not_finite.json`` what made a loss that is no number,
until the run goes on. ``.lock`` is held by the process that trains.
"""

import errno
import json
import shutil
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from headcount.commands.evaluate import score_test
from headcount.config.load import as_dict, to_yaml
from headcount.config.paths import user_path
from headcount.config.schema import Config, RunConfig
from headcount.data.cache import DIGESTS
from headcount.errors import RunError
from headcount.runs.checkpoint import checkpoint_path, clear, last_good
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile, create_numbered_folder, find_run, lock_folder
from headcount.runs.metrics_csv import cut_metrics
from headcount.runs.wandb_tracking import how_to_send, log_report, track
from headcount.terminal import make_console, print_line, say
from headcount.training.callbacks.checkpointing import Checkpoints, Stoppable
from headcount.training.callbacks.cost_meter import TrainingCosts
from headcount.training.callbacks.progress import TrainingProgress
from headcount.training.callbacks.step_seeding import SeededSteps
from headcount.training.callbacks.weight_averaging import averaging
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer
from headcount.training.preconditions import check_room, check_same_data
from headcount.training.processes import check_same_config, share, silence_other_ranks
from headcount.training.signals import Signals
from headcount.training.trainer import make_trainer

console = make_console()


def train(config: Config, *, fresh: bool = False) -> None:
    """Train a summarizer, keep the best checkpoint, write and score the test summaries.

    A run that the same config began is gone on with from its last checkpoint, or left as it is if
    it is finished.

    Args:
        config: the checked config.
        fresh: begin another run in any case.

    Raises:
        ConfigError: something in the config cannot be had, from the data to an argument of the
            Trainer; or the run folder is another config's, or in use.
        RunError: the loss is not finite, or the disk is full.
        SystemExit: with 143 or 130, at SIGTERM or Ctrl-C.
    """
    team = make_trainer(
        config, loggers=[], callbacks=[]
    )  # a wrong argument is answered before the data is prepared
    silence_other_ranks(team)
    pl.seed_everything(config.seed, verbose=False)
    averaging(config, team)
    if config.trainer.get("fast_dev_run"):
        _try(config, team)
        return
    found = None if fresh else find_run(config)
    if _is_finished(found):
        return
    with Signals() as signals, ExitStack() as held:
        folder = found
        if team.is_global_zero:
            run = config.run
            folder = found or _new_run_folder(run)
            held.enter_context(lock_folder(folder, fresh=fresh and bool(run.folder)))
            # another process may have had the folder since it was looked at
            if not fresh and _is_finished(
                find_run(replace(config, run=replace(run, folder=str(folder))))
            ):
                return
            write_atomically(
                folder / RunFile.CONFIG, to_yaml(config)
            )  # from here on the same command finds it
        try:
            _train(config, team, folder, signals, fresh=fresh)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RunError(
                f"{folder}: {error.strerror}; the same command goes on when there is room"
            ) from error


def _new_run_folder(run: RunConfig) -> Path:
    if run.folder:
        return user_path("run.folder", run.folder)
    return create_numbered_folder(user_path("run.directory", run.directory), run.name or "run")


def _is_finished(found: Path | None) -> bool:
    """Return whether a run is finished, after saying so."""
    if found is None or not (found / RunFile.FINISHED).exists():
        return False
    print_line(f"{found}: this run is finished; --fresh begins another")
    return True


def _try(config: Config, team: pl.Trainer) -> None:
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, data.tokenizer)
    trainer = make_trainer(
        config, loggers=[], callbacks=[TrainingProgress(console), *averaging(config, team)]
    )
    trainer.fit(summarizer, data)
    trainer.predict(summarizer, data)
    say(console, "fast_dev_run: every part ran once; no run folder was made")


def _train(
    config: Config, team: pl.Trainer, held: Path | None, signals: Signals, *, fresh: bool = False
) -> None:
    """Train in the folder that the first process holds."""
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, data.tokenizer)
    # The other processes read the resolved config: the files may have been edited while the data
    # was prepared.
    resolved = (
        ["train", str(held / RunFile.CONFIG), *(["--fresh"] if fresh else [])] if held else None
    )
    folder = share(team, held, arguments=resolved)
    check_same_config(team, config)
    good: tuple[Path, int] | None = None
    tracked: AbstractContextManager[list[Logger]] = nullcontext([])
    if team.is_global_zero:
        good = _prepare(folder, config, data)
        tracked = track(config.tracking, folder, as_dict(config))
    good = team.strategy.broadcast(good)
    kept = Checkpoints(folder, f"validation/{config.evaluation.select_by}", signals)
    with tracked as loggers:
        costs = TrainingCosts(folder, config, data.tokenizer.get_vocab_size())
        callbacks = [
            TrainingProgress(console),
            costs,
            SeededSteps(config.seed),
            kept,
            Stoppable(signals),
        ]
        callbacks += averaging(config, team)
        trainer = make_trainer(config, loggers=loggers, callbacks=callbacks, folder=folder)
        trainer.fit(summarizer, data, ckpt_path=good and good[0], weights_only=True)
        if kept.best is None:
            say(
                console,
                "no validation within this training: the last weights are taken for the best",
            )
            trainer.save_checkpoint(
                checkpoint_path(folder, "best"), weights_only=False
            )  # the optimizer, too
        judged = score_test(trainer, summarizer, data, folder, folder)
        if judged is None:
            return
        log_report(loggers, judged, trainer.global_step)
    write_atomically(folder / RunFile.FINISHED, json.dumps({"step": trainer.global_step}))
    say(console, f"\nrun folder: {folder}")
    if command := how_to_send(folder):
        say(console, f"to send this run to your W&B account: {command}")


def _prepare(
    folder: Path, config: Config, data: SummarizationDataModule
) -> tuple[Path, int] | None:
    """Bring a run folder to where the training begins or goes on; return the checkpoint that it
    goes on from.

    Raises:
        ConfigError: the data is not that with which the run was begun, or the disk is full.
    """
    check_same_data(folder, config, data)
    clear(folder)
    check_room(folder, config, data.tokenizer.get_vocab_size())
    write_atomically(folder / RunFile.DATA, json.dumps(data.origin, indent=2))
    write_atomically(folder / RunFile.TOKENIZER, data.tokenizer.to_str(pretty=True))
    shutil.copytree(
        data.audit(console), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DIGESTS)
    )
    good = last_good(folder)
    cut_metrics(folder, good[1] if good else 0)
    if good:
        say(console, f"{folder}: goes on from step {good[1]:,}, {good[0].name}")
    return good
