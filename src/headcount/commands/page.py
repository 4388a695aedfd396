"""The command ``page``: documents, summaries and attention as one HTML file for offline use."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headcount.config.load import sort_arguments
from headcount.config.schema import Config
from headcount.config.sections.data import DataConfig
from headcount.data.batches import EncodedPairs
from headcount.data.documents import read_documents
from headcount.data.pairs import Pairs
from headcount.data.sources import load_splits
from headcount.errors import ConfigError
from headcount.page.examples import choose_examples
from headcount.page.html import ATTENTION, write_page
from headcount.page.payload import (
    Page,
    PageRun,
    count_steps,
    make_page,
    select_rows,
    without_references,
)
from headcount.runs.files import write_atomically
from headcount.runs.folder import RunFile, load_run_config, reject_links
from headcount.runs.model_hub import default_output_path, find_model, hub_name
from headcount.terminal import make_console, print_line
from headcount.training.callbacks.progress import progress_bar
from headcount.training.decoding import move_to_gpu_if_any
from headcount.training.ensemble import load_summarizer
from headcount.training.module import Summarizer

MAX_RUNS = 2
SHORT_EXAMPLES = 5  # number of documents of the page that a training writes at its end
SHORT_DOCUMENT = 512  # largest number of tokens of such a document


def page(
    arguments: Sequence[str], *, documents: int, out: Path | None = None, heads_off: bool = True
) -> None:
    """Write a page of one or two runs.

    Args:
        arguments: run folders, exports or ids of the hub, at most one file of documents, and
            ``KEY=VALUE`` changes to the configs of the runs.
        documents: number of documents: a fixed random sample of the test split, or the first ones
            of the file.
        out: the file to write; None: ``page.html`` in the folder of the first run, or for a model
            from the hub in the current folder.
        heads_off: also generate the summaries without each head.

    Raises:
        ConfigError: a run is not complete, or the documents cannot be read.
    """
    folders, file, overrides = sort_runs(arguments)
    for folder in folders:
        reject_links(folder)
    runs = [load_page_run(folder, overrides) for folder in folders]
    pairs = read_pairs(runs, file, documents)
    total = count_steps(runs, len(pairs), with_heads_off=heads_off)
    with progress_bar(make_console(stderr=True)) as progress:
        task = progress.add_task("writing the page", total=total, note="")
        content = make_page(
            pairs, runs, with_heads_off=heads_off, after_each=lambda: progress.advance(task)
        )
    path = out or default_output_path(folders[0], RunFile.PAGE)
    save_page(content, path)
    print_line(f"page: {path} ({path.stat().st_size / 1e6:.1f} MB), opens in any browser")


def write_attention_page(summarizer: Summarizer, split: EncodedPairs, folder: Path) -> Path:
    """Write the page at the end of a training: a few short documents, without heads off.

    Args:
        summarizer: has the best weights.
        split: the split from which the documents are chosen.
        folder: the run folder.

    Returns:
        The file, ``attention.html`` in the run folder.

    Raises:
        RunError: it cannot be written.
    """
    rows = choose_short_examples(split.document_lengths)
    run = PageRun(name=folder.resolve().name, summarizer=summarizer.eval(), folder=folder)
    path = folder / RunFile.ATTENTION_PAGE
    save_page(make_page(select_rows(split.pairs, rows), [run], with_heads_off=False), path)
    return path


def choose_short_examples(lengths: NDArray[np.int64]) -> list[int]:
    """Return the rows of a fixed random sample of the short documents, or of the shortest ones.

    The attention within long documents would take gigabytes at the end of a training.

    Args:
        lengths: number of tokens of each document.
    """
    limit = max(SHORT_DOCUMENT, int(np.sort(lengths)[:SHORT_EXAMPLES][-1]))
    short = np.flatnonzero(lengths <= limit)
    return [int(short[row]) for row in choose_examples(SHORT_EXAMPLES, len(short))]


def save_page(content: Page, path: Path) -> None:
    """Write a page as a file.

    Raises:
        RunError: it cannot be written.
    """
    write_atomically(path, write_page(ATTENTION, content.content, content.maps))


def sort_runs(arguments: Sequence[str]) -> tuple[list[Path], str | None, list[str]]:
    """Sort arguments into run folders, a file of documents (or None) and overrides.

    Exports on the Hugging Face hub, given by their ids, are downloaded.

    Raises:
        ConfigError: there is no run, or more than two, or more than one file; or the hub has no
            such export.
    """
    folders = []
    others = []
    for argument in arguments:
        folder = _find_folder(argument)
        if folder is None:
            others.append(argument)
        else:
            folders.append(folder)
    files, overrides = sort_arguments(others)
    if not folders:
        first = files[0] if files else "page"
        raise ConfigError(f"{first}: not a run folder; legal: RUN [RUN] [FILE] [KEY=VALUE...]")
    if len(folders) > MAX_RUNS:
        raise ConfigError(f"{folders[MAX_RUNS]}: a third run; legal: one or two")
    if len(files) > 1:
        raise ConfigError(f"{files[1]}: neither a run folder nor the only file; legal: one file")
    return folders, files[0] if files else None, overrides


def _find_folder(argument: str) -> Path | None:
    """Return the folder of a run or an export, perhaps on the hub; None for other arguments."""
    path = Path(argument)
    try:
        if path.is_dir():
            return path
        if "=" in argument:
            return None
        found = find_model(path)
    except (OSError, ValueError):  # not a path: too long, or with a NUL character
        return None
    return None if found == path else found


def load_page_run(folder: Path, overrides: Sequence[str]) -> PageRun:
    """Load the best checkpoint of a run or an export for a page.

    Raises:
        ConfigError: there is no checkpoint, or an override changes the trained model.
    """
    config = load_run_config(folder, list(overrides))
    summarizer = load_summarizer([folder], config)
    move_to_gpu_if_any(summarizer)
    name = hub_name(folder) or folder.resolve().name
    return PageRun(name=name, summarizer=summarizer, folder=folder)


def read_pairs(runs: Sequence[PageRun], file: str | None, documents: int) -> Pairs:
    """Return the documents of a page.

    Args:
        runs: the runs; the config of the first one has the test split.
        file: a file of text or JSONL; None: the test split.
        documents: number of documents.

    Raises:
        ConfigError: the documents cannot be read, or there are none.
    """
    config = runs[0].summarizer.config
    if file is None:
        folder = runs[0].folder
        trained = None if folder is None else load_run_config(folder, []).data
        return _test_pairs(config, trained, documents)

    # Read no more of a large file than the first documents that are not blank.
    rows = read_documents(file, list(config.data.document_columns))
    not_blank = ((identifier, text) for identifier, text in rows if text.strip())
    ids = []
    texts = []
    for number, (identifier, text) in enumerate(islice(not_blank, documents), start=1):
        ids.append(f"line {number}" if identifier is None else str(identifier))
        texts.append(text)
    if not texts:
        raise ConfigError(f"{file}: no documents in it; legal: text or JSONL with at least one")
    return without_references(ids, texts)


def _test_pairs(config: Config, trained: DataConfig | None, documents: int) -> Pairs:
    splits, _ = load_splits(config.data, {"test": config.data.test_split}, trained=trained)
    pairs = splits["test"]
    return select_rows(pairs, choose_examples(documents, len(pairs)))
