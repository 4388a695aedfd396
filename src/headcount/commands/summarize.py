"""The command ``summarize``: summarize new documents, to standard output or to a file.

Without a file, on a terminal, it is a prompt that summarizes each line at once.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from headcount.config.schema import Config
from headcount.data.documents import read_documents
from headcount.data.files import digest
from headcount.data.pairs import REPLACEMENT, clean_text
from headcount.errors import ConfigError, RunError
from headcount.escape import json_line
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile, lock_folder
from headcount.runs.partial_predictions import PartialPredictions, read_provenance
from headcount.terminal import make_console, print_line
from headcount.training.decoding import (
    describe_long_documents,
    document_batches,
    encode_documents,
    generate_rows,
    move_to_device,
    resume,
    summary_bar,
)
from headcount.training.ensemble import digest_checkpoints, load_summarizer
from headcount.training.module import Summarizer
from headcount.training.processes import silence_other_ranks, start_other_ranks
from headcount.training.trainer import make_trainer

BATCHES_PER_CHUNK = 8  # documents are sorted by length within a chunk
MAX_CHUNK_CHARACTERS = 10_000_000  # about the most characters of documents in memory at a time


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document to summarize.

    Attributes:
        row: its index among the documents.
        identifier: its id; None for a line of text.
        text: the document.
    """

    row: int
    identifier: Any
    text: str


@dataclass(frozen=True, kw_only=True)
class _Source:
    """The arguments of ``read_documents``, for a file that is read more than once."""

    file: str
    columns: list[str]
    is_whole: bool

    def read(self) -> Iterator[Document]:
        documents = read_documents(self.file, self.columns, is_whole=self.is_whole)
        for row, (identifier, text) in enumerate(documents):
            yield Document(row=row, identifier=identifier, text=text)

    def digest(self) -> str:
        try:
            return digest(Path(self.file))
        except OSError as error:
            raise ConfigError(
                f"{self.file}: {error.strerror}; legal: a file, or - for standard input"
            ) from None


def summarize(
    run: Path,
    config: Config,
    file: str,
    *,
    others: Sequence[Path] = (),
    out: Path | None = None,
    is_whole: bool = False,
) -> None:
    """Summarize new documents, to standard output or to a file.

    The output file is written when it is complete. Until then its rows are in ``OUT.parts``, from
    which the same command resumes. ``OUT.provenance.json`` lists what the file depends on.
    With ``trainer.devices`` several processes share the documents; to standard output one process
    writes, with the same summaries.

    Args:
        run: the run folder or export.
        config: the run's config, with changes.
        file: a file of text with one document per line, or of rows; see
            ``headcount.data.documents``. ``-`` is standard input. For rows the output is JSONL. If
            ``generation.num_return_sequences`` is more than one, all summaries are output with
            their scores.
        others: further runs, whose next-token distributions are averaged with the first one's.
        out: the JSONL file to write, in the order of the documents; None: standard output.
        is_whole: summarize a file of text as one document.

    Raises:
        ConfigError: the run is not complete, a setting of its model is changed, a line cannot be
            read, or the output file exists and was written with other settings.
        RunError: the disk is full, or the input changed while it was read.
    """
    runs = [run, *others]
    summarizer = load_summarizer(runs, config)

    # To a file, as a prompt, or to standard output.
    source = _Source(file=file, columns=config.data.document_columns, is_whole=is_whole)
    if out is not None:
        _check_paths(file, out)
        _write_file(summarizer, source, out, digest_checkpoints(runs))
    elif file == "-" and sys.stdin.isatty() and not is_whole:
        _answer_lines(summarizer, _make_trainer_of_one_process(config))
    else:
        _print_summaries(summarizer, _make_trainer_of_one_process(config), source)


# To standard output


def _make_trainer_of_one_process(config: Config) -> pl.Trainer:
    """Make the trainer of a config for one process. Without a GPU it uses what there is, whatever
    the run was trained on."""
    here = {**config.trainer, "devices": 1, "num_nodes": 1, "strategy": "auto"}
    if here.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        here["accelerator"] = "auto"
    return make_trainer(replace(config, trainer=here), loggers=[], callbacks=[])


def _answer_lines(summarizer: Summarizer, trainer: pl.Trainer) -> None:
    """Summarize each line that the user types at a prompt."""
    move_to_device(summarizer, trainer)

    # Without readline, a terminal cuts lines at 4,096 bytes. Bytes that are not UTF-8 must not
    # raise an error.
    with suppress(ImportError):
        import_module("readline")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")

    print_line("one document per line; Ctrl-D ends", file=sys.stderr)
    prompt = "> " if sys.stdout.isatty() else ""
    for row in count():
        try:
            line = input(prompt)
        except (EOFError, KeyboardInterrupt):
            print_line("", file=sys.stderr)
            return
        document = Document(row=row, identifier=None, text=clean_text(line, "text"))
        for batch in _generate(summarizer, trainer, [document]):
            _print_row(document, batch[0]["out"])
            is_repaired = REPLACEMENT in document.text
            _report_documents(summarizer.config, batch[0]["long"], is_repaired, 1)


def _print_summaries(summarizer: Summarizer, trainer: pl.Trainer, source: _Source) -> None:
    """Print the summaries of all documents in their order."""
    move_to_device(summarizer, trainer)
    number = 0
    number_of_long = 0
    number_of_repaired = 0

    # Print each chunk of documents as soon as it is summarized. Batches are sorted by length.
    console = make_console(stderr=True)
    with summary_bar(console, None, visible=not sys.stdout.isatty()) as advance:
        for chunk in _chunks(summarizer.config, source.read()):
            rows: dict[int, dict[str, Any]] = {}
            for batch in _generate(summarizer, trainer, chunk):
                rows.update((row["row"], row) for row in batch)
            for document in chunk:
                _print_row(document, rows[document.row]["out"])
                number_of_long += rows[document.row]["long"]
                number_of_repaired += REPLACEMENT in document.text
            number += len(chunk)
            advance(len(chunk))

    _report_documents(summarizer.config, number_of_long, number_of_repaired, number)


def _report_documents(config: Config, long: int, repaired: int, number: int) -> None:
    """Print to standard error how many documents were cut and how many repaired, if any were."""
    for message in (
        describe_long_documents(config, long, number),
        _describe_repaired_documents(repaired, number),
    ):
        if message:
            print_line(message, file=sys.stderr)


def _print_row(document: Document, out: dict[str, Any]) -> None:
    """Print the summary of a line of text as text, that of a row as JSON.

    If a line of text has several summaries, each is printed on a line: number of the document,
    score and summary, separated by tabs.
    """
    if document.identifier is not None:
        print_line(json_line(out))
    elif "summaries" not in out:
        print_line(out["summary"])
    else:
        for each in out["summaries"]:
            print_line(f"{out['id']}\t{each['score']:.4f}\t{each['summary']}")


def _describe_repaired_documents(number: int, documents: int) -> str:
    """Return a message about documents that are not UTF-8; empty if there are none."""
    if not number:
        return ""
    return f"{number:,} of {documents:,} documents contain bytes that are not UTF-8"


# To a file


def _check_paths(file: str, out: Path) -> None:
    """Reject an output that is a folder, and an input that cannot be read again to resume."""
    if out.is_dir() or not out.name:
        raise ConfigError(f"--out={out}: a folder; legal: a file to write")
    if file == "-" or (Path(file).exists() and not Path(file).is_file()):
        name = "standard input" if file == "-" else file
        raise ConfigError(
            f"--out={out}: {name} cannot be read again to resume; legal: a file of documents"
        )


def _write_file(summarizer: Summarizer, source: _Source, out: Path, checkpoint: str) -> None:
    """Write the summaries of all documents to a file, or resume an interrupted call."""
    config = summarizer.config
    folder = out.with_name(f"{out.name}.parts")
    trainer = make_trainer(config, loggers=[], callbacks=[])
    silence_other_ranks(trainer)
    provenance = _provenance(config, source, checkpoint, trainer.precision)

    # Read all documents once, so that a damaged line is found before anything is written.
    number = 0
    number_of_repaired = 0
    for document in source.read():
        number += 1
        number_of_repaired += REPLACEMENT in document.text
    if _is_finished(out, folder, provenance, number):
        return

    # The first process locks the folder of the rows; all generate their share.
    with ExitStack() as locks:
        if trainer.is_global_zero:
            locks.enter_context(lock_folder(folder))
            # Another process may have finished it before this one got the lock.
            if _is_finished(out, folder, provenance, number):
                return
        start_other_ranks(trainer, folder)
        partial = resume(trainer, folder, number, provenance)
        _generate_remaining(trainer, summarizer, source, partial)
        trainer.strategy.barrier()

        # The first process writes the file from the rows of all.
        if trainer.is_global_zero:
            partial.read()
            _check_input_unchanged(source, provenance, partial)
            _finish(config, partial, out, provenance)
            if message := _describe_repaired_documents(number_of_repaired, number):
                print_line(message)


def _provenance(
    config: Config, source: _Source, checkpoint: str, precision: str
) -> dict[str, Any]:
    """Return the settings that the output file depends on; the batch size is none of them."""
    provenance = {
        "checkpoint": checkpoint,
        "documents": source.digest(),
        "whole": source.is_whole,
        "seed": config.seed,
        "trainer.precision": precision,
        "data.document_columns": list(config.data.document_columns),
    }
    for name, value in asdict(config.generation).items():
        if name != "batch_size":
            provenance[f"generation.{name}"] = value
    # Minimum Bayes risk chooses by ROUGE, which counts the words of this tokenizer.
    if config.generation.strategy == "mbr":
        provenance["evaluation.tokenizer"] = config.evaluation.tokenizer
    return provenance


def _stamp_of(out: Path) -> Path:
    """Return the file that lists what an output file depends on."""
    return out.with_name(f"{out.name}.{RunFile.PROVENANCE}")


def _is_finished(out: Path, folder: Path, provenance: Mapping[str, Any], number: int) -> bool:
    """Return whether the output file is complete; a line is printed if it is.

    Raises:
        ConfigError: the file, or its rows so far, were written with other settings, or not by this
            command.
    """
    stamp = _stamp_of(out) if out.exists() else folder / RunFile.PROVENANCE
    if out.exists() and not stamp.exists():
        raise ConfigError(
            f"--out={out}: exists, and was not written by summarize; legal: a new file"
        )
    earlier = read_provenance(stamp)
    if earlier is None:
        if out.exists():
            raise ConfigError(f"--out={out}: {stamp} is damaged; legal: a new file")
        # Nothing is written yet, or the list of settings is damaged: start from scratch.
        return False

    for name, value in provenance.items():
        if earlier.get(name) != value:
            legal = "a new file" if out.exists() else f"a new file, or to delete {folder}"
            raise ConfigError(
                f"--out={out}: started with {name}={earlier.get(name)}, not {value}; "
                f"legal: {legal}"
            )
    if out.exists():
        print_line(f"{out}: finished, {number:,} summaries")
    return out.exists()


def _generate_remaining(
    trainer: pl.Trainer, summarizer: Summarizer, source: _Source, partial: PartialPredictions
) -> None:
    """Generate the missing rows of this process, which gets every n-th chunk of documents."""
    move_to_device(summarizer, trainer)
    config = summarizer.config

    # Ignore rows that were appended to the file since it was counted; a later check rejects it.
    documents = islice(source.read(), len(partial.done))
    remaining = -(-int((~partial.done).sum()) // trainer.world_size)
    console = make_console(stderr=True)
    with summary_bar(console, remaining, visible=trainer.is_global_zero) as advance:
        for number, chunk in enumerate(_chunks(config, documents)):
            if number % trainer.world_size != trainer.global_rank:
                continue
            done = partial.done[[document.row for document in chunk]]
            for rows in _generate(summarizer, trainer, chunk, done):
                partial.append(rows)
                advance(len(rows))


def _check_input_unchanged(
    source: _Source, provenance: Mapping[str, Any], partial: PartialPredictions
) -> None:
    """Check that the input did not change since the start.

    Raises:
        RunError: it changed. The rows are deleted, as they are of a file that no longer exists.
    """
    if partial.done.all() and source.digest() == provenance["documents"]:
        return
    partial.remove()
    raise RunError(
        f"{source.file}: changed while it was summarized; the same command starts again"
    )


def _finish(
    config: Config, partial: PartialPredictions, out: Path, provenance: Mapping[str, Any]
) -> None:
    """Write the output file, and delete the partial predictions."""
    write_atomically(_stamp_of(out), json.dumps(provenance, indent=2))
    write_atomically(out, (json.dumps(row["out"], ensure_ascii=False) + "\n" for row in partial))
    number = len(partial.done)
    number_of_long = sum(row["long"] for row in partial)
    if message := describe_long_documents(config, number_of_long, number):
        print_line(message)
    partial.remove()
    print_line(f"{out}: {number:,} summaries")


# To either


def _chunks(config: Config, documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield documents in chunks, which are sorted by length for batches of similar length.

    A chunk has a limited number of documents, so that the first summaries appear soon, and of
    characters, so that it fits in memory.
    """
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document.text)
        is_full = len(chunk) == BATCHES_PER_CHUNK * config.generation.batch_size
        if is_full or characters > MAX_CHUNK_CHARACTERS:
            yield chunk
            chunk = []
            characters = 0
    if chunk:
        yield chunk


def _generate(
    summarizer: Summarizer,
    trainer: pl.Trainer,
    chunk: list[Document],
    done: NDArray[np.bool_] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Generate the summaries of a chunk of documents, and yield them a batch at a time.

    Yields:
        For each document of the batch its ``row``, whether it is ``long``, and its output ``out``.
    """
    documents = encode_documents(summarizer, [document.text for document in chunk])
    batches = document_batches(summarizer, documents, done)
    for generated in generate_rows(summarizer, batches, trainer):
        rows = []
        for each in generated:
            document = chunk[each.row]
            number = document.row + 1
            identifier = number if document.identifier is None else document.identifier
            out: dict[str, Any] = {"id": identifier, "summary": each.summaries[0].summary}
            if summarizer.config.generation.num_return_sequences > 1:
                out["summaries"] = [
                    {"summary": summary.summary, "score": summary.score}
                    for summary in each.summaries
                ]
            is_long = bool(documents.is_long[each.row])
            rows.append({"row": document.row, "long": is_long, "out": out})
        yield rows
