"""What is checked before a training begins.

The number of batches, room for the checkpoints, and that data and tokenizer are those that the run
was started with.
"""

import json
import math
import shutil
from pathlib import Path

import pytorch_lightning as pl

from headcount.config.schema import Config
from headcount.data.loader import check_workers
from headcount.data.tokenizer import load_tokenizer
from headcount.data.tokens import fingerprint
from headcount.errors import ConfigError
from headcount.evaluation.alarms import find_unscored_text
from headcount.model.cost import longest_example_cost
from headcount.runs.folder import RunFile
from headcount.terminal import print_line
from headcount.training.data_module import SummarizationDataModule, batches_of_epoch

PARAMETER_BYTES = 12  # of a checkpoint: a weight and the two moments of AdamW, in fp32
AVERAGE_BYTES = 4  # where the weights are averaged, these are beside the average
CHECKPOINTS = 4  # best, last, previous and the one being written


def check_batches(
    config: Config, data: SummarizationDataModule, trainer: pl.Trainer
) -> int | None:
    """Check intervals and shares of an epoch, now that its number of batches is known.

    Lightning rejects them only after the run has been prepared. A warm-up that a training or a
    stage never leaves is reported, not rejected.

    Args:
        config: of the run.
        data: prepared; its loaders are those of the trainer's rank.
        trainer: the Trainer of the config.

    Returns:
        The number of optimizer steps of the whole training; None if only time limits it.

    Raises:
        ConfigError: an epoch has too few batches, or a split too few examples for the ranks.
        RunError: the loader workers cannot be started.
    """
    # Training and validation have a loader each, and a new one before the old one is gone.
    check_workers(config.data.num_workers, loaders=4)
    batches = len(data.train_dataloader())
    if trainer.limit_val_batches:
        data.val_dataloader()
    data.predict_dataloader()

    # A share of an epoch must be at least one batch.
    key = "overfit_batches" if config.trainer.get("overfit_batches") else "limit_train_batches"
    limit = trainer.limit_train_batches
    taken = batches_of_epoch(trainer, batches)
    if taken < 1:
        raise ConfigError(
            f"trainer.{key}={limit} is less than one of the {batches} batches of an epoch; "
            f"legal: at least 1/{batches}, or a number of batches"
        )
    batches = taken

    # An interval that is counted within an epoch must not be longer than an epoch.
    interval = trainer.val_check_interval
    is_within_epoch = trainer.check_val_every_n_epoch is not None
    if is_within_epoch and isinstance(interval, int | float):
        every = interval if isinstance(interval, int) else int(interval * batches)
        if every > batches:
            raise ConfigError(
                f"trainer.val_check_interval={interval} is more than the {batches} batches of an "
                f"epoch; legal: up to {batches}, or trainer.check_val_every_n_epoch=null to count "
                "across epochs"
            )

    steps = count_steps(trainer, batches)
    last_begin, _ = config.stage_plan[-1]
    if steps is not None and last_begin >= steps > 0:
        print_line(
            f"stages: the last one begins after {last_begin:,} steps, and this training has "
            f"{steps:,}"
        )
    report_unfinished_warmups(config, steps)
    return steps


def report_unfinished_warmups(config: Config, steps: int | None) -> None:
    """Report each stage that ends before its warm-up, or a training without stages that does.

    Args:
        config: of the run.
        steps: of the whole training; None: only time limits it, and so its last stage.
    """
    # Where each stage ends.
    plan = config.stage_plan
    total = math.inf if steps is None else steps
    ends = [*(begin for begin, _ in plan[1:]), total]
    for number, ((begin, stage), end) in enumerate(zip(plan, ends, strict=True), 1):
        # The budget may end within a stage, or before it.
        length = min(end, total) - begin
        if not 0 < length <= stage.warmup_steps:
            continue

        # The rate that it stays below.
        if config.stages:
            rate = config.optimizer.learning_rate * stage.learning_rate_factor
            print_line(
                f"stages: warmup_steps={stage.warmup_steps} of stage {number}, which has "
                f"{length:,} steps, so its learning rate stays below {rate:g}"
            )
        else:
            print_line(
                f"optimizer.warmup_steps={stage.warmup_steps}: this training has {length:,} "
                "steps, so the learning rate stays below "
                f"optimizer.learning_rate={config.optimizer.learning_rate}"
            )


def report_unscored_text(config: Config, data: SummarizationDataModule) -> None:
    """Print the alarms that a metric ignores a part of the validation summaries before the
    training, which selects its checkpoint by these scores: another tokenizer has to be chosen now.
    """
    references = data.splits["validation"].pairs.references
    for alarm in find_unscored_text(references, config.evaluation):
        print_line(alarm)


def count_steps(trainer: pl.Trainer, batches: int) -> int | None:
    """Return the number of optimizer steps of a training; None if only time limits it.

    Args:
        trainer: its budget counts.
        batches: of an epoch, on each rank.
    """
    if trainer.max_steps >= 0:
        return trainer.max_steps
    if trainer.max_epochs is None or trainer.max_epochs < 0:
        return None
    return trainer.max_epochs * -(-batches // trainer.accumulate_grad_batches)


def check_room(folder: Path, config: Config, vocabulary_size: int) -> None:
    """Check that the disk has room for the checkpoints of a training.

    Args:
        folder: the run folder; checkpoints that are in it have their room.
        config: of the run.
        vocabulary_size: of the tokenizer.

    Raises:
        ConfigError: the disk has less.
    """
    parameters = longest_example_cost(config, vocabulary_size).parameters
    number = CHECKPOINTS - len(list((folder / RunFile.CHECKPOINTS).glob("*.ckpt")))
    parameter_bytes = PARAMETER_BYTES + (AVERAGE_BYTES if config.optimizer.ema_decay else 0)
    needed = number * parameter_bytes * parameters
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return

    key = f"run.directory={config.run.directory}"
    if config.run.folder:
        key = f"run.folder={config.run.folder}"
    raise ConfigError(
        f"{key}: {free / 1e9:,.2f} GB are free on its disk, {number} checkpoints of "
        f"{parameters:,} parameters need {needed / 1e9:,.2f} GB; legal: a place with as much"
    )


def check_same_data(folder: Path, config: Config, data: SummarizationDataModule) -> None:
    """Check that data and tokenizer are those that the run in a folder was started with.

    Raises:
        ConfigError: a split or the tokenizer differs, or ``data.json`` cannot be read.
    """
    # The data, by the digest of each split.
    record = folder / RunFile.DATA
    if record.exists():
        for role, then in _recorded_digests(record).items():
            now = data.origin[role]["sha256"]
            if now != then:
                raise ConfigError(
                    f"data.path={config.data.path}: its {role} split has the SHA-256 {now}, and "
                    f"{folder} was started with another; legal: {then}, or --fresh"
                )

    # The tokenizer.
    path = folder / RunFile.TOKENIZER
    if not path.exists():
        return
    try:
        started_with = load_tokenizer(path)
    except ConfigError as error:
        raise ConfigError(f"{error}; legal: the file as the run wrote it, or --fresh") from None
    if fingerprint(started_with) != fingerprint(data.tokenizer):
        raise ConfigError(
            f"tokenizer.path={config.tokenizer.path or 'null'}: the tokenizer is not that with "
            f"which {folder} was started; legal: the same, or --fresh"
        )


def _recorded_digests(record: Path) -> dict[str, str]:
    """Return the SHA-256 of each split that a run was started with."""
    digests: dict[str, str] = {}
    try:
        origin = json.loads(record.read_text(encoding="utf-8-sig"))
        for role in ("train", "validation", "test"):
            digests[role] = origin[role]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(
            f"{record}: not the record of the data that the run wrote; legal: the file as it was, "
            "or none, and the run resumes without comparing its data"
        ) from None
    return digests
