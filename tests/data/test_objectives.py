"""Examples made from documents: what is left out, what is put together again, what never occurs."""

import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, normalizers

from headcount.data import objectives
from headcount.data.batches import EncodedPairs, Layout
from headcount.data.objectives import (
    Drawn,
    ExampleMaker,
    Plan,
    TrainingExamples,
    find_sentences,
    infill,
    leave_out_sentences,
    prepare_sentences,
)
from headcount.data.pairs import Pairs
from headcount.data.tokenizer import train_tokenizer
from headcount.data.tokens import Ids, TokenColumn
from headcount.training.data_module import SummarizationDataModule

START, END = 0, 1
TEXTS = [
    "The cat sat. It was warm there. Nobody came!\n\nThen Ada opened the door.",
    "One sentence only",
    "Short. Very short. "
    + "A sentence that is far longer than any summary may be " * 5
    + ". End.",
    "",
]
TOKENIZER = train_tokenizer(TEXTS, "bpe", 300)


def layout(document: int = 40, summary: int = 20) -> Layout:
    return Layout(
        start_id=START, end_id=END, max_document_tokens=document, max_summary_tokens=summary
    )


def by_stops(text: str) -> list[str]:
    """Sentences as the tests need them: each ends with a full stop."""
    return re.findall(r"[^.]+\.?", text)


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


def test_sentences_are_found_among_the_tokens() -> None:
    [begins, one, _, none] = find_sentences(TEXTS, TOKENIZER, by_stops)
    ids = np.array(TOKENIZER.encode(TEXTS[0]).ids)
    pieces = [TOKENIZER.decode(part.tolist()).strip() for part in np.split(ids, begins[1:])]
    assert pieces == [
        "The cat sat.",
        "It was warm there.",
        "Nobody came!\n\nThen Ada opened the door.",
    ]
    assert one.tolist() == [0] and none.tolist() == []


def test_a_sentence_without_tokens_is_none() -> None:
    """A normalizer may drop whole scripts; what is left out must not be empty."""
    dropping = Tokenizer.from_str(TOKENIZER.to_str())
    dropping.normalizer = normalizers.Replace(Regex("[^ -~]+"), "")
    [begins] = find_sentences(["The cat sat. It was warm.\u6771\u4eac"], dropping, by_stops)
    assert begins.tolist() == [0, len(dropping.encode("The cat sat. ").ids)]


def test_sentences_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Pairs(ids=TEXTS, documents=TEXTS, references=[["s"]] * len(TEXTS))

    def prepare(sha256: str = "sha", unit: str = "sentence") -> TokenColumn:
        return prepare_sentences(
            pairs, sha256, TOKENIZER, unit=unit, split_units=by_stops, cache_dir=str(tmp_path)
        )

    expected = [row.tolist() for row in find_sentences(TEXTS, TOKENIZER, by_stops)]
    monkeypatch.setattr(objectives, "CHUNK", 1000)
    assert [prepare()[example].tolist() for example in range(len(TEXTS))] == expected
    monkeypatch.setattr(objectives, "find_sentences", lambda *_: pytest.fail("found again"))
    assert [prepare()[example].tolist() for example in range(len(TEXTS))] == expected
    for changed in ({"sha256": "other"}, {"unit": "line"}):
        with pytest.raises(pytest.fail.Exception, match="found again"):
            prepare(**changed)


@pytest.mark.parametrize("objective", ["summarize", "gap_sentences", "infill"])
def test_examples_are_decided_by_seed_epoch_and_number_and_never_longer_than_announced(
    objective: str,
) -> None:
    split = EncodedPairs(
        Pairs(ids=TEXTS, documents=TEXTS, references=[["a summary"]] * len(TEXTS)),
        TOKENIZER,
        200,
        60,
    )
    columns = find_sentences(TEXTS, TOKENIZER, by_stops)
    plan = Plan(objectives=[(0, objective)])

    def batch(epoch: int, *, seed: int = 0, indices: tuple[int, ...] = (0, 1, 2, 3)) -> list:
        maker = ExampleMaker(layout=split.layout, seed=seed)
        examples = TrainingExamples(split, plan, maker, sentences=columns)
        made = examples.batch(Drawn(indices=np.array(indices), epoch=epoch, objective=objective))
        tokens = np.add(made.document_lengths, made.summary_lengths)
        assert (tokens <= examples.lengths[list(indices)]).all()
        if objective != "gap_sentences":
            assert (tokens == examples.lengths[list(indices)]).all()
        documents = made.document_ids.split(made.document_lengths)
        summaries = made.summary_ids.split(made.summary_lengths)
        return [(d.tolist(), s.tolist()) for d, s in zip(documents, summaries, strict=True)]

    first = batch(0)
    assert first == batch(0) and batch(0, indices=(2, 0)) == [first[2], first[0]]
    is_same = objective == "summarize"
    for other in (batch(1), batch(0, seed=1)):
        assert (other == first) == is_same


def test_the_plan_counts_optimizer_steps() -> None:
    """Five batches of an epoch in steps of two are three steps."""
    plan = Plan(
        objectives=[(0, "infill"), (4, "summarize")], batches_per_step=2, batches_per_epoch=5
    )
    found = [plan.objective(position, epoch) for epoch in range(2) for position in range(5)]
    assert found == ["infill"] * 7 + ["summarize"] * 3
    endless = Plan(objectives=[(0, "infill"), (4, "gap_sentences"), (5, "summarize")])
    assert [endless.objective(position) for position in (0, 3, 4, 5, 99)] == [
        "infill", "infill", "gap_sentences", "summarize", "summarize"
    ]  # fmt: skip
    assert plan.uses("infill") and not plan.uses("gap_sentences")


@pytest.mark.parametrize("changes", [[], ["data.streaming=true"]])
@pytest.mark.parametrize("objective", ["gap_sentences", "infill"])
def test_nothing_of_validation_and_test_is_learned_from(
    objective: str, changes: list[str], small
) -> None:
    """Everything that training reads and writes is text of the training documents."""
    data = SummarizationDataModule(
        small(f"data.objective={objective}", "evaluation.unit=line", *changes)
    )
    data.setup()
    whole = SummarizationDataModule(small())
    whole.setup()
    split = whole.splits["train"]
    documents = {example: split.documents[example].tolist() for example in range(len(split))}
    start, end = split.layout.start_id, split.layout.end_id

    seen = set()
    for number, batch in enumerate(data.train_dataloader()):
        if number == 12:
            break
        for index, kept, target in zip(
            batch.indices,
            batch.document_ids.split(batch.document_lengths),
            batch.summary_ids.split(batch.summary_lengths),
            strict=True,
        ):
            removed = [token for token in target.tolist() if token not in (start, end)]
            remaining = [token for token in kept.tolist() if token not in (start, end)]
            assert removed and start in kept
            assert sorted(removed + remaining) == sorted(documents[index])
            seen.add(index)
    assert len(seen) > 30
