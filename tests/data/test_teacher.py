"""Summaries by other models: whose they are, and when they are used."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from headcount.commands.evaluate import evaluate
from headcount.commands.summarize import summarize
from headcount.commands.train import train
from headcount.config.load import load
from headcount.data.batches import EncodedPairs
from headcount.data.pairs import Pairs
from headcount.data.teacher import read_teacher_summaries
from headcount.data.tokenizer import train_tokenizer
from headcount.data.training_examples import Drawn, ExampleMaker, Plan, TrainingExamples
from headcount.errors import ConfigError
from headcount.training.data_module import SummarizationDataModule
from tests.training.stopping import watched

DOCUMENTS = [f"document {n}" for n in range(40)]
PAIRS = Pairs(
    ids=[str(n) for n in range(40)],
    documents=DOCUMENTS,
    references=[[f"reference {n}", "another"] for n in range(40)],
)
TOKENIZER = train_tokenizer(DOCUMENTS, "bpe", 300)


def write(rows: list[dict[str, Any]]) -> str:
    Path("teacher.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "teacher.jsonl"


def row(n: int, **changes: Any) -> dict[str, Any]:
    return {"id": str(n), "summary": f"taught {n}", "document": DOCUMENTS[n], **changes}


def test_each_summary_finds_its_example_by_its_id() -> None:
    path = write([row(5), row(2, summary=""), row(7, id=7)])
    teacher = read_teacher_summaries(path, PAIRS, TOKENIZER)
    assert teacher.texts[5] == "taught 5" and teacher.texts[7] == "taught 7"
    assert [teacher.texts[n] for n in (0, 2)] == ["reference 0", "reference 2"]
    assert teacher.number == 2
    assert [TOKENIZER.decode(ids.tolist()) for ids in teacher.ids] == teacher.texts


def test_what_does_not_belong_to_the_training_split_is_rejected() -> None:
    bare = [{"id": n, "summary": "s"} for n in range(40)]
    read_teacher_summaries(write(bare), PAIRS, TOKENIZER)
    shifted = [{"id": n, "summary": "s"} for n in range(1, 40)]  # numbers of other rows
    rejected = {
        "39 summaries without documents for 40 training examples; legal: ": shifted,
        "teacher.jsonl:1: the training split has no example with the id 41; legal: ": [
            row(1, id=41)
        ],
        "teacher.jsonl:2: its document is not that of the training example 3; legal: ": [
            row(2), row(3, document="another")
        ],
        "it has no summary; legal: ": [row(1, summary="")],
    }  # fmt: skip
    for message, rows in rejected.items():
        with pytest.raises(
            ConfigError, match=rf"^data.teacher_summaries=teacher.jsonl: {message}[^\n]*$"
        ):
            read_teacher_summaries(write(rows), PAIRS, TOKENIZER)
    with pytest.raises(ConfigError, match="^data.teacher_summaries=none: no such file; legal: "):
        read_teacher_summaries("none", PAIRS, TOKENIZER)


def test_summaries_of_held_out_examples_are_skipped() -> None:
    bare = [{"id": n, "summary": f"taught {n}"} for n in range(45)]
    held_out = {str(n) for n in range(40, 45)}
    teacher = read_teacher_summaries(write(bare), PAIRS, TOKENIZER, held_out=held_out)
    assert (teacher.number, teacher.number_held_out) == (40, 5)
    with pytest.raises(ConfigError, match="teacher.jsonl:41: .* no example with the id 40; legal"):
        read_teacher_summaries(write(bare), PAIRS, TOKENIZER)


def test_repeated_ids_are_numbered_as_those_of_the_examples() -> None:
    pairs = replace(PAIRS, ids=["a", "a#2", *PAIRS.ids[2:]])
    rows = [{"id": "a", "summary": "first"}, {"id": "a", "summary": "second"}]
    rows += [{"id": n, "summary": f"taught {n}"} for n in range(2, 40)]
    assert read_teacher_summaries(write(rows), pairs, TOKENIZER).texts[:2] == ["first", "second"]


def test_a_student_of_carved_splits(small, tmp_path: Path, capsys) -> None:
    """One file without ids, as ``configs/data/one_file.yaml`` has it: a teacher that has written
    of all its documents teaches those of the training split only."""
    lines = (tmp_path / "data" / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for each in rows:
        del each["id"]
    Path("pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    one_file = ["data.path=pairs.jsonl", "data.validation_split=null", "data.test_split=null",
                "data.carved_examples=10", "evaluation.baselines=[]"]  # fmt: skip
    train(small(*one_file, "trainer.max_steps=2", "run.folder=first"))
    data = SummarizationDataModule(small(*one_file))
    data.setup()

    # The documented commands: evaluate a carved split, summarize the file.
    written = {}
    short = ["generation.min_tokens=4", "generation.max_tokens=8"]
    for split in ("train", "validation"):
        config = load(["first/config.yaml"], [f"data.test_split={split}", *short])
        evaluate(Path("first"), config, out=Path(split))
        file = Path(split) / "predictions.jsonl"
        written[split] = [json.loads(line)["id"] for line in file.read_text().splitlines()]
        assert written[split] == list(data.splits[split].pairs.ids)
    assert len(written["train"]) == 40
    summarize(Path("first"), load(["first/config.yaml"], short), "pairs.jsonl",
              out=Path("all.jsonl"))  # fmt: skip

    for teacher, held_out in (("train/predictions.jsonl", 0), ("all.jsonl", 20)):
        capsys.readouterr()
        student = SummarizationDataModule(small(*one_file, f"data.teacher_summaries={teacher}"))
        student.setup()
        assert student.teacher is not None
        assert student.teacher.number == 40 and student.teacher.number_held_out == held_out
        message = "20 summaries of data.teacher_summaries are of validation and test examples"
        assert (message in capsys.readouterr().out) == bool(held_out)


class Summaries(Callback):
    """Keeps the texts of the training summaries by their examples."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any
    ) -> None:
        ids = trainer.datamodule.splits["train"].pairs.ids
        summaries = batch.summary_ids.split(batch.summary_lengths)
        for index, tokens in zip(batch.indices, summaries, strict=True):
            self.texts[ids[index]] = pl_module.tokenizer.decode(tokens.tolist())


def test_a_student_learns_from_what_evaluate_and_summarize_write(
    finished_run: Path, small, tmp_path: Path
) -> None:
    """The commands of docs/training.md: two models are the teacher, a third one the student."""
    config = str(finished_run / "config.yaml")
    short = ["generation.min_tokens=4", "generation.max_tokens=8"]
    evaluated = tmp_path / "teacher"
    evaluate(
        finished_run,
        load([config], ["data.test_split=train", "evaluation.baselines=[]", *short]),
        others=[finished_run],
        out=evaluated,
    )
    summarized = tmp_path / "teacher.jsonl"
    train_file = Path(load([config], []).data.path) / "train.jsonl"
    summarize(finished_run, load([config], short), str(train_file), out=summarized)

    predictions = evaluated / "predictions.jsonl"
    assert "document" in json.loads(predictions.read_text().splitlines()[0])
    assert "document" not in json.loads(summarized.read_text().splitlines()[0])
    for path in (predictions, summarized):
        summaries = Summaries()
        with watched(summaries):
            train(
                small(
                    f"data.teacher_summaries={path}",
                    "data.teacher_share=1",
                    "trainer.max_steps=2",
                    "evaluation.baselines=[]",
                    f"run.folder={path.stem}-student",
                )
            )
        origin = json.loads((tmp_path / f"{path.stem}-student" / "data.json").read_text())
        assert origin["train"]["teacher_summaries"]["number"] == 60
        rows = map(json.loads, path.read_text().splitlines())
        expected = {row["id"]: row["summary"] for row in rows}
        assert len(summaries.texts) > 10
        assert all(text == expected[identifier] for identifier, text in summaries.texts.items())


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_epochs_in_which_the_teacher_is_used(share: float) -> None:
    split = EncodedPairs(PAIRS, TOKENIZER, 20, 20)
    teacher = read_teacher_summaries(write([row(n) for n in range(40)]), PAIRS, TOKENIZER)
    maker = ExampleMaker(layout=split.layout, seed=0)
    examples = TrainingExamples(split, Plan(), maker, teacher=teacher, teacher_share=share)
    heard = []
    for epoch in range(20):
        batch = examples.batch(Drawn(indices=np.arange(40), epoch=epoch, objective="summarize"))
        assert (np.add(batch.document_lengths, batch.summary_lengths) <= examples.lengths).all()
        texts = [
            TOKENIZER.decode(ids.tolist())
            for ids in batch.summary_ids.split(batch.summary_lengths)
        ]
        heard.append([text == f"taught {n}" for n, text in enumerate(texts)])
        assert all(
            is_taught or t == f"reference {n}"
            for n, (is_taught, t) in enumerate(zip(heard[-1], texts, strict=True))
        )
    assert np.mean(heard) == pytest.approx(share, abs=0.08)
    assert heard[0] != heard[1] or share in (0.0, 1.0)
