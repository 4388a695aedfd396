from dataclasses import replace

import pytest
import torch

from tests.training.test_module import built


def test_samples_do_not_depend_on_what_was_drawn_before(small) -> None:
    summarizer, data = built(small, "generation.strategy=sample")
    summarizer.eval()
    batch = data.splits["test"].batch(range(6))
    first = summarizer.predict_step(batch, 0)
    torch.rand(3)
    assert summarizer.predict_step(batch, 0) == first
    summarizer.config = replace(summarizer.config, seed=1)
    assert summarizer.predict_step(batch, 0) != first


def test_long_documents_in_windows(small) -> None:
    """The summaries of the windows are joined; a short document is as it always is."""
    lengths = ["data.max_document_tokens=24", "generation.batch_size=5"]
    summarizer, data = built(
        small, *lengths, "generation.long_documents=split", "generation.strategy=beam"
    )
    summarizer.eval()
    split = data.splits["test"]
    batch = split.batch(range(12), in_windows=True)
    found = summarizer.summarize(batch)
    alone = [summarizer.generate(window)[0][0] for window in batch.pieces(1)]
    assert [documents[0].row for documents in found] == list(range(12)) and len(alone) > 24
    for row, [written] in enumerate(found):
        mine = [each for each, index in zip(alone, batch.indices, strict=True) if index == row]
        assert written.summary == " ".join(summarizer.text_of(each) for each in mine)
        assert written.score == pytest.approx(sum(each.score for each in mine), rel=1e-4)
        assert written.truncated == any(not each.finished for each in mine)


def test_minimum_bayes_risk_of_long_documents(small) -> None:
    """One choice for each window; the summaries are joined and their scores added."""
    summarizer, data = built(
        small,
        "data.max_document_tokens=24",
        "generation.batch_size=5",
        "generation.long_documents=split",
        "generation.strategy=mbr",
        "generation.max_tokens=8",
    )
    summarizer.eval()
    batch = data.splits["test"].batch(range(4), in_windows=True)
    windows = [summarizer.generate(window)[0][0] for window in batch.pieces(1)]
    for row, [written] in enumerate(summarizer.summarize(batch)):
        mine = [each for each, index in zip(windows, batch.indices, strict=True) if index == row]
        assert len(mine) > 1
        assert written.summary == " ".join(summarizer.text_of(each) for each in mine)
        assert written.score == pytest.approx(sum(each.score for each in mine), rel=1e-4)
