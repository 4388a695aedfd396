"""The command ``prune``: a smaller run without the least important heads of another.

It writes the folder of a finished run, which can be evaluated, exported, used to summarize,
analysed again, and fine-tuned with ``model.start_from``.
"""

import csv
import json
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from headcount.commands.evaluate import score_test
from headcount.config.load import as_dict, to_yaml
from headcount.config.schema import Config
from headcount.data.batches import Batch, by_length
from headcount.data.files import digest
from headcount.data.tokenizer import load_tokenizer, vocabulary_size
from headcount.errors import ConfigError, RunError
from headcount.heads.blocks import Head, closed_heads, heads_of
from headcount.heads.curve import order_heads, random_order
from headcount.heads.prune import heads_to_remove, prune
from headcount.model.cost import Cost, longest_example_cost
from headcount.runs.checkpoint import (
    check_unchanged,
    checkpoint_path,
    load_checkpoint,
    write_checkpoint,
)
from headcount.runs.files import reject_used_folder, write_atomically
from headcount.runs.folder import RunFile, lock_folder, reject_links
from headcount.terminal import make_console, print_on
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer
from headcount.training.signals import Signals
from headcount.training.trainer import make_trainer

Order = Literal["gradient", "one_off", "confidence", "gates", "random"]
COLUMNS = {"gradient": "normalized_importance", "one_off": "zero_loss", "confidence": "confidence"}
TIMED_DOCUMENTS = 64  # documents of the test split for the time per summary


def prune_run(
    run: Path,
    to: Path,
    config: Config,
    *,
    keep: int | None = None,
    by: Order = "one_off",
    seed: int = 0,
) -> None:
    """Write a run folder without the least important heads of a run, and score it on the test
    split.

    Args:
        run: the run folder, or an export.
        to: the folder to write, new or empty; an interrupted call with the same arguments is
            completed.
        config: the run's config.
        keep: number of heads to keep; None: those that learned gates have left open.
        by: the order in which heads are removed. ``gates`` needs learned gates. All others except
            ``random`` need an analysis by ``headcount heads``.
        seed: seed of a random order.

    Raises:
        ConfigError: the run or its analysis is missing, too few heads would be left, or the folder
            is not empty.
    """
    reject_links(run)
    check_unchanged(run, config)
    console = make_console()
    best = load_checkpoint(run, "best")
    summarizer = Summarizer(config, load_tokenizer(run / RunFile.TOKENIZER))
    summarizer.load_weights(best["state_dict"])
    summarizer.eval()

    # Choose the heads to remove. The pruned model has no gates, so closed heads are always
    # removed.
    heads = heads_of(summarizer.model)
    closed = closed_heads(summarizer.model)
    keep = _checked_keep(keep, len(heads) - len(closed), summarizer)
    order = _find_order(run, summarizer, heads, by, seed)
    removed = heads_to_remove(order, keep, closed)
    model_config, weights = prune(summarizer.model, config.model, removed)
    run_config = replace(config.run, folder=str(to.resolve()))
    heads_config = replace(config.heads, gates="none", keep=None)
    pruned_config = replace(config, model=model_config, heads=heads_config, run=run_config)

    # Write the run, unless an interrupted call has written it.
    provenance = {
        "from": str(run.resolve()),
        "checkpoint": digest(checkpoint_path(run, "best")),
        "keep": keep,
        "by": by,
        "seed": seed if by == "random" else None,
        "removed": [str(head) for head in heads if head in removed],
    }
    data = SummarizationDataModule(pruned_config, summarizer.tokenizer)
    data.setup()
    if not _is_from_same_call(to, provenance):
        content = {
            "state_dict": {f"model.{name}": tensor for name, tensor in weights.items()},
            "config": as_dict(pruned_config),
            "global_step": best["global_step"],
        }
        _write_run(run, to, pruned_config, content, provenance, data)

    # Measure what pruning saves, and score the pruned model.
    with Signals(), ExitStack() as locks:
        locks.enter_context(lock_folder(to))
        pruned = Summarizer(pruned_config, summarizer.tokenizer)
        pruned.load_weights(load_checkpoint(to, "best")["state_dict"])
        savings = _savings(summarizer, pruned.eval(), data)
        write_atomically(to / RunFile.PRUNING, json.dumps({**provenance, **savings}, indent=2))
        trainer = make_trainer(pruned_config, loggers=[], callbacks=[])
        data.trainer = trainer
        score_test(trainer, pruned, data, [to], to)
    print_on(console, f"\n{len(heads)} heads, {keep} of them kept (order: {by})")
    for name, (before, after) in savings.items():
        # Counts are printed to the last digit, milliseconds to the second decimal.
        decimals = 2 if name == "milliseconds_per_summary" else 0
        before_and_after = f"{before:,.{decimals}f} -> {after:,.{decimals}f}"
        print_on(console, f"  {name.replace('_', ' ')}: {before_and_after}")
    print_on(console, f"pruned run: {to}")


def _checked_keep(keep: int | None, available: int, summarizer: Summarizer) -> int:
    """Return the number of heads to keep.

    Args:
        keep: as the user has set it.
        available: number of heads that are not closed by learned gates.
        summarizer: the model.

    Raises:
        ConfigError: the number is missing or out of range.
    """
    if keep is None:
        if summarizer.gates is None:
            raise ConfigError(f"--keep is missing; legal: 1 to {available} heads")
        return available
    if not 1 <= keep <= available:
        what = "heads" if summarizer.gates is None else "open heads"
        raise ConfigError(
            f"--keep={keep}: the model has {available} {what}; legal: 1 to {available}"
        )
    return keep


def _find_order(
    run: Path, summarizer: Summarizer, heads: Sequence[Head], by: Order, seed: int
) -> list[Head]:
    """Return all heads, the least important first."""
    if by == "random":
        return random_order(heads, seed)
    if by != "gates":
        return _measured_order(run, heads, by)
    if summarizer.gates is None:
        raise ConfigError(
            f"--by=gates: {run} was trained without learned gates; legal: a run with heads.gates, "
            "or another order"
        )
    scores = summarizer.gates.scores_A.tolist()
    return order_heads(dict(zip(heads, scores, strict=True)))


def _measured_order(run: Path, heads: Sequence[Head], by: str) -> list[Head]:
    """Return all heads in the order of the newest analysis of a run."""
    tables = sorted(run.glob(f"heads-*/{RunFile.HEADS}"), key=lambda path: path.stat().st_mtime)
    if not tables:
        raise ConfigError(
            f"--by={by}: {run} has no analysis of its heads; legal: "
            f"headcount heads {shlex.quote(str(run))} first, or --by random"
        )

    # A user may have edited the table.
    newest = tables[-1]
    try:
        values = {}
        with newest.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                head = Head(site=row["site"], layer=int(row["layer"]), index=int(row["head"]))
                values[head] = float(row[COLUMNS[by]])
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ConfigError(f"{newest}: damaged ({error})") from None

    # An analysis of another model may have been copied here.
    if set(values) != set(heads):
        raise ConfigError(f"{newest}: its heads are not those of the model")
    return order_heads({head: values[head] for head in heads})


def _is_from_same_call(to: Path, provenance: dict[str, Any]) -> bool:
    """Return whether a folder was written by an interrupted call with the same arguments.

    Raises:
        ConfigError: it was not, and is not empty.
    """
    # Its file also has the savings, if the call has got that far.
    try:
        found = json.loads((to / RunFile.PRUNING).read_text(encoding="utf-8"))
        if all(found[key] == value for key, value in provenance.items()):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    reject_used_folder(to)
    return False


def _write_run(
    run: Path,
    to: Path,
    config: Config,
    content: dict[str, Any],
    provenance: dict[str, Any],
    data: SummarizationDataModule,
) -> None:
    """Write a run folder completely or not at all."""
    to = to.resolve()
    scratch = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        scratch.mkdir(parents=True)
        write_checkpoint(content, checkpoint_path(scratch, "best"))
        shutil.copyfile(run / RunFile.TOKENIZER, scratch / RunFile.TOKENIZER)
        write_atomically(scratch / RunFile.CONFIG, to_yaml(config))
        write_atomically(scratch / RunFile.DATA, json.dumps(data.origin, indent=2))
        write_atomically(scratch / RunFile.PRUNING, json.dumps(provenance, indent=2))
        finished = json.dumps({"step": content["global_step"]})
        write_atomically(scratch / RunFile.FINISHED, finished)

        # Rename it when it is complete.
        if to.exists():
            to.rmdir()  # it is empty
        os.replace(scratch, to)
    except OSError as error:
        raise RunError(f"{to}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _savings(
    full: Summarizer, pruned: Summarizer, data: SummarizationDataModule
) -> dict[str, tuple[float, float]]:
    """Return each cost before and after pruning."""
    # Time both models on the same documents, alternately, since the load of the machine may
    # change. The minimum of three times is the one with the least disturbance.
    split = data.splits["test"]
    rows = list(range(min(TIMED_DOCUMENTS, len(split))))
    batches = [split.batch(b) for b in by_length(split, rows, full.config.generation.batch_size)]
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(3):
        for is_full in (True, False):
            times[is_full].append(_milliseconds(full if is_full else pruned, batches, len(rows)))

    # The other costs follow from the configs.
    before = _cost(full)
    after = _cost(pruned)
    return {
        "parameters": (before.parameters, after.parameters),
        "milliseconds_per_summary": (min(times[True]), min(times[False])),
        "cache_bytes_per_document_token": (
            before.cache_bytes_per_document_token,
            after.cache_bytes_per_document_token,
        ),
        "cache_bytes_per_summary_token": (
            before.cache_bytes_per_summary_token,
            after.cache_bytes_per_summary_token,
        ),
    }


def _cost(summarizer: Summarizer) -> Cost:
    config = summarizer.config
    return longest_example_cost(config, vocabulary_size(summarizer.tokenizer))


@torch.inference_mode()
def _milliseconds(summarizer: Summarizer, batches: list[Batch], documents: int) -> float:
    started = time.perf_counter()
    for batch in batches:
        summarizer.generate_texts(batch, greedy=True)
    return 1000 * (time.perf_counter() - started) / documents
