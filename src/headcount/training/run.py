"""The commands that train and summarize.

A run folder holds ``config.yaml``, ``data.json`` (what the data is made of), ``audit.json`` and ``lengths.png`` (what
is in it), ``tokenizer.json``, ``checkpoints/``, ``metrics.csv``, what an evaluation leaves (see ``evaluate``), and
``wandb/``.
"""

import json
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from rich.console import Console

from headcount.compose import to_yaml
from headcount.config import Config
from headcount.data.module import EncodedPairs, SummarizationDataModule, by_length
from headcount.data.pairs import Pairs
from headcount.data.source import read_documents
from headcount.data.tokenizer import load_tokenizer
from headcount.model.search import Hypothesis
from headcount.training.checkpoint import check_unchanged, checkpoint_path, load_checkpoint
from headcount.training.evaluate import score_test
from headcount.training.folder import write_whole
from headcount.training.processes import shared_folder, silence_all_but_the_first
from headcount.training.progress import TrainingProgress, bar
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


def summarize(run: Path, config: Config, plain: dict[str, Any], file: str) -> None:
    """Summarize new documents, to standard output.

    Args:
        run: the run folder.
        config: the run's config, perhaps changed.
        plain: the same as a nested dict.
        file: text, a document a line, or JSONL, an object a line; ``-`` is standard input. JSONL comes out with all
            ``decoding.returned`` summaries and their scores, if those are several.

    Raises:
        ConfigError: the run is not complete, a key that shaped its model is changed, or a line cannot be read.
    """
    check_unchanged(run, plain)
    tokenizer = load_tokenizer(run / "tokenizer.json")
    summarizer = Summarizer(config, plain, tokenizer)
    summarizer.configure_model()
    summarizer.load_state_dict(load_checkpoint(run, "best")["state_dict"])
    summarizer.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    size, limits = config.decoding.batch_size, (config.data.max_document_tokens, config.data.max_summary_tokens)
    documents = read_documents(file, config.data.document_columns)
    with bar(Console(stderr=True)) as progress:
        task = progress.add_task("writing summaries", total=None, note="", visible=not sys.stdout.isatty())
        while chunk := list(islice(documents, 8 * size)):
            texts = [text for _, text in chunk]
            pairs = EncodedPairs(Pairs(ids=[], documents=texts, references=[[""]] * len(texts)), tokenizer, *limits)
            found: list[list[Hypothesis]] = [[Hypothesis([], 0.0, ended=True)] for _ in texts]  # of an empty document
            for rows in by_length(pairs, [row for row, text in enumerate(texts) if text.strip()], size):
                for row, hypotheses in zip(rows, summarizer.write(pairs.batch(rows)), strict=True):
                    found[row] = hypotheses
            for (identifier, _), hypotheses in zip(chunk, found, strict=True):
                summaries = [{"summary": summarizer.text_of(each), "score": each.score} for each in hypotheses]
                out = {"id": identifier, "summary": summaries[0]["summary"]}
                if config.decoding.returned > 1:
                    out["summaries"] = summaries
                print(out["summary"] if identifier is None else json.dumps(out, ensure_ascii=False), flush=True)
            progress.advance(task, len(chunk))
