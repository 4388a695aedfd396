"""The commands: train, evaluate, summarize; and the folder of a run.

A run folder holds ``config.yaml``, ``data.json`` (what the data is made of), ``tokenizer.json``, ``checkpoints/``,
``metrics.csv``, ``predictions.jsonl``, ``scores.json`` and ``wandb/``.
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from rich.console import Console
from rich.table import Table

from headcount.config import Config, ConfigError, to_yaml
from headcount.data.module import EncodedPairs, SummarizationDataModule
from headcount.data.source import Pairs
from headcount.data.tokenizer import load_tokenizer
from headcount.evaluation.baselines import lead
from headcount.evaluation.rouge import ROUGE_TYPES, score_all, signature
from headcount.training.progress import TrainingProgress, bar
from headcount.training.summarizer import Summarizer
from headcount.training.tracking import make_loggers, offline_run

console = Console()
logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
for harmless in (
    ".*does not have many workers",  # a batch is a slice of arrays in memory
    "Experiment logs directory .* is not empty",  # it holds the run's config and tokenizer
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
    _make_trainer(
        config, logger=False, callbacks=[]
    )  # a wrong argument is answered before the data is prepared
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
    best = ModelCheckpoint(
        folder / "checkpoints",
        filename="best",
        monitor=f"validation/{config.evaluation.select_by}",
        mode="max",
        save_last=True,
        enable_version_counter=False,
    )
    loggers = make_loggers(config.tracking, folder, plain)
    trainer = _make_trainer(config, logger=loggers, callbacks=[best, progress])
    trainer.fit(summarizer, data, ckpt_path=resume, weights_only=True)
    if not best.best_model_path:
        console.print("no validation within this training: the last weights are taken for the best")
        trainer.save_checkpoint(folder / "checkpoints" / "best.ckpt")
    scores = _score(trainer, summarizer, data, folder)
    for logger in loggers:
        logger.log_metrics(
            {f"test/{kind}": scores["model"][kind]["f1"] for kind in ROUGE_TYPES}, trainer.global_step
        )
        logger.finalize("success")
    console.print(f"\nrun folder: {folder}", highlight=False)
    if waiting := offline_run(folder):
        console.print(
            f"to send this run to your W&B account: wandb sync {waiting}", highlight=False, soft_wrap=True
        )


def evaluate(run: Path, config: Config, plain: dict[str, Any]) -> None:
    """Write and score the test summaries of a run again, into a new folder ``RUN/evaluation-N``.

    Args:
        run: the run folder.
        config: the run's config, perhaps changed.
        plain: the same as a nested dict.

    Raises:
        ConfigError: the run is not complete, or its data cannot be had.
    """
    checkpoint = _checkpoint(run, "best")
    data = SummarizationDataModule(config, load_tokenizer(run / "tokenizer.json"))
    data.setup()
    folder = _new_folder(run, "evaluation")
    (folder / "config.yaml").write_text(to_yaml(plain))
    trainer = _make_trainer(config, logger=False, callbacks=[TrainingProgress(console)])
    _score(trainer, Summarizer(config, plain, data.tokenizer), data, folder, checkpoint)
    console.print(f"\nevaluation folder: {folder}", highlight=False)


def _make_trainer(config: Config, **ours: Any) -> pl.Trainer:
    keeps = any(isinstance(callback, ModelCheckpoint) for callback in ours["callbacks"])
    try:
        return pl.Trainer(
            **{"enable_progress_bar": False, "enable_model_summary": False, **config.trainer},
            **ours,
            enable_checkpointing=keeps,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from None


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
    summarizer.load_state_dict(_load(_checkpoint(run, "best"))["state_dict"])
    summarizer.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    try:
        lines = sys.stdin.buffer if file == "-" else Path(file).open("rb")
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    size = config.decoding.batch_size
    documents = _documents(lines, file, config.data.document_columns)
    with bar(Console(stderr=True)) as progress:
        task = progress.add_task("writing summaries", total=None, note="", visible=not sys.stdout.isatty())
        while chunk := list(islice(documents, 8 * size)):
            texts = [document for _, document in chunk]
            pairs = EncodedPairs(
                Pairs(ids=[], documents=texts, references=[[""]] * len(texts)),
                tokenizer,
                max_document_tokens=config.data.max_document_tokens,
                max_summary_tokens=config.data.max_summary_tokens,
            )
            order = sorted(range(len(texts)), key=lambda i: -len(pairs.documents[i]))
            summaries = [""] * len(texts)
            for begin in range(0, len(order), size):
                rows = [i for i in order[begin : begin + size] if texts[i].strip()]
                batch = pairs.batch(rows).to(summarizer.device) if rows else None
                for i, summary in zip(rows, summarizer.summarize(batch) if batch else [], strict=True):
                    summaries[i] = summary
            for (identifier, _), summary in zip(chunk, summaries, strict=True):
                out = (
                    summary
                    if identifier is None
                    else json.dumps({"id": identifier, "summary": summary}, ensure_ascii=False)
                )
                print(out, flush=True)
            progress.advance(task, len(chunk))


def _documents(lines: Any, file: str, columns: list[str]) -> Iterator[tuple[Any, str]]:
    """Yield (id, document); the id is None where the file is plain text."""
    jsonl = None
    for number, raw in enumerate(lines, 1):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if jsonl is None:
            jsonl = line.lstrip().startswith("{")
        if not jsonl:
            yield None, line
            continue
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{file}:{number}: not JSON: {error}") from None
        column = next((c for c in [*columns, "document", "text"] if isinstance(row, dict) and c in row), None)
        if column is None or not isinstance(row[column], str):
            raise ConfigError(
                f"{file}:{number}: no text under {' or '.join(dict.fromkeys([*columns, 'document', 'text']))}"
            )
        yield row.get("id", number), row[column].encode("utf-8", "replace").decode()


def _score(
    trainer: pl.Trainer,
    summarizer: Summarizer,
    data: SummarizationDataModule,
    folder: Path,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Write the summaries of the test split, score them beside the lead baseline, print all that."""
    checkpoint = checkpoint or folder / "checkpoints" / "best.ckpt"
    batches = trainer.predict(summarizer, data, ckpt_path=checkpoint, weights_only=True)
    written = sorted(row for batch in batches or [] for row in batch)
    pairs, evaluation = data.splits["test"].pairs, summarizer.config.evaluation
    references = [pairs.references[i] for i, _ in written]
    leads = [lead(pairs.documents[i], evaluation.unit) for i, _ in written]
    scores: dict[str, Any] = {
        "split": data.config.data.test_split,
        "examples": len(written),
        "seed": summarizer.config.seed,
        "step": _load(checkpoint)["global_step"],
        "signature": signature(),
        "model": score_all([summary for _, summary in written], references),
        "lead-1": score_all(leads, references),
    }
    rows = (
        {"id": pairs.ids[i], "summary": summary, "references": pairs.references[i]} for i, summary in written
    )
    _write(folder / "predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    _write(folder / "scores.json", json.dumps(scores, indent=2))
    title = (
        f"{data.config.data.path}, {scores['split']}: {len(written):,} examples, F1 x 100 with 95 % interval"
    )
    table = Table("", "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum", title=title, caption=scores["signature"])
    for name in ("model", "lead-1"):
        cells = (scores[name][kind] for kind in ROUGE_TYPES)
        table.add_row(name, *(f"{c['f1']:.2f}\n[{c['low']:.2f}, {c['high']:.2f}]" for c in cells))
    console.print()
    console.print(table)
    for i, summary in written[:: max(1, len(written) // 5)][:5]:
        console.print(f"\n[bold]{pairs.ids[i]}[/]", highlight=False)
        console.print(
            f"  reference  {pairs.references[i][0]}\n  summary    {summary}", highlight=False, markup=False
        )
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


def _load(checkpoint: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise ConfigError(f"{checkpoint}: damaged, or not a checkpoint ({type(error).__name__})") from None
    return content


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
