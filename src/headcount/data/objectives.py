"""Training objectives: examples made from the documents of the training split alone.

Self-pretraining on the data set at hand takes no other text (Krishna et al. 2022). What is left
out of a document is its summary.

Where something was left out there is a mark. It is the start token, which occurs in no other
document: the vocabulary and the shapes of the model stay the same.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headcount.data.batches import Layout
from headcount.data.tokens import Ids

REMOVED_SHARE = 0.3  # of sentences (Zhang et al. 2020), or of tokens (Lewis et al. 2020)
MEAN_SPAN = 3  # tokens of a span (Lewis et al. 2020, section 2.2)


def leave_out_sentences(
    document: Ids, sentences: Ids, layout: Layout, random: np.random.Generator
) -> tuple[Ids, Ids]:
    """Gap sentences: some sentences are left out of a document, and are its summary.

    Pegasus (Zhang et al. 2020, section 3.1) with its random choice, which is another one in each
    epoch. Three tenths of the sentences that the model reads are left out, at least one, as far as
    the summary has room; never one that is cut from the document or longer than a summary. A
    document that has no such sentence, or no other, is infilled instead.

    Args:
        document: its uncut token ids.
        sentences: the first token of each sentence.
        layout: how long documents and summaries may be.
        random: what chooses.

    Returns:
        The token ids of the document, with a mark for each sentence, and of the summary.
    """
    bounds = np.append(sentences, len(document))
    candidates = _find_candidates(bounds, layout)
    if not len(candidates):
        return infill(document, layout, random)

    # Choose at random. A sentence that the summary has no room for is passed over.
    room = layout.max_summary_tokens - 2
    gaps = _count_gaps(bounds, layout)
    spans: list[tuple[int, int]] = []
    for sentence in random.permutation(candidates).tolist():
        begin, end = bounds[sentence : sentence + 2].tolist()
        if end - begin <= room and len(spans) < gaps:
            spans.append((begin, end))
            room -= end - begin

    kept, removed = _cut_spans(document, sorted(spans), layout.start_id)
    return kept, np.concatenate(removed)


def gap_sentences_length(tokens: int, sentences: Ids, layout: Layout) -> int:
    """Return how many tokens both sides have at most, whichever sentences are left out.

    Args:
        tokens: number of tokens of the uncut document.
        sentences: the first token of each sentence.
        layout: how long documents and summaries may be.
    """
    bounds = np.append(sentences, tokens)
    candidates = _find_candidates(bounds, layout)
    gaps = min(len(candidates), _count_gaps(bounds, layout))
    if not gaps:
        return infill_length(tokens, layout)

    # The tokens, a mark for each gap, and the special ones of both sides.
    longest = layout.max_document_tokens + layout.max_summary_tokens
    return min(tokens + gaps + 3, longest)


def _find_candidates(bounds: Ids, layout: Layout) -> NDArray[np.int64]:
    """Return which sentences may be left out.

    Args:
        bounds: the first token of each sentence, and the number of tokens of the document.
        layout: how long documents and summaries may be.
    """
    if len(bounds) < 3:  # one sentence
        return np.array([], np.int64)
    fits = np.diff(bounds) <= layout.max_summary_tokens - 2
    return np.flatnonzero(_is_visible(bounds, layout) & fits)


def _is_visible(bounds: Ids, layout: Layout) -> NDArray[np.bool_]:
    """Return which sentences are whole once the document is cut."""
    return bounds[1:] < layout.max_document_tokens


def _count_gaps(bounds: Ids, layout: Layout) -> int:
    """Return how many sentences are left out, as far as there is room.

    Of a long document, three tenths of all sentences may be all that the model reads of it.
    """
    visible = np.count_nonzero(_is_visible(bounds, layout))
    return max(1, round(REMOVED_SHARE * visible))


def infill(document: Ids, layout: Layout, random: np.random.Generator) -> tuple[Ids, Ids]:
    """Text infilling: spans of tokens are left out of a document, a mark for each, and the summary
    is the spans.

    The document is that of BART (Lewis et al. 2020, section 2.2): three tenths of its tokens are
    left out, in spans of three tokens on average. BART then writes the whole document. A summary
    is shorter than that, so here it is the spans alone, each after a mark, as in T5 (Raffel et al.
    2020, section 3.1.4). As there, the number of tokens and of spans depends on the length of the
    document alone.

    Args:
        document: its uncut token ids; it is cut.
        layout: how long documents and summaries may be.
        random: what chooses.

    Returns:
        The token ids of the document and of the summary.
    """
    document = document[: layout.max_document_tokens - 1]
    removed_tokens, spans = _count_spans(len(document), layout)
    if not spans:
        return document, document[:0]

    # Cut the removed tokens into spans, and choose where among the kept tokens each is.
    cuts = np.sort(random.choice(removed_tokens - 1, spans - 1, replace=False)) + 1
    lengths = np.diff(cuts, prepend=0, append=removed_tokens)
    kept_tokens = len(document) - removed_tokens
    places = np.sort(random.choice(kept_tokens + 1, spans, replace=False))
    begins = places + np.cumsum(lengths) - lengths

    ends = begins + lengths
    kept, removed = _cut_spans(document, list(zip(begins, ends, strict=True)), layout.start_id)
    mark = np.array([layout.start_id], np.int32)
    summary: list[Ids] = []
    for span in removed:
        summary += [mark, span]
    return kept, np.concatenate(summary)


def infill_length(tokens: int, layout: Layout) -> int:
    """Return how many tokens both sides have, whichever spans are left out.

    Args:
        tokens: number of tokens of the uncut document.
        layout: how long documents and summaries may be.
    """
    visible = min(tokens, layout.max_document_tokens - 1)
    _, spans = _count_spans(visible, layout)
    return visible + 2 * spans + 3


def _count_spans(tokens: int, layout: Layout) -> tuple[int, int]:
    """Return how many tokens of a document are left out, and in how many spans."""
    removed = max(1, round(REMOVED_SHARE * tokens))
    # Spans and marks must fit into the summary.
    room = layout.max_summary_tokens - 2
    removed = min(removed, tokens, room * MEAN_SPAN // (MEAN_SPAN + 1))
    spans = -(-removed // MEAN_SPAN)
    return removed, min(spans, tokens - removed + 1)


def _cut_spans(
    document: Ids, spans: Sequence[tuple[int, int]], mark: int
) -> tuple[Ids, list[Ids]]:
    """Return a document with a mark in place of each span, and the spans."""
    mark_ids = np.array([mark], np.int32)
    kept: list[Ids] = []
    removed: list[Ids] = []
    position = 0
    for begin, end in spans:
        kept += [document[position:begin], mark_ids]
        removed.append(document[begin:end])
        position = end
    kept.append(document[position:])
    return np.concatenate(kept), removed
