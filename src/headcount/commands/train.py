"""The command ``train``: train a summarizer in a run folder, and score its test summaries.

``headcount.runs.folder.RunFile`` lists the files of a run folder. ``config.yaml`` is written
first, so that the same command finds the run again, and ``finished`` last.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger

from headcount.commands.evaluate import score_test
from headcount.commands.page import write_attention_page
from headcount.config.load import to_yaml
from headcount.config.paths import user_path
from headcount.config.schema import Config
from headcount.data.cache import DIGESTS
from headcount.data.tokenizer import load_tokenizer, vocabulary_size
from headcount.errors import ConfigError, RunError
from headcount.evaluation.report import ScoreReport
from headcount.model.cost import longest_example_cost
from headcount.runs.checkpoint import (
    RESTORE,
    Resumable,
    check_best,
    checkpoint_path,
    has_checkpoint,
    last_good_checkpoint,
    remove_scratch,
)
from headcount.runs.files import describe_os_error, replacing, write_atomically
from headcount.runs.folder import (
    RunFile,
    create_numbered_folder,
    current_folder,
    find_run,
    lock_folder,
)
from headcount.runs.loggers import check_extras, log_means, start_loggers
from headcount.runs.metrics_csv import truncate_metrics
from headcount.runs.wandb_tracking import (
    log_checkpoint,
    log_costs,
    log_page,
    log_report,
    log_summaries,
    sync_command,
)
from headcount.terminal import make_console, print_line, print_on
from headcount.training.bf16 import report_slow_bf16
from headcount.training.callbacks.checkpointing import Checkpoints
from headcount.training.callbacks.cost_meter import TrainingCosts, read_costs
from headcount.training.callbacks.monitors import monitors
from headcount.training.callbacks.progress import TrainingProgress
from headcount.training.callbacks.step_seeding import SeededSteps
from headcount.training.callbacks.weight_averaging import averaging
from headcount.training.data_module import SummarizationDataModule
from headcount.training.initial_weights import read_initial_weights, record_initial_weights
from headcount.training.module import Summarizer
from headcount.training.optimizers import check_optimizer, has_whole_weights
from headcount.training.preconditions import (
    check_batches,
    check_room,
    check_same_data,
    report_unscored_text,
)
from headcount.training.processes import check_same_config, silence_other_ranks, start_other_ranks
from headcount.training.signals import Signals
from headcount.training.trainer import make_trainer, rejections_as_config_errors

console = make_console()


def train(
    config: Config,
    *,
    fresh: bool = False,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Path | None:
    """Train a summarizer, keep the best checkpoint, generate and score the test summaries.

    A started run of the same config is resumed from its last checkpoint. A finished one is left as
    it is.

    Args:
        config: the checked config.
        fresh: start another run in any case.
        callbacks: of Lightning, called after our own, but before the one that writes checkpoints.
            Their ``state_dict`` is in the checkpoints.
        loggers: of Lightning, beside those of the config.

    Returns:
        The run folder; None of a ``fast_dev_run``, and on all ranks but the first of a run that is
        finished.

    Raises:
        ConfigError: something that the config asks for is not available, from the data to an
            argument of the Trainer; or the run folder belongs to another config, or is in use.
        RunError: the loss is not finite, the disk is full, or the run folder cannot be used.
        SystemExit: with 128 + the signal that stopped the run.
    """
    # This trainer only says which rank this is. It is made first, so that a wrong argument is
    # reported before the data is prepared; so are settings that do not go with it.
    rank_trainer = make_trainer(config, loggers=[], callbacks=[])
    averaging(config, rank_trainer)
    check_optimizer(config, rank_trainer)
    check_extras(config)
    if config.generation.heads_off:
        raise ConfigError(
            f"generation.heads_off={config.generation.heads_off} is for finished runs, a training "
            "has all heads; legal: []"
        )
    silence_other_ranks(rank_trainer)
    report_slow_bf16(config, rank_trainer)

    pl.seed_everything(config.seed, verbose=False)
    if config.trainer.get("fast_dev_run"):
        _fast_dev_run(config, rank_trainer, callbacks)
        return None

    # A started run of this config, or a new one, which no other process may train meanwhile.
    folder = None if fresh else find_run(config)
    if _report_finished(folder):
        return folder
    with Signals() as signals, ExitStack() as locks:
        if rank_trainer.is_global_zero:
            folder = folder or _new_run_folder(config)
            locks.enter_context(lock_folder(folder, fresh=fresh and bool(config.run.folder)))
            # Another process may have started or finished the run before this one got the lock.
            if not fresh and _report_finished(find_run(_in_folder(config, folder))):
                return folder
            write_atomically(folder / RunFile.CONFIG, to_yaml(config))

        try:
            own = _Additions(callbacks=callbacks, loggers=loggers)
            return _train(config, rank_trainer, folder, signals, own, fresh=fresh)
        except OSError as error:
            reason = folder and describe_os_error(error, folder)
            if reason is None:
                raise
            raise RunError(reason) from error


@dataclass(frozen=True, kw_only=True)
class _Additions:
    """The callbacks and loggers that a script passes."""

    callbacks: Sequence[Callback]
    loggers: Sequence[Logger]


def _new_run_folder(config: Config) -> Path:
    if config.run.folder:
        return user_path("run.folder", config.run.folder)
    parent = user_path("run.directory", config.run.directory)
    return create_numbered_folder(parent, config.run.name or "run")


def _in_folder(config: Config, folder: Path) -> Config:
    return replace(config, run=replace(config.run, folder=str(folder)))


def _report_finished(folder: Path | None) -> bool:
    """Return whether a run is finished, and print it."""
    if folder is None or not (folder / RunFile.FINISHED).exists():
        return False
    best = checkpoint_path(folder, "best")
    without = "" if best.exists() else f" without {best}, which evaluate and summarize need"
    print_line(f"{folder}: this run is finished{without}; --fresh starts another")
    return True


def _fast_dev_run(config: Config, rank_trainer: pl.Trainer, callbacks: Sequence[Callback]) -> None:
    """Run one batch through every part, without a run folder."""
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, data.tokenizer)
    summarizer.initial_weights = read_initial_weights(config, data.tokenizer)
    ours = [
        TrainingProgress(console),
        *averaging(config, rank_trainer),
        *monitors(config, is_first_rank=rank_trainer.is_global_zero),
    ]
    # Callbacks that log want a logger. This one writes nothing.
    trainer = make_trainer(config, loggers=[DummyLogger()], callbacks=[*ours, *callbacks])
    with rejections_as_config_errors():
        trainer.fit(summarizer, data)
        trainer.predict(summarizer, data)
    print_on(console, "fast_dev_run: every part ran once; no run folder was made")


def _train(
    config: Config,
    rank_trainer: pl.Trainer,
    locked: Path | None,
    signals: Signals,
    own: _Additions,
    *,
    fresh: bool = False,
) -> Path:
    """Train in the folder that the first process has locked, and return it."""
    # Data and model. A run with a checkpoint needs nothing of the run that it started from.
    is_resumed = locked is not None and has_checkpoint(locked)
    data = _set_up_data(config, rank_trainer, locked if is_resumed else None)
    steps = check_batches(config, data, rank_trainer)
    report_unscored_text(config, data)
    summarizer = Summarizer(config, data.tokenizer)
    if not is_resumed:
        summarizer.initial_weights = read_initial_weights(config, data.tokenizer)
    folder = _join_other_ranks(config, rank_trainer, locked, own, fresh=fresh)

    # The first process prepares the folder and tells the others where to resume.
    checkpoint: Resumable | None = None
    logging: AbstractContextManager[list[Logger]] = nullcontext([])
    if rank_trainer.is_global_zero:
        checkpoint = _prepare(folder, config, data, steps)
        facts = _size_of_model(config, vocabulary_size(data.tokenizer))
        logging = start_loggers(config, folder, facts, checkpoint.step if checkpoint else 0)
    checkpoint = rank_trainer.strategy.broadcast(checkpoint)
    if is_resumed and checkpoint is None:  # all of them were damaged
        summarizer.initial_weights = read_initial_weights(config, data.tokenizer)
    if rank_trainer.is_global_zero and checkpoint is None:
        record_initial_weights(folder, config, summarizer.initial_weights)

    with logging as our_loggers:
        # Train, until the budget is used up, the patience ends or a signal arrives.
        loggers = [*our_loggers, *own.loggers]
        checkpoints = _make_checkpoints(config, folder, signals)
        callbacks = [*_make_callbacks(config, rank_trainer, data, checkpoints), *own.callbacks]
        trainer = make_trainer(config, loggers=loggers, callbacks=callbacks, folder=folder)
        with rejections_as_config_errors():
            path = checkpoint and checkpoint.path
            trainer.fit(summarizer, data, ckpt_path=path, weights_only=True)
        folder = _current_folder_on_all_ranks(trainer, folder)
        if checkpoints.best is None:
            _save_last_as_best(trainer, folder)

        # Score the test summaries. FSDP has taken the weights apart: each rank generates with a
        # whole model.
        if not has_whole_weights(trainer):
            summarizer = Summarizer(config, data.tokenizer)
        report = score_test(trainer, summarizer, data, [folder], folder)
        if report is None:
            return folder

        # Log what is known at the end. Lightning finalized the loggers of a script at the end of
        # the training, before these last values.
        log_means(loggers, report, trainer.global_step)
        write_attention_page(summarizer, data.splits["validation"], current_folder(folder))
        _log_to_wandb(loggers, config, report, current_folder(folder))
        for logger in own.loggers:
            logger.finalize("success")

    return _finish(folder, trainer.global_step, checkpoints.stopped_early)


def _set_up_data(
    config: Config, rank_trainer: pl.Trainer, resumed: Path | None
) -> SummarizationDataModule:
    """Prepare the data of this rank.

    Args:
        config: of the run.
        rank_trainer: which rank this is.
        resumed: folder of a run that is resumed, which has the tokenizer; None: a new run.
    """
    data = SummarizationDataModule(config)
    data.trainer = rank_trainer
    if resumed is not None and config.model.start_from:
        data.kept_tokenizer = load_tokenizer(resumed / RunFile.TOKENIZER)
    data.setup()
    return data


def _join_other_ranks(
    config: Config, rank_trainer: pl.Trainer, locked: Path | None, own: _Additions, *, fresh: bool
) -> Path:
    """Start the other ranks, or on one of them wait for the first; return the run folder."""
    # They read the resolved config: the files may have been edited while the data was prepared. A
    # script with additions runs itself on each rank, with its own arguments.
    arguments = None
    if locked is not None and not own.callbacks and not own.loggers:
        arguments = ["train", str(locked / RunFile.CONFIG), *(["--fresh"] if fresh else [])]
    folder = start_other_ranks(rank_trainer, locked, arguments=arguments)
    check_same_config(rank_trainer, config)
    return folder


def _make_checkpoints(config: Config, folder: Path, signals: Signals) -> Checkpoints:
    """Return the callback that saves checkpoints and ends the training."""
    last_stage_begin, _ = config.stage_plan[-1]
    return Checkpoints(
        folder,
        f"validation/{config.evaluation.select_by}",
        signals,
        margin=config.evaluation.selection_margin,
        patience=config.evaluation.patience,
        patience_from=last_stage_begin,
    )


def _make_callbacks(
    config: Config,
    rank_trainer: pl.Trainer,
    data: SummarizationDataModule,
    checkpoints: Checkpoints,
) -> list[Callback]:
    """Return our own callbacks, in the order in which Lightning calls them; the one that writes
    checkpoints, which it calls last, comes after those of the user."""
    return [
        # The bar shows what the meter logs.
        TrainingCosts(checkpoints.run, config, vocabulary_size(data.tokenizer)),
        TrainingProgress(console),
        SeededSteps(config.seed),
        *monitors(config, is_first_rank=rank_trainer.is_global_zero),
        checkpoints,
        *averaging(config, rank_trainer),
    ]


def _save_last_as_best(trainer: pl.Trainer, folder: Path) -> None:
    """Save the last weights as the best ones, after a training without a validation."""
    print_on(
        console, "no validation has left a best checkpoint: the last weights are used as the best"
    )
    # Lightning's weights_only=False adds the optimizer's state, as in all our checkpoints. Torch's
    # weights-only loader, which runs no code, reads them.
    trainer.save_checkpoint(checkpoint_path(folder, "best"), weights_only=False)


def _log_to_wandb(
    loggers: Sequence[Logger], config: Config, report: ScoreReport, folder: Path
) -> None:
    """Log what a run has at its end to W&B: scores, summaries, costs, its page and the model."""
    log_report(loggers, report)
    log_summaries(loggers, report, folder / RunFile.PREDICTIONS)
    log_costs(loggers, read_costs(folder))
    log_page(loggers, folder / RunFile.ATTENTION_PAGE)
    if config.tracking.artifacts == "best":
        log_checkpoint(loggers, folder, config.evaluation.select_by, report)


def _copy_audit(audit: Path, folder: Path) -> None:
    """Copy the files of an audit from the cache into a run folder.

    Their contents alone: the files and folders of a shared cache may be read-only.
    """
    for source in sorted(audit.iterdir()):
        if source.name != DIGESTS:
            with replacing(folder / source.name) as file:
                file.write(source.read_bytes())


def _finish(folder: Path, step: int, stopped_early: str | None) -> Path:
    """Mark the run as finished, and return where its folder is now."""
    end: dict[str, int | str] = {"step": step}
    if stopped_early is not None:
        end["stopped_early"] = stopped_early
    folder = current_folder(folder)
    write_atomically(folder / RunFile.FINISHED, json.dumps(end))

    print_on(console, f"\nrun folder: {folder}")
    if command := sync_command(folder):
        print_on(console, f"to send this run to your W&B account: {command}")
    return folder


def _size_of_model(config: Config, vocabulary_size: int) -> dict[str, Any]:
    """Return what W&B's config has beside ours: parameters, and FLOPs of the longest example."""
    model = longest_example_cost(config, vocabulary_size)
    return {
        "parameters": model.parameters,
        "embedding_parameters": model.embedding_parameters,
        "training_flops_per_token": model.training_flops_per_token,
    }


def _current_folder_on_all_ranks(trainer: pl.Trainer, folder: Path) -> Path:
    """Return, on every rank, where the run folder is now."""
    now: Path = trainer.strategy.broadcast(current_folder(folder))
    if now != folder:
        print_on(console, f"{folder}: the run folder was moved to {now}; the run continues there")
    return now


def _prepare(
    folder: Path, config: Config, data: SummarizationDataModule, steps: int | None
) -> Resumable | None:
    """Prepare a run folder for training.

    Args:
        folder: the locked run folder.
        config: of the run.
        data: prepared.
        steps: of the whole training; None: only time limits it.

    Returns:
        The checkpoint to resume from; None at the beginning of a run.

    Raises:
        ConfigError: the data is not what the run was started with, the disk has no room for the
            checkpoints that are still to be written, or the best one is missing after the end of
            the training.
    """
    # What an earlier start has left.
    check_same_data(folder, config, data)
    remove_scratch(folder)
    read_costs(folder)  # a damaged file is put aside now, not at the end of the training
    check_best(folder, config)
    checkpoint = last_good_checkpoint(folder, config)

    # A run that only has to generate its summaries writes no more checkpoints.
    is_trained = checkpoint is not None and (
        checkpoint.has_stopped_early or (steps is not None and checkpoint.step >= steps)
    )
    best = checkpoint_path(folder, "best")
    had_best = checkpoint is not None and checkpoint.has_validated
    if is_trained and had_best and not best.exists():
        raise ConfigError(f"{best}: missing after the end of the training; legal: {RESTORE}")
    if not is_trained or not best.exists():
        check_room(folder, config, vocabulary_size(data.tokenizer))

    # What is known before the training.
    write_atomically(folder / RunFile.DATA, json.dumps(data.origin, indent=2))
    write_atomically(folder / RunFile.TOKENIZER, data.tokenizer.to_str(pretty=True))
    audit = data.audit(console)
    _copy_audit(audit, folder)

    # Rows that were logged after the checkpoint are logged again.
    truncate_metrics(folder, checkpoint.step if checkpoint else 0)
    if checkpoint:
        name = checkpoint.path.name
        print_on(console, f"{folder}: resumes from step {checkpoint.step:,}, {name}")
    return checkpoint
