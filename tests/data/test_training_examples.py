"""Training examples are decided by seed, epoch and number, and made of the training split alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from headcount.data.batches import EncodedPairs
from headcount.data.pairs import Pairs
from headcount.data.sentences import find_sentences
from headcount.data.training_examples import Drawn, ExampleMaker, Plan, TrainingExamples
from headcount.training.data_module import SummarizationDataModule
from tests.data.test_sentences import TEXTS, TOKENIZER, by_stops


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


CARVED = ["data.validation_split=null", "data.test_split=null", "data.carved_examples=10"]


@pytest.mark.parametrize("changes", [[], ["data.streaming=true"], CARVED])
@pytest.mark.parametrize("objective", ["gap_sentences", "infill"])
def test_nothing_of_validation_and_test_is_learned_from(
    objective: str, changes: list[str], small
) -> None:
    """Everything that training reads and writes is text of the training documents, also where all
    splits are carved out of one."""
    _number_documents(Path(small().data.path) / "train.jsonl")
    data = SummarizationDataModule(
        small(f"data.objective={objective}", "evaluation.unit=line", *changes)
    )
    data.setup()
    whole = SummarizationDataModule(small(*(CARVED if changes == CARVED else [])))
    whole.setup()
    split = whole.splits["train"]
    documents = {example: split.documents[example].tolist() for example in range(len(split))}
    held_out = [
        sorted(document.tolist())
        for role in ("validation", "test")
        for document in whole.splits[role].documents
    ]
    assert len(held_out) == (20 if changes == CARVED else 24)
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
            assert sorted(removed + remaining) not in held_out
            seen.add(index)
    assert len(seen) > 30


def _number_documents(file: Path) -> None:
    """Make all documents of a file different."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["document"] += f"\nLot {number}."
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
