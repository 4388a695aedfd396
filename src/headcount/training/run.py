"""The commands: train, evaluate, summarize; and the folder of a run.

A run folder holds ``config.yaml``, ``data.json`` (what the data is made of), ``tokenizer.json``, ``checkpoints/``,
``metrics.csv``, ``predictions.jsonl``, ``scores.json``, ``cross_attention.png`` and ``wandb/``.
"""

import json
import logging
import os
import sys
import warnings
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint
from rich.console import Console
from rich.table import Table

from headcount.compose import to_yaml
from headcount.config import Config, ConfigError
from headcount.data.module import EncodedPairs, SummarizationDataModule, by_length
from headcount.data.source import Pairs, read_documents
from headcount.data.tokenizer import load_tokenizer
from headcount.evaluation.baselines import lead
from headcount.evaluation.rouge import ROUGE_TYPES, score_all, signature
from headcount.training.progress import TrainingProgress, bar
from headcount.training.summarizer import Summarizer
from headcount.training.tracking import offline_run, track

console = Console()
logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
for harmless in (
    ".*does not have many workers",  # a batch is a slice of arrays in memory
    "Experiment logs directory .* is not empty",  # it holds the run's config and tokenizer
    "The dirpath has changed",  # a run that resumes another has its own folder
    "Glyph .* missing from font",  # a picture shows a box for it
    ".*LeafSpec.* is deprecated",  # Lightning 2.6 on torch 2.13
):
    warnings.filterwarnings("ignore", harmless)


def train(config: Config, plain: dict[str, Any]) -> None:
    """Train a summarizer, keep the best checkpoint, write and score the test summaries.

    Args:
        config: the checked config.
        plain: the same as a nested dict.

    Raises:
        ConfigError: something in the config cannot be had, from the data to an argument of the Trainer.
    """
    pl.seed_everything(config.seed, verbose=False)
    _make_trainer(config, logger=False, callbacks=[])  # a wrong argument is answered before the data is prepared
    resume = _checkpoint(Path(config.run.resume), "last") if config.run.resume else None
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, plain, data.tokenizer)
    progress = TrainingProgress(console)
    if config.trainer.get("fast_dev_run"):
        trainer = _make_trainer(config, logger=False, callbacks=[progress])
        trainer.fit(summarizer, data)
        trainer.predict(summarizer, data)
        console.print("fast_dev_run: every part ran once; no run folder was made")
        return
    folder = _new_folder(Path(config.run.directory), config.run.name or "run")
    (folder / "config.yaml").write_text(to_yaml(plain))
    (folder / "data.json").write_text(json.dumps(data.origin, indent=2))
    data.tokenizer.save(str(folder / "tokenizer.json"))
    kept = folder / "checkpoints"
    score = f"validation/{config.evaluation.select_by}"
    best = ModelCheckpoint(kept, filename="best", monitor=score, mode="max", enable_version_counter=False)
    last = ModelCheckpoint(kept, filename="last", enable_version_counter=False)
    with track(config.tracking, folder, plain) as loggers:
        trainer = _make_trainer(config, logger=loggers, callbacks=[best, last, progress])
        trainer.fit(summarizer, data, ckpt_path=resume, weights_only=True)
        if not best.best_model_path:
            console.print("no validation within this training: the last weights are taken for the best")
            for name in ("best.ckpt", "last.ckpt"):
                trainer.save_checkpoint(kept / name, weights_only=False)
        scores = _score(trainer, summarizer, data, folder, folder)
        figures = {f"test/{kind}": scores["model"][kind]["f1"] for kind in ROUGE_TYPES}
        for logger in loggers:
            logger.log_metrics(figures, trainer.global_step)
    console.print(f"\nrun folder: {folder}", highlight=False)
    if waiting := offline_run(folder):
        console.print(f"to send this run to your W&B account: wandb sync {waiting}", highlight=False, soft_wrap=True)


def evaluate(run: Path, config: Config, plain: dict[str, Any]) -> None:
    """Write and score the test summaries of a run again, into a new folder ``RUN/evaluation-N``.

    Args:
        run: the run folder.
        config: the run's config, perhaps changed.
        plain: the same as a nested dict.

    Raises:
        ConfigError: the run is not complete, a key that shaped its model is changed, or its data cannot be had.
    """
    trained = _load(run, "best")["config"]
    lengths = "max_document_tokens", "max_summary_tokens"
    fixed = {"model": plain["model"], "tokenizer": plain["tokenizer"], "data": lengths}
    for section, names in fixed.items():
        for name in names:
            now, then = plain[section][name], trained[section][name]
            if now != then:
                raise ConfigError(f"{section}.{name}={now}: {run} was trained with another; legal: {then}")
    data = SummarizationDataModule(config, load_tokenizer(run / "tokenizer.json"))
    data.setup()
    folder = _new_folder(run, "evaluation")
    (folder / "config.yaml").write_text(to_yaml(plain))
    trainer = _make_trainer(config, logger=False, callbacks=[TrainingProgress(console)])
    _score(trainer, Summarizer(config, plain, data.tokenizer), data, run, folder)
    console.print(f"\nevaluation folder: {folder}", highlight=False)


def _make_trainer(config: Config, **ours: Any) -> pl.Trainer:
    keeps = any(isinstance(callback, ModelCheckpoint) for callback in ours["callbacks"])
    given = {"enable_progress_bar": False, "enable_model_summary": False, **config.trainer}
    try:
        trainer = pl.Trainer(**given, **ours, enable_checkpointing=keeps)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from None
    if trainer.world_size > 1:
        raise ConfigError(f"trainer.devices={given['devices']}: a run is one process; legal: 1")
    return trainer


def summarize(run: Path, config: Config, plain: dict[str, Any], file: str) -> None:
    """Summarize new documents, to standard output.

    Args:
        run: the run folder.
        config: the run's config.
        plain: the same as a nested dict.
        file: text, a document a line, or JSONL, an object a line; ``-`` is standard input.

    Raises:
        ConfigError: the run is not complete, or a line of the file cannot be read.
    """
    tokenizer = load_tokenizer(run / "tokenizer.json")
    summarizer = Summarizer(config, plain, tokenizer)
    summarizer.configure_model()
    summarizer.load_state_dict(_load(run, "best")["state_dict"])
    summarizer.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    size, limits = config.decoding.batch_size, (config.data.max_document_tokens, config.data.max_summary_tokens)
    documents = read_documents(file, config.data.document_columns)
    with bar(Console(stderr=True)) as progress:
        task = progress.add_task("writing summaries", total=None, note="", visible=not sys.stdout.isatty())
        while chunk := list(islice(documents, 8 * size)):
            texts = [text for _, text in chunk]
            pairs = EncodedPairs(Pairs(ids=[], documents=texts, references=[[""]] * len(texts)), tokenizer, *limits)
            summaries = [""] * len(texts)
            for rows in by_length(pairs, [row for row, text in enumerate(texts) if text.strip()], size):
                for row, summary in zip(rows, summarizer.summarize(pairs.batch(rows)), strict=True):
                    summaries[row] = summary
            for (identifier, _), summary in zip(chunk, summaries, strict=True):
                out = {"id": identifier, "summary": summary}
                print(summary if identifier is None else json.dumps(out, ensure_ascii=False), flush=True)
            progress.advance(task, len(chunk))


def _score(
    trainer: pl.Trainer, summarizer: Summarizer, data: SummarizationDataModule, run: Path, folder: Path
) -> dict[str, Any]:
    """Write the test summaries of a run's best checkpoint into a folder, score them beside lead-1, print all that."""
    best = _load(run, "best")
    summarizer.configure_model()
    summarizer.load_state_dict(best["state_dict"])
    batches = trainer.predict(summarizer, data)
    written = sorted(row for batch in batches or [] for row in batch)
    pairs, evaluation = data.splits["test"].pairs, summarizer.config.evaluation
    references = [pairs.references[i] for i, _ in written]
    leads = [lead(pairs.documents[i], evaluation.unit) for i, _ in written]
    scores: dict[str, Any] = {
        "split": data.config.data.test_split,
        "examples": len(written),
        "seed": summarizer.config.seed,
        "step": best["global_step"],
        "signature": signature(),
        "model": score_all([summary for _, summary in written], references),
        "lead-1": score_all(leads, references),
    }
    rows = ({"id": pairs.ids[i], "summary": summary, "references": pairs.references[i]} for i, summary in written)
    _write(folder / "predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    _write(folder / "scores.json", json.dumps(scores, indent=2))
    summarizer.draw(data.splits["test"].shortest()).savefig(folder / "cross_attention.png")
    title = f"{data.config.data.path}, {scores['split']}: {len(written):,} examples, F1 x 100 with 95 % interval"
    table = Table("", "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum", title=title, caption=scores["signature"])
    for name in ("model", "lead-1"):
        cells = (scores[name][kind] for kind in ROUGE_TYPES)
        table.add_row(name, *(f"{c['f1']:.2f}\n[{c['low']:.2f}, {c['high']:.2f}]" for c in cells))
    console.print()
    console.print(table)
    as_is: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    for i, summary in written[:: max(1, len(written) // 5)][:5]:
        console.print(f"\n{pairs.ids[i]}", style="bold", **as_is)
        console.print(f"  reference  {pairs.references[i][0]}\n  summary    {summary}", **as_is)
    return scores


def _new_folder(parent: Path, name: str) -> Path:
    """Make the first of NAME-1, NAME-2, ... that is not there: a folder of results is never written into twice."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = parent / f"{name}-{number}"
            if not folder.exists():
                folder.mkdir()
                return folder
    except OSError as error:
        raise ConfigError(f"{parent}/{name}: cannot make a run folder: {error.strerror}") from None
    raise AssertionError


def _checkpoint(run: Path, name: str) -> Path:
    path = run / "checkpoints" / f"{name}.ckpt"
    if not path.is_file():
        raise ConfigError(f"{run}: not a run folder with a checkpoint ({path} is missing)")
    return path


def _load(run: Path, name: str) -> dict[str, Any]:
    path = _checkpoint(run, name)
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise ConfigError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from None
    return content


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
