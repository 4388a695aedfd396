"""The command ``attention``: the attention of each head on a document, as pictures and arrays."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from headcount.config.schema import Config
from headcount.errors import ConfigError, legal_names
from headcount.heads.attention_files import save_maps
from headcount.heads.attention_maps import AttentionMap, document_part, maps_of_text
from headcount.plot_style import save_figure
from headcount.runs.files import unwritable_as_run_error
from headcount.runs.folder import RunFile
from headcount.runs.model_hub import default_output_path
from headcount.terminal import print_line
from headcount.training.attention_plot import Axis, draw_attention
from headcount.training.ensemble import load_summarizer
from headcount.training.module import Summarizer

PICTURES = (".png", ".svg", ".pdf")
ARRAYS = ".npz"
PNG_DPI = 150  # low enough for pictures with many panels


def attention(
    run: Path,
    config: Config,
    text: str | None,
    *,
    example: str | None = None,
    block: str | None = None,
    outs: Sequence[Path] = (),
) -> None:
    """Summarize one document, and write the attention of each head.

    Args:
        run: a run folder or an export.
        config: the run's config, with changes.
        text: the document; None: one of the run's test examples.
        example: the id or the number of that example; None: the shortest one.
        block: the attention block to draw, such as ``encoder.0``; None: the last layer's attention
            to the document.
        outs: files to write, each a picture of the block (png, svg, pdf), or the weights of all
            blocks (npz). Empty: ``attention.png`` in the run folder, or in the current folder for
            a model from the hub.

    Raises:
        ConfigError: there is no such example, block or format, or the run is not complete.
        RunError: a file cannot be written.
    """
    # Check the options before the model is loaded.
    outs = list(outs) or [default_output_path(run, RunFile.ATTENTION_PICTURE)]
    for out in outs:
        if out.suffix not in (*PICTURES, ARRAYS):
            kinds = ", ".join(kind.removeprefix(".") for kind in (*PICTURES, ARRAYS))
            raise ConfigError(f"--out {out}: an unknown format; legal: {kinds}")
    if text is not None and example is not None:
        raise ConfigError(f"--example {example}: given together with a text; legal: one of them")
    if text is None:
        text = _example(run, example)
    text = text.strip()
    if not text:
        raise ConfigError("the text is blank; legal: a document")

    summarizer = load_summarizer([run], config)
    maps = maps_of_text(summarizer, text)
    chosen = _choose(maps, block)
    for out in outs:
        if out.suffix == ARRAYS:
            save_maps(maps, summarizer.token_name, out)
        else:
            _draw(summarizer, chosen, out)
    print_line(f"summary: {_summary(summarizer, maps)}")
    for out in outs:
        print_line(f"{'all blocks' if out.suffix == ARRAYS else chosen.block}: {out}")


def _example(run: Path, wanted: str | None) -> str:
    """Return the document of a test example.

    Args:
        run: a run folder.
        wanted: the example's id, or its number from zero; None: the shortest document.

    Raises:
        ConfigError: the run has no such example.
    """
    # Read the documents from the predictions, a file that a user may have edited.
    path = run / RunFile.PREDICTIONS
    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        documents = {str(row["id"]): str(row["document"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: no documents in it ({type(error).__name__}); legal: a text, as in headcount "
            f'attention {run} "A long text."'
        ) from None

    # Choose the shortest one, or find it by its id or its number. An id may be a number, too.
    texts = [text for text in documents.values() if text.strip()]
    if wanted is None and texts:
        return min(texts, key=len)
    if wanted in documents:
        return documents[wanted]
    if wanted is not None and wanted.isdecimal() and int(wanted) < len(documents):
        return list(documents.values())[int(wanted)]
    raise ConfigError(
        f"--example {wanted}: no such example in {path}; legal: 0 to {len(documents) - 1}, or an "
        f"id such as {next(iter(documents), 'none')}"
    )


def _choose(maps: Sequence[AttentionMap], block: str | None) -> AttentionMap:
    """Return the map of a block; None: that of the last layer's attention to the document."""
    if block is None:
        last = maps[-1]
        if last.positions is None:
            return last
        # The last layer of a decoder-only model has queries of the summary only, so the position
        # of the first one is the length of the document.
        return document_part(last, int(last.positions[0]))
    by_name = {each.block: each for each in maps}
    if block not in by_name:
        raise ConfigError(f"--block {block}: not in this model; {legal_names(block, [*by_name])}")
    return by_name[block]


def _draw(summarizer: Summarizer, chosen: AttentionMap, path: Path) -> None:
    """Draw the attention of a block.

    Rows of cross-attention are named after the tokens that are generated, not after the inputs.
    """
    is_to_document = chosen.positions is None and chosen.next_ids is not None
    query_ids = chosen.next_ids if is_to_document else chosen.query_ids
    assert query_ids is not None
    queries = Axis(
        title="summary" if is_to_document else f"{chosen.block}: queries",
        tokens=[summarizer.token_name(token) for token in query_ids.tolist()],
    )
    keys = Axis(
        title="document" if is_to_document else "keys",
        tokens=[summarizer.token_name(token) for token in chosen.key_ids.tolist()],
    )
    figure = draw_attention(torch.from_numpy(chosen.weights), queries, keys)
    with unwritable_as_run_error(path):
        save_figure(figure, path, dpi=PNG_DPI)


def _summary(summarizer: Summarizer, maps: Sequence[AttentionMap]) -> str:
    """Return the summary, whose tokens are those that follow the queries of the last layer."""
    generated = maps[-1].next_ids
    assert generated is not None
    return " ".join(summarizer.tokenizer.decode(generated.tolist()).split())
