"""The command that evaluates, and how a test split is written and scored.

An evaluation leaves ``predictions.jsonl`` (the summaries), ``per_example_metrics.csv`` (what they
score, example by example), ``scores.json`` (means with intervals, of baselines too, and what is
wrong), ``costs.json`` (how long a summary takes) and ``cross_attention.png``.
"""

import json
from contextlib import ExitStack, suppress
from pathlib import Path

import pytorch_lightning as pl

from headcount.config.load import to_yaml
from headcount.config.schema import Config
from headcount.data.files import digest
from headcount.data.loader import decoding_loader
from headcount.data.tokenizer import load_tokenizer
from headcount.errors import ConfigError
from headcount.evaluation.report import Report, report
from headcount.evaluation.tables import print_report
from headcount.runs.checkpoint import check_unchanged, checkpoint_path, load_checkpoint
from headcount.runs.files import write_atomically
from headcount.runs.folder import (
    RunFile,
    create_numbered_folder,
    differences,
    lock_folder,
    reject_links,
)
from headcount.runs.partial_predictions import PartialPredictions
from headcount.runs.scores import write_results
from headcount.terminal import make_console, print_line, say
from headcount.training.callbacks.checkpointing import Stoppable
from headcount.training.callbacks.cost_meter import add_costs
from headcount.training.callbacks.progress import TrainingProgress
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import GeneratedSummary, Summarizer, describe_long_documents
from headcount.training.processes import share, silence_other_ranks
from headcount.training.signals import Signals
from headcount.training.trainer import make_trainer


def evaluate(run: Path, config: Config, *, shuffle_sources: bool = False) -> None:
    """Write and score the test summaries of a run again, in a folder ``RUN/evaluation-N``.

    It is a new one, or that of an evaluation of the same config that was interrupted, which is
    gone on with.

    Args:
        run: the run folder.
        config: the run's config, perhaps changed.
        shuffle_sources: score beside the summaries those of other documents, which a model that
            reads falls short of.

    Raises:
        ConfigError: the run is not complete, a key that shaped its model is changed, or its data
            cannot be had.
        SystemExit: with 143 or 130, at SIGTERM or Ctrl-C.
    """
    reject_links(run)
    check_unchanged(run, config)
    console = make_console()
    with Signals() as signals, ExitStack() as held:
        trainer = make_trainer(
            config, loggers=[], callbacks=[TrainingProgress(console), Stoppable(signals)]
        )
        silence_other_ranks(trainer)
        data = SummarizationDataModule(config, load_tokenizer(run / RunFile.TOKENIZER))
        data.setup()
        folder = share(
            trainer, _hold_evaluation(run, config, held) if trainer.is_global_zero else None
        )
        if trainer.is_global_zero:
            write_atomically(folder / RunFile.CONFIG, to_yaml(config))
        summarizer = Summarizer(config, data.tokenizer)
        score_test(trainer, summarizer, data, run, folder, shuffle_sources=shuffle_sources)
    say(console, f"\nevaluation folder: {folder}")


def _hold_evaluation(run: Path, own: Config, held: ExitStack) -> Path:
    """Return the folder of an evaluation of the same config that nothing else is at, nor did end.

    Or a new one.
    """
    for config in run.glob("evaluation-*/config.yaml"):
        folder = config.parent
        if not (folder / RunFile.SCORES).exists() and not differences(folder, own):
            with suppress(ConfigError), ExitStack() as kept:
                kept.enter_context(lock_folder(folder))
                if not (
                    folder / RunFile.SCORES
                ).exists():  # another process may have ended it since
                    held.push(kept.pop_all())
                    return folder
    folder = create_numbered_folder(run, "evaluation")
    held.enter_context(lock_folder(folder))
    return folder


def _write(
    trainer: pl.Trainer,
    summarizer: Summarizer,
    data: SummarizationDataModule,
    checkpoint: str,
    to: Path,
) -> PartialPredictions:
    """Write the test summaries that are not there yet, those of all processes."""
    split, config = data.splits["test"], data.config
    parts = PartialPredictions(to, len(split), trainer.global_rank)
    if trainer.is_global_zero:
        parts.claim({"checkpoint": checkpoint, "documents": data.origin["test"]["sha256"]})
    trainer.strategy.barrier()
    parts.read()
    if there := int(parts.done.sum()):
        print_line(f"{to.parent}: goes on after {there:,} of {len(split):,} summaries")
    loader = decoding_loader(
        split,
        list(range(len(split))),
        config.generation.batch_size,
        num_workers=config.data.num_workers,
        process=trainer.global_rank,
        processes=trainer.world_size,
        done=parts.done,
        in_windows=config.generation.long_documents == "split",
    )
    # all processes have read what there is before one of them adds to it
    trainer.strategy.barrier()
    if not parts.done.all():
        summarizer.allow_zero_length_dataloader_with_multiple_devices = (
            True  # a process may have ended before
        )
        summarizer.partial_predictions = parts
        trainer.predict(summarizer, loader, return_predictions=False)
    trainer.strategy.barrier()
    parts.read()  # what the others have written, too
    return parts


def score_test(
    trainer: pl.Trainer,
    summarizer: Summarizer,
    data: SummarizationDataModule,
    run: Path,
    folder: Path,
    *,
    shuffle_sources: bool = False,
) -> Report | None:
    """Write the test summaries of a run's best checkpoint into a folder, judge them, print all
    that.

    Summaries that an interrupted call of the same has left there are not written again. With
    several processes the first judges for all, and the others return None.
    """
    best = load_checkpoint(run, "best")
    summarizer.load_weights(best.get("state_dict", {}))
    parts = _write(
        trainer,
        summarizer,
        data,
        digest(checkpoint_path(run, "best")),
        folder / RunFile.PARTIAL_PREDICTIONS,
    )
    if not trainer.is_global_zero:
        return None
    written, milliseconds = [], 0.0
    for row in parts:
        milliseconds += row.pop("milliseconds")
        written.append(GeneratedSummary(**row))
    add_costs(folder, {"decode_ms_per_summary": milliseconds / max(1, len(written))})
    pairs, config = data.splits["test"].pairs, data.config
    ids = [pairs.ids[each.row] for each in written]
    references = [pairs.references[each.row] for each in written]
    rows = (
        {
            "id": identifier,
            "summary": each.summary,
            "truncated": each.truncated,
            "references": texts,
        }
        for identifier, each, texts in zip(ids, written, references, strict=True)
    )
    write_atomically(
        folder / RunFile.PREDICTIONS, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )
    summarizer.plot_attention(data.splits["test"].shortest()).savefig(
        folder / RunFile.ATTENTION_PLOT
    )
    judged = report(
        [each.summary for each in written],
        [each.truncated for each in written],
        [pairs.documents[each.row] for each in written],
        references,
        evaluation=config.evaluation,
        seed=config.seed,
        shuffle_sources=shuffle_sources,
    )
    split = config.data.test_split or "test"
    write_results(folder, judged, ids, split=split, seed=config.seed, step=best["global_step"])
    console = make_console()
    print_report(console, f"{config.data.path}, {split}: {len(ids):,} examples", judged)
    for each in written[:: max(1, len(written) // 5)][:5]:
        say(console, f"\n{pairs.ids[each.row]}", style="bold")
        say(console, f"  reference  {pairs.references[each.row][0]}\n  summary    {each.summary}")
    if said := describe_long_documents(config, data.splits["test"].cut_documents, len(pairs)):
        say(console, said)
    parts.remove()
    return judged
