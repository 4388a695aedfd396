"""What is left out of a document can be put together again."""

from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headcount.data.batches import Layout
from headcount.data.objectives import gap_sentences_length, infill, leave_out_sentences
from headcount.data.tokens import Ids

START, END = 0, 1


def layout(document: int = 40, summary: int = 20) -> Layout:
    return Layout(
        start_id=START, end_id=END, max_document_tokens=document, max_summary_tokens=summary
    )


def restore(kept: Ids, spans: list[list[int]]) -> list[int]:
    """Put what was left out in the place of the marks."""
    left = iter(spans)
    parts = [next(left) if token == START else [token] for token in kept.tolist()]
    assert next(left, None) is None
    return list(chain.from_iterable(parts))


@given(st.integers(0, 200), st.integers(2, 80), st.integers(2, 60), st.integers(0, 99))
def test_infilled_spans_fill_the_marks(length: int, longest: int, summary: int, seed: int) -> None:
    """Nothing is lost, both sides fit, and the number of tokens depends on the length alone."""
    document = np.arange(2, length + 2, dtype=np.int32)
    within = layout(longest, summary)
    kept, target = infill(document, within, np.random.default_rng(seed))
    spans: list[list[int]] = []
    for token in target.tolist():
        if token == START:
            spans.append([])
        else:
            spans[-1].append(token)
    assert restore(kept, spans) == document[: longest - 1].tolist()
    assert all(spans) and len(kept) < longest and len(target) <= summary - 2
    again, other_target = infill(document, within, np.random.default_rng(seed + 1))
    assert (len(again), len(other_target)) == (len(kept), len(target))


def test_three_tenths_are_infilled_in_spans_of_three() -> None:
    kept, target = infill(
        np.arange(2, 102, dtype=np.int32), layout(128, 64), np.random.default_rng(0)
    )
    assert (target == START).sum() == (kept == START).sum() == 10
    assert (target != START).sum() == 30
    # Two spans never touch.
    assert (np.diff(np.flatnonzero(kept == START)) > 1).all()


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.integers(0, 99))
def test_left_out_sentences_fill_the_marks(lengths: list[int], seed: int) -> None:
    document = np.arange(2, sum(lengths) + 2, dtype=np.int32)
    begins = np.cumsum([0, *lengths[:-1]]).astype(np.int32)
    within = layout(150, 40)
    kept, target = leave_out_sentences(document, begins, within, np.random.default_rng(seed))
    if START in target:  # infilled: no sentence is visible and short enough
        assert not any(
            begin + n < 150 and n <= 38 for begin, n in zip(begins, lengths, strict=True)
        )
        return
    # The summary is whole sentences, in the order of the document.
    spans: list[list[int]] = []
    for token in target.tolist():
        if token - 2 in begins:
            spans.append([])
        spans[-1].append(token)
    assert 1 <= len(spans) <= max(1, round(0.3 * len(lengths)))
    assert restore(kept, spans) == document.tolist()
    assert len(target) <= 38 and target.tolist() == sorted(target.tolist())


def test_a_document_without_a_sentence_to_leave_out_is_infilled() -> None:
    document = np.arange(2, 32, dtype=np.int32)
    for begins in ([0], [0, 25], []):  # one; one too long and one cut; none
        made = leave_out_sentences(
            document, np.array(begins, np.int32), layout(30, 20), np.random.default_rng(3)
        )
        expected = infill(document, layout(30, 20), np.random.default_rng(3))
        assert all(map(np.array_equal, made, expected)), begins


def test_three_tenths_are_of_the_sentences_that_the_model_reads() -> None:
    """Of a hundred sentences ten are read. Thirty would be all of them."""
    document = np.arange(2, 1002, dtype=np.int32)
    begins = np.arange(0, 1000, 10, dtype=np.int32)
    within = layout(101, 200)
    for seed in range(20):
        kept, target = leave_out_sentences(document, begins, within, np.random.default_rng(seed))
        assert (kept == START).sum() == 3 and len(target) == 30
        assert gap_sentences_length(1000, begins, within) >= len(target)
