"""The summaries that a model generates without some of its heads."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from itertools import chain

from headcount.data.batches import EncodedPairs, by_length
from headcount.generation.hypothesis import Hypothesis
from headcount.heads.blocks import Model, gated, gates_without, parse_head
from headcount.model.attention_blocks import attention_blocks
from headcount.training.module import Summarizer


def heads_off(model: Model, heads: Collection[str]) -> AbstractContextManager[None]:
    """Switch heads off within a ``with`` statement, by gates of zero.

    Args:
        model: the model.
        heads: names of its heads.

    Raises:
        ValueError: it has no such head.
    """
    removed = {parse_head(name, model) for name in heads}
    # Blocks without a removed head get no gates, which would cost time.
    gates = {}
    for name, gates_H in gates_without(model, removed).items():
        if any(head.block == name for head in removed):
            gates[name] = gates_H
    return gated(model, gates)


def generate_without(
    summarizer: Summarizer, documents: EncodedPairs, heads: Collection[str] = ()
) -> list[Hypothesis]:
    """Generate the best summary of each document with some heads switched off.

    Documents longer than ``data.max_document_tokens`` are cut, also with
    ``generation.long_documents=split``.

    Args:
        summarizer: in evaluation mode.
        documents: all of them are summarized.
        heads: names of heads, such as ``cross.0.3``.

    Returns:
        The summaries in the order of the documents.
    """
    # Batches are sorted by length, so summaries arrive in another order than the documents.
    by_row: dict[int, Hypothesis] = {}
    batch_size = summarizer.config.generation.batch_size
    with heads_off(summarizer.model, heads):
        for rows in by_length(documents, range(len(documents)), batch_size):
            hypotheses = summarizer.generate(documents.batch(rows))
            for row, of_document in zip(rows, hypotheses, strict=True):
                by_row[row] = of_document[0]
    return [by_row[row] for row in range(len(documents))]


def head_sets(summarizer: Summarizer) -> list[list[str]]:
    """Return the sets of heads whose effect a page shows: each single head, then all heads of each
    layer, then all heads of each site. A set that equals an earlier one is left out."""
    heads: list[list[str]] = []
    layers: list[list[str]] = []
    by_site: dict[str, list[list[str]]] = {}
    for name, block in attention_blocks(summarizer.model).items():
        of_layer = [f"{name}.{head}" for head in range(block.num_heads)]
        heads.extend([head] for head in of_layer)
        if len(of_layer) > 1:
            layers.append(of_layer)
        by_site.setdefault(name.split(".")[0], []).append(of_layer)

    sites = []
    for of_site in by_site.values():
        if len(of_site) > 1:
            sites.append(list(chain.from_iterable(of_site)))
    return [*heads, *layers, *sites]


def summaries_without(
    summarizer: Summarizer,
    documents: EncodedPairs,
    sets: Sequence[Sequence[str]],
    *,
    after_each: Callable[[], None] = lambda: None,
) -> list[list[str]]:
    """Return for each set of heads the summaries of all documents without it.

    Args:
        summarizer: in evaluation mode.
        documents: all of them are summarized.
        sets: names of the heads that are switched off together.
        after_each: called after each set, to show progress.
    """
    summaries = []
    for heads in sets:
        hypotheses = generate_without(summarizer, documents, heads)
        summaries.append([summarizer.text_of(each) for each in hypotheses])
        after_each()
    return summaries
