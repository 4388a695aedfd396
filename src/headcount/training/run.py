"""The command that trains.

A run folder holds ``config.yaml``, ``data.json`` (what the data is made of), ``audit.json`` and ``lengths.png`` (what
is in it), ``tokenizer.json``, ``checkpoints/``, ``metrics.csv``, what an evaluation leaves (see ``evaluate``), and
``wandb/``.
"""

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from rich.console import Console

from headcount.compose import to_yaml
from headcount.config import Config
from headcount.data.module import SummarizationDataModule
from headcount.training.checkpoint import checkpoint_path
from headcount.training.evaluate import score_test
from headcount.training.folder import write_whole
from headcount.training.processes import shared_folder, silence_all_but_the_first
from headcount.training.progress import TrainingProgress
from headcount.training.seeding import SeededSteps
from headcount.training.summarizer import Summarizer
from headcount.training.tracking import log_report, offline_run, track
from headcount.training.trainer import make_trainer

console = Console()


def train(config: Config, plain: dict[str, Any]) -> None:
    """Train a summarizer, keep the best checkpoint, write and score the test summaries.

    Args:
        config: the checked config.
        plain: the same as a nested dict.

    Raises:
        ConfigError: something in the config cannot be had, from the data to an argument of the Trainer.
    """
    silence_all_but_the_first()
    pl.seed_everything(config.seed, verbose=False)
    team = make_trainer(config, loggers=[], callbacks=[])  # a wrong argument is answered before the data is prepared
    resume = checkpoint_path(Path(config.run.resume), "last") if config.run.resume else None
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, plain, data.tokenizer)
    progress = TrainingProgress(console)
    if config.trainer.get("fast_dev_run"):
        trainer = make_trainer(config, loggers=[], callbacks=[progress])
        trainer.fit(summarizer, data)
        trainer.predict(summarizer, data)
        console.print("fast_dev_run: every part ran once; no run folder was made")
        return
    folder = shared_folder(team, Path(config.run.directory), config.run.name or "run")
    tracked: AbstractContextManager[list[Logger]] = nullcontext([])
    if team.is_global_zero:
        write_whole(folder / "config.yaml", to_yaml(plain))
        write_whole(folder / "data.json", json.dumps(data.origin, indent=2))
        data.tokenizer.save(str(folder / "tokenizer.json"))
        shutil.copytree(data.audit(console), folder, dirs_exist_ok=True)
        tracked = track(config.tracking, folder, plain)
    kept = folder / "checkpoints"
    score = f"validation/{config.evaluation.select_by}"
    best = ModelCheckpoint(kept, filename="best", monitor=score, mode="max", enable_version_counter=False)
    last = ModelCheckpoint(kept, filename="last", enable_version_counter=False)
    with tracked as loggers:
        callbacks = [best, last, progress, SeededSteps(config.seed)]
        trainer = make_trainer(config, loggers=loggers, callbacks=callbacks)
        trainer.fit(summarizer, data, ckpt_path=resume, weights_only=True)
        if not best.best_model_path:
            console.print("no validation within this training: the last weights are taken for the best")
            for name in ("best.ckpt", "last.ckpt"):
                trainer.save_checkpoint(kept / name, weights_only=False)
        judged = score_test(trainer, summarizer, data, folder, folder)
        if judged is None:
            return
        log_report(loggers, judged, trainer.global_step)
    console.print(f"\nrun folder: {folder}", highlight=False)
    if waiting := offline_run(folder):
        console.print(f"to send this run to your W&B account: wandb sync {waiting}", highlight=False, soft_wrap=True)
