"""One loop generates for evaluate, summarize and the Python interface."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

import headcount
from headcount.commands.evaluate import evaluate
from headcount.commands.summarize import summarize
from headcount.config.load import load
from headcount.terminal import make_console
from headcount.training import decoding
from headcount.training.decoding import (
    document_batches,
    encode_documents,
    generate_rows,
    move_to_device,
    resume,
    summary_bar,
)
from headcount.training.module import Summarizer
from headcount.training.trainer import make_trainer
from tests.commands.test_train import rows, trained
from tests.training.test_module import built

TEXTS = ["Ada: Good day.", "", "Ben: I would like a pear. " * 30, "Cleo: Here you are."]


@pytest.mark.parametrize("overrides", [[], ["generation.long_documents=split"]])
def test_a_document_without_tokens_has_an_empty_summary(overrides: list[str], small) -> None:
    """Whatever else is in its batch, it changes nothing there."""
    summarizer, _ = built(small, *overrides)
    summarizer.eval()
    found = {}
    for batch in generate_rows(
        summarizer, document_batches(summarizer, encode_documents(summarizer, TEXTS))
    ):
        for row in batch:
            found[row.row] = row.summaries
    assert found[1][0].summary == "" and not found[1][0].truncated and found[1][0].score == 0
    full = [text for text in TEXTS if text]
    alone = [
        batch[0].summaries
        for text in full
        for batch in generate_rows(
            summarizer, document_batches(summarizer, encode_documents(summarizer, [text]))
        )
    ]
    assert [found[row][0].summary for row in (0, 2, 3)] == [each[0].summary for each in alone]


def test_done_documents_are_left_out_by_batches(small) -> None:
    summarizer, _ = built(small, "generation.batch_size=2")
    documents = encode_documents(summarizer, TEXTS)
    batches = [batch.indices for batch in document_batches(summarizer, documents)]
    assert batches == [[2, 3], [0, 1]]  # the longest first
    done = np.array([True, False, True, True])
    left = [batch.indices for batch in document_batches(summarizer, documents, done)]
    assert left == [[0, 1]]


@pytest.mark.parametrize(
    ("precision", "expected"), [("32-true", torch.float32), ("bf16-true", torch.bfloat16)]
)
def test_the_precision_of_the_trainer_is_used(precision: str, expected, small) -> None:
    summarizer, _ = built(small, f"trainer.precision={precision}")
    move_to_device(summarizer, make_trainer(summarizer.config, loggers=[], callbacks=[]))
    assert {parameter.dtype for parameter in summarizer.parameters()} == {expected}
    assert not summarizer.training


def test_mixed_precision_is_used(small, monkeypatch: pytest.MonkeyPatch) -> None:
    summarizer, _ = built(small, "trainer.precision=bf16-mixed")
    trainer = make_trainer(summarizer.config, loggers=[], callbacks=[])
    seen = []
    monkeypatch.setattr(
        Summarizer, "generate", lambda *_: seen.append(torch.is_autocast_enabled("cpu")) or []
    )
    batches = document_batches(summarizer, encode_documents(summarizer, TEXTS[:1]))
    with pytest.raises(ValueError):
        next(generate_rows(summarizer, batches, trainer))
    assert seen == [True] and not torch.is_autocast_enabled("cpu")


def test_only_rows_of_the_same_origin_are_resumed(small, tmp_path: Path) -> None:
    trainer = make_trainer(small(), loggers=[], callbacks=[])
    resume(trainer, tmp_path / "parts", 3, {"a": 1}).append([{"row": 2}])
    assert resume(trainer, tmp_path / "parts", 3, {"a": 1}).done.tolist() == [False, False, True]
    assert not resume(trainer, tmp_path / "parts", 3, {"a": 2}).done.any()


def test_the_bar_counts_and_is_closed_by_an_error() -> None:
    console = make_console(io.StringIO(), width=120)
    with pytest.raises(ZeroDivisionError), summary_bar(console, 12) as advance:
        advance(5)
        advance(3)
        raise ZeroDivisionError
    console.print("after")
    drawn = console.file.getvalue()
    assert "8/12" in drawn and "summaries/s" in drawn and drawn.endswith("after\n")
    hidden = make_console(io.StringIO())
    with summary_bar(hidden, None, visible=False) as advance:
        advance(5)
    assert "summaries" not in hidden.file.getvalue()


def test_every_command_generates_in_this_loop(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And writes the same summaries."""
    folder = trained(small)
    config = load([str(folder / "config.yaml")], [])
    documents = Path(config.data.path) / "test.jsonl"
    loops = []
    generate = Summarizer.summarize

    def noted(self: Summarizer, batch):
        import inspect

        loops.append(inspect.stack()[1].function)
        return generate(self, batch)

    monkeypatch.setattr(Summarizer, "summarize", noted)
    evaluate(folder, config)
    summarize(folder, config, str(documents), out=tmp_path / "out.jsonl")
    summarize(folder, config, str(documents))
    run = headcount.load_run(folder)
    summaries = run.summarize([row["document"] for row in rows(documents)])
    assert set(loops) == {decoding.generate_rows.__name__} and len(loops) >= 4
    expected = [row["summary"] for row in rows(folder / "evaluation-1" / "predictions.jsonl")]
    assert [row["summary"] for row in rows(tmp_path / "out.jsonl")] == expected == summaries
