"""The command that summarizes new documents."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headcount.config.schema import Config
from headcount.data.documents import read_documents
from headcount.data.files import digest
from headcount.data.pairs import Pairs
from headcount.data.tokenizer import load_tokenizer
from headcount.errors import ConfigError
from headcount.escape import json_line
from headcount.runs.checkpoint import check_unchanged, checkpoint_path, load_checkpoint
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile, lock_folder
from headcount.runs.partial_predictions import PartialPredictions
from headcount.terminal import make_console, print_line
from headcount.training.callbacks.progress import bar, rate
from headcount.training.data_module import EncodedPairs, by_length
from headcount.training.module import GeneratedSummary, Summarizer, describe_long_documents
from headcount.training.processes import silence_other_ranks, start_other_ranks
from headcount.training.trainer import make_trainer

CHARACTERS = 10_000_000  # of the documents that are read at a time, however long they are

Document = tuple[int, Any, str]  # its row, its id, which text has none of, and its text


def summarize(run: Path, config: Config, file: str, *, out: Path | None = None) -> None:
    """Summarize new documents, to standard output or to a file.

    A file is there once it is complete; until then what is written is in ``OUT.parts``, and the
    same command goes on with it. Beside the file, ``OUT.made_of.json`` says what it was made of.
    With ``trainer.devices`` several processes share the documents of a file.

    Args:
        run: the run folder.
        config: the run's config, perhaps changed.
        file: text, a document a line, or JSONL, an object a line; ``-`` is standard input. JSONL
            comes out with all ``generation.num_return_sequences`` summaries and their scores, if
            those are several.
        out: JSONL to write, in the order of the documents; None: standard output.

    Raises:
        ConfigError: the run is not complete, a key that shaped its model is changed, a line cannot
            be read, or the file is there and was made of something else.
    """
    check_unchanged(run, config)
    summarizer = Summarizer(config, load_tokenizer(run / RunFile.TOKENIZER))
    summarizer.load_weights(load_checkpoint(run, "best").get("state_dict", {}))
    summarizer.eval()
    if out is None:
        _print(summarizer, file)
    elif file == "-":
        raise ConfigError(
            f"--out={out}: standard input cannot be read again to go on; legal: a file of "
            "documents"
        )
    else:
        _write_file(summarizer, file, out, digest(checkpoint_path(run, "best")))


def _print(summarizer: Summarizer, file: str) -> None:
    summarizer.to("cuda" if torch.cuda.is_available() else "cpu")
    with bar(make_console(stderr=True)) as progress:
        task = progress.add_task(
            "writing summaries", total=None, note="", visible=not sys.stdout.isatty()
        )
        began, written, long = time.perf_counter(), 0, 0
        for chunk in _chunks(summarizer.config, file):
            found = {row["row"]: row for batch in _write(summarizer, chunk) for row in batch}
            for number, identifier, _ in chunk:
                out = found[number]["out"]
                print_line(out["summary"] if identifier is None else json_line(out))
                long += found[number]["long"]
            written += len(chunk)
            progress.update(task, completed=written, note=rate(written, began))
    if said := describe_long_documents(summarizer.config, long, written):
        print_line(said, file=sys.stderr)


def _write_file(summarizer: Summarizer, file: str, out: Path, checkpoint: str) -> None:
    config, to = summarizer.config, out.with_name(f"{out.name}.parts")
    count = sum(
        map(len, _chunks(config, file))
    )  # a broken line is found before anything is written
    settings = {
        f"generation.{name}": v
        for name, v in asdict(summarizer.config.generation).items()
        if name != "batch_size"
    }
    made_of = {
        "checkpoint": checkpoint,
        "documents": digest(Path(file)),
        "seed": config.seed,
        **settings,
    }
    made_of["data.document_columns"] = list(config.data.document_columns)
    if _is_finished(out, to, made_of, count):
        return
    trainer = make_trainer(config, loggers=[], callbacks=[])
    silence_other_ranks(trainer)
    with ExitStack() as held:
        if trainer.is_global_zero:
            held.enter_context(lock_folder(to))
            if _is_finished(out, to, made_of, count):  # another process may have been at it since
                return
        start_other_ranks(trainer, to)
        parts = PartialPredictions(to, count, trainer.global_rank)
        if trainer.is_global_zero:
            parts.claim(made_of)
        trainer.strategy.barrier()
        parts.read()
        # all processes have read what there is before one of them adds to it
        trainer.strategy.barrier()
        summarizer.to(trainer.strategy.root_device)
        with bar(make_console(stderr=True)) as progress:
            task = progress.add_task(
                "writing summaries", total=count, note="", visible=trainer.is_global_zero
            )
            began, written = time.perf_counter(), 0
            for number, chunk in enumerate(_chunks(config, file)):
                there = parts.done[chunk[0][0] : chunk[-1][0] + 1].all()
                if number % trainer.world_size == trainer.global_rank and not there:
                    named = [
                        (row, row + 1 if identifier is None else identifier, text)
                        for row, identifier, text in chunk
                    ]
                    for batch in _write(summarizer, named, parts.done):
                        parts.append(batch)
                        written += len(batch)
                        progress.update(task, note=rate(written, began))
                progress.advance(task, len(chunk))
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            parts.read()
            write_atomically(
                out.with_name(f"{out.name}.made_of.json"), json.dumps(made_of, indent=2)
            )
            write_atomically(
                out, (json.dumps(row["out"], ensure_ascii=False) + "\n" for row in parts)
            )
            if said := describe_long_documents(config, sum(row["long"] for row in parts), count):
                print_line(said)
            parts.remove()
            print_line(f"{out}: {count:,} summaries")


def _is_finished(out: Path, to: Path, made_of: Mapping[str, Any], count: int) -> bool:
    """Return whether a file is complete, after saying so.

    Raises:
        ConfigError: what there is of it was made of something else.
    """
    stamp = out.with_name(f"{out.name}.made_of.json") if out.exists() else to / "made_of.json"
    if not stamp.exists():
        if out.exists():
            raise ConfigError(
                f"--out={out}: there already, and summarize did not make it; legal: a new file"
            )
        return False
    then = json.loads(stamp.read_text(encoding="utf-8"))
    for name, value in made_of.items():
        if then.get(name) != value:
            raise ConfigError(
                f"--out={out}: started with {name}={then.get(name)}, not {value}; "
                "legal: a new file"
            )
    if out.exists():
        print_line(f"{out}: finished, {count:,} summaries")
    return out.exists()


def _chunks(config: Config, file: str) -> Iterator[list[Document]]:
    """Yield a file's documents, as many at a time as are worth sorting by length, fewer where they
    are long."""
    chunk: list[Document] = []
    characters = 0
    for row, (identifier, text) in enumerate(read_documents(file, config.data.document_columns)):
        chunk.append((row, identifier, text))
        characters += len(text)
        if len(chunk) == 8 * config.generation.batch_size or characters > CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _write(
    summarizer: Summarizer, chunk: list[Document], done: NDArray[np.bool_] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield what is written of the documents of a chunk, a batch at a time, but batches that are
    done.

    Yields:
        Rows: the document's row, whether it was long, and what comes out for it.
    """
    config, texts = summarizer.config, [text for _, _, text in chunk]
    pairs = EncodedPairs(
        Pairs(ids=[], documents=texts, references=[[""]] * len(texts)),
        summarizer.tokenizer,
        config.data.max_document_tokens,
        config.data.max_summary_tokens,
    )
    blank = [place for place, text in enumerate(texts) if not text.strip()]
    told = [place for place, text in enumerate(texts) if text.strip()]
    for places in [blank, *by_length(pairs, told, config.generation.batch_size)]:
        if done is not None and all(done[chunk[place][0]] for place in places):
            continue
        if places is blank:
            found = [
                [GeneratedSummary(row=place, summary="", truncated=False, score=0.0)]
                for place in blank
            ]
        else:
            in_windows = config.generation.long_documents == "split"
            found = summarizer.summarize(pairs.batch(places, in_windows=in_windows))
        rows = []
        for place, written in zip(places, found, strict=True):
            number, identifier, _ = chunk[place]
            out: dict[str, Any] = {"id": identifier, "summary": written[0].summary}
            if config.generation.num_return_sequences > 1:
                out["summaries"] = [
                    {"summary": each.summary, "score": each.score} for each in written
                ]
            rows.append({"row": number, "long": bool(pairs.is_long[place]), "out": out})
        yield rows
