import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headcount.commands import summarize as module
from headcount.commands.summarize import summarize
from headcount.config.load import load
from headcount.errors import ConfigError, RunError
from headcount.runs.partial_predictions import PartialPredictions
from headcount.training.module import Summarizer
from tests.commands.test_train import rows, trained

DOCUMENT = "Ada: Good day.\nBen: I would like a pear."


@pytest.mark.parametrize("stdin", [False, True])
def test_summarize_text_a_document_a_line(
    stdin: bool,
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    (tmp_path / "in.txt").write_text("Ada: Good day.\n\nBen: I would like a pear. 🙂\n")
    capsys.readouterr()
    if stdin:
        monkeypatch.setattr("sys.stdin", (tmp_path / "in.txt").open())
    summarize(folder, config, "-" if stdin else "in.txt")
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 4 and lines[0] and not lines[1] and not lines[3]
    (tmp_path / "same.jsonl").write_text(json.dumps({"document": "Ben: I would like a pear. 🙂"}))
    summarize(folder, config, "same.jsonl")
    assert json.loads(capsys.readouterr().out)["summary"] == lines[2]


def test_summarize_jsonl(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary of a test document is that of the run, whatever stands beside it."""
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    known = rows(Path(config.data.path) / "test.jsonl")
    lines = [{"id": r["id"], "document": r["document"]} for r in known] + [
        {"text": DOCUMENT},
        {"document": "\ud800"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    summarize(folder, config, "in.jsonl")
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [o["id"] for o in out] == [*(r["id"] for r in known), 12, 13]
    assert [o["summary"] for o in out[:12]] == [
        p["summary"] for p in rows(folder / "predictions.jsonl")
    ]


def test_summarize_as_told(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several hypotheses with their scores, the best first.

    A key that shaped the model is refused.
    """
    folder = finished_run
    config = load(
        [str(folder / "config.yaml")],
        ["generation.strategy=beam", "generation.num_return_sequences=3"],
    )
    (tmp_path / "in.jsonl").write_text(json.dumps({"document": DOCUMENT}) + '\n{"document": " "}')
    capsys.readouterr()
    summarize(folder, config, "in.jsonl")
    first, empty = map(json.loads, capsys.readouterr().out.splitlines())
    scores = [each["score"] for each in first["summaries"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert first["summary"] == first["summaries"][0]["summary"] and empty["summary"] == ""
    config = load([str(folder / "config.yaml")], ["model.num_heads=1"])
    with pytest.raises(
        ConfigError, match="model.num_heads=1: .* was trained with another value; legal: 2"
    ):
        summarize(folder, config, "in.jsonl")


@pytest.mark.parametrize("line", ['{"document": "a"', '{"other": "a"}', '{"document": {}}', "[1]"])
def test_summarize_names_the_broken_line(line: str, finished_run: Path, tmp_path: Path) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    (tmp_path / "in.jsonl").write_text(f'{{"document": "fine"}}\n{line}\n')
    with pytest.raises(ConfigError, match="^in.jsonl:2: "):
        summarize(folder, config, "in.jsonl")


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_named(damage: bytes, finished_run: Path, tmp_path: Path) -> None:
    folder = finished_run
    (folder / "checkpoints" / "best.ckpt").write_bytes(damage)
    config = load([str(folder / "config.yaml")], [])
    with pytest.raises(ConfigError, match=r"best.ckpt: damaged, or not a checkpoint"):
        summarize(folder, config, "-")


def in_child(call: Callable[[], None]) -> int:
    """Call something in a process of its own, which may be killed; return how it ended."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    call()
    os._exit(0)


def test_a_kill_at_any_batch_loses_and_repeats_nothing(
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = finished_run
    brief = ["generation.batch_size=3", "generation.max_tokens=5"]
    config = load([str(folder / "config.yaml")], brief)
    lines = [
        {"id": f"n-{n}", "document": f"Ada: {n}. " * (n % 7)} for n in range(40)
    ]  # 3 a batch, 24 a chunk
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summarize(folder, config, "in.jsonl", out=Path("whole.jsonl"))
    whole = rows(tmp_path / "whole.jsonl")
    assert [row["id"] for row in whole] == [f"n-{n}" for n in range(40)] and whole[0][
        "summary"
    ] == ""
    append, log, room = PartialPredictions.append, tmp_path / "log", [0]

    def killed(self: PartialPredictions, found: list[dict[str, Any]]) -> None:
        append(self, found)
        with log.open("a") as file:
            file.write("".join(f"{row['row']}\n" for row in found))
        if len(log.read_text().split()) >= room[0]:
            with self.own.open("ab") as file:
                file.write(b'{"row": 39, "id": "n-3')
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(PartialPredictions, "append", killed)
    for room[0] in range(3, 39, 6):
        assert (
            in_child(lambda: summarize(folder, config, "in.jsonl", out=Path("out.jsonl")))
            == signal.SIGKILL
        )
        assert not (tmp_path / "out.jsonl").exists()
    room[0] = 100
    summarize(folder, config, "in.jsonl", out=Path("out.jsonl"))
    assert rows(tmp_path / "out.jsonl") == whole
    assert sorted(map(int, log.read_text().split())) == list(range(40))
    assert not (tmp_path / "out.jsonl.parts").exists()
    capsys.readouterr()
    summarize(folder, config, "in.jsonl", out=Path("out.jsonl"))
    assert capsys.readouterr().out == "out.jsonl: finished, 40 summaries\n"
    assert len(log.read_text().split()) == 40


def test_a_file_of_something_else_is_refused(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    (tmp_path / "in.txt").write_text("Ada: Good day.\n\nBen: Good day.\n")
    out = Path("out.jsonl")

    def refused(match: str, *overrides: str, file: str = "in.txt") -> None:
        with pytest.raises(ConfigError, match=rf"^--out=out.jsonl: {match}[^\n]*; legal: [^\n]*$"):
            summarize(folder, load([str(folder / "config.yaml")], list(overrides)), file, out=out)

    refused("standard input", file="-")
    out.write_text("mine")
    refused("exists, and was not written by summarize")
    out.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Summarizer, "generate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            summarize(folder, config, "in.txt", out=out)
    assert not Path("out.jsonl.parts").exists()  # nothing was generated
    with monkeypatch.context() as patch:
        patch.setattr("headcount.commands.summarize._finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            summarize(folder, config, "in.txt", out=out)
    refused("started with generation.max_tokens=32, not 9", "generation.max_tokens=9")
    summarize(
        folder, load([str(folder / "config.yaml")], ["generation.batch_size=1"]), "in.txt", out=out
    )
    assert [row["id"] for row in rows(out)] == [1, 2, 3]  # the lines of a text
    (tmp_path / "in.txt").write_text("Cleo: Good day.\n")
    refused("started with documents=")


def test_minimum_bayes_risk_depends_on_the_words_of_rouge(
    finished_run: Path, tmp_path: Path
) -> None:
    """The tokenizer of the scores chooses among the candidates, and among no others."""
    folder = finished_run
    (tmp_path / "in.jsonl").write_text(json.dumps({"document": DOCUMENT}))
    few = ["generation.mbr_num_beams=2", "generation.mbr_num_samples=0"]
    for strategy in ("mbr", "greedy"):
        out = tmp_path / f"{strategy}.jsonl"
        config, other = (
            load(
                [str(folder / "config.yaml")],
                [*few, f"generation.strategy={strategy}", f"evaluation.tokenizer={tokenizer}"],
            )
            for tokenizer in ("rouge-score", "unicode")
        )
        summarize(folder, config, "in.jsonl", out=out)
        if strategy == "greedy":
            summarize(folder, other, "in.jsonl", out=out)
            continue
        with pytest.raises(
            ConfigError, match="started with evaluation.tokenizer=rouge-score, not unicode; legal"
        ):
            summarize(folder, other, "in.jsonl", out=out)


def test_a_broken_line_is_found_before_anything_is_written(
    finished_run: Path, tmp_path: Path
) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    (tmp_path / "in.jsonl").write_text('{"document": "fine"}\n{"document": {}}\n')
    with pytest.raises(ConfigError, match="^in.jsonl:2: "):
        summarize(folder, config, "in.jsonl", out=Path("out.jsonl"))
    assert not list(tmp_path.glob("out.jsonl*"))


def test_long_documents_are_said(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(small, "data.max_document_tokens=40")
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"text": "Ada: Good day. " * n}) + "\n" for n in (1, 90, 0))
    )
    capsys.readouterr()
    for knob, output in (("truncate", "cut at"), ("split", "read in windows of")):
        config = load([str(folder / "config.yaml")], [f"generation.long_documents={knob}"])
        summarize(folder, config, "in.jsonl")
        assert capsys.readouterr().err.endswith(f"1 of 3 documents were {output} 40 tokens\n")
        summarize(folder, config, "in.jsonl", out=Path(f"{knob}.jsonl"))
        assert f"1 of 3 documents were {output} 40 tokens\n" in capsys.readouterr().out
    cut, split = (rows(tmp_path / f"{knob}.jsonl") for knob in ("truncate", "split"))
    assert [a["summary"] == b["summary"] for a, b in zip(cut, split, strict=True)] == [
        True,
        False,
        True,
    ]


ODD = {
    "blank": " \t\u3000",
    "one token": "a",
    "long": "word " * 100_000,
    "emoji": "👩‍👩‍👧‍👦🙂" * 50,
    "right to left": "שלום עולם \u202eمرحبا",
    "nul": "a\0b\0",
    "half a pair": "a \ud83d b",
    "special": "</s><s>",
}


@pytest.mark.parametrize("knob", ["truncate", "split"])
def test_odd_documents(
    knob: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has its line, as text and as JSONL."""
    folder = finished_run
    odd = ODD | ({"long": "word " * 500} if knob == "split" else {})
    config = load(
        [str(folder / "config.yaml")],
        [f"generation.long_documents={knob}", "generation.max_tokens=8"],
    )
    lines = [{"id": f"{name} \ud800", "document": text} for name, text in odd.items()]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summarize(folder, config, "in.jsonl", out=Path("out.jsonl"))
    assert [row["id"] for row in rows(tmp_path / "out.jsonl")] == [
        f"{name} \ufffd" for name in odd
    ]
    capsys.readouterr()
    (tmp_path / "in.txt").write_text(
        "".join(text + "\n" for text in odd.values()), errors="replace"
    )
    summarize(folder, config, "in.txt")
    printed = capsys.readouterr().out.split("\n")
    assert len(printed) == len(odd) + 1 and not printed[0]


@pytest.mark.parametrize("file", ["in.txt", "in.jsonl"])
def test_nothing_to_summarize(
    file: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    (tmp_path / file).write_text("")
    capsys.readouterr()
    summarize(folder, config, file)
    assert capsys.readouterr().out == ""
    summarize(folder, config, file, out=Path("out.jsonl"))
    assert (tmp_path / "out.jsonl").read_text() == ""
    with pytest.raises(
        ConfigError, match=r"^none.txt: No such file or directory; legal: a file, or -[^\n]*$"
    ):
        summarize(folder, config, "none.txt")


def test_documents_are_read_as_they_are_needed(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a file of any size can be summarized."""
    folder = finished_run
    brief = ["generation.batch_size=2", "generation.max_tokens=5"]
    config = load([str(folder / "config.yaml")], brief)
    (tmp_path / "in.txt").write_text("Ada: Good day.\n" * 100)
    read, seen = [], []
    documents, write = module.read_documents, Summarizer.generate
    monkeypatch.setattr(
        module,
        "read_documents",
        lambda *a, **k: (read.append(1) or each for each in documents(*a, **k)),
    )
    monkeypatch.setattr(
        Summarizer, "generate", lambda self, batch: (seen.append(len(read)), write(self, batch))[1]
    )
    summarize(folder, config, "in.txt")
    assert seen == [min(16 * (n // 8 + 1), 100) for n in range(50)]


def test_an_input_that_changes_while_it_is_read(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a log that is still written: one line, and the same command starts again."""
    folder = finished_run
    brief = ["generation.batch_size=2", "generation.max_tokens=5"]
    config = load([str(folder / "config.yaml")], brief)
    text = "Ada: Good day.\n" * 40  # 16 a chunk
    append = PartialPredictions.append

    for changed in (text + "Ben: Good day.\n", text * 2, "Ada: Good day.\n", text.upper()):
        (tmp_path / "in.txt").write_text(text)

        def change(
            self: PartialPredictions, rows: list[dict[str, Any]], to: str = changed
        ) -> None:
            append(self, rows)
            (tmp_path / "in.txt").write_text(to)

        with monkeypatch.context() as patch:
            patch.setattr(PartialPredictions, "append", change)
            with pytest.raises(
                RunError, match="in.txt: changed while it was summarized; the same"
            ):
                summarize(folder, config, "in.txt", out=Path("out.jsonl"))
        assert not list(tmp_path.glob("out.jsonl*"))
        summarize(folder, config, "in.txt", out=Path("out.jsonl"))
        assert len(rows(tmp_path / "out.jsonl")) == changed.count("\n")
        for path in tmp_path.glob("out.jsonl*"):
            path.unlink()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b"\0" * 50])
def test_a_damaged_stamp(damage: bytes, finished_run: Path, tmp_path: Path) -> None:
    """Beside a finished file it is named; beside parts they are generated again."""
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    (tmp_path / "in.txt").write_text("Ada: Good day.\n")
    parts = tmp_path / "out.jsonl.parts"
    parts.mkdir()
    (parts / "provenance.json").write_bytes(damage)
    (parts / "0.jsonl").write_text('{"row": 0, "long": false, "out": "stale"}\n')
    summarize(folder, config, "in.txt", out=Path("out.jsonl"))
    assert rows(tmp_path / "out.jsonl")[0]["id"] == 1
    (tmp_path / "out.jsonl.provenance.json").write_bytes(damage)
    with pytest.raises(
        ConfigError, match="out.jsonl.provenance.json is damaged; legal: a new file"
    ):
        summarize(folder, config, "in.txt", out=Path("out.jsonl"))


@pytest.mark.parametrize("out", [".", "..", "", "/", "folder", "folder/"])
def test_an_output_that_is_a_folder(out: str, finished_run: Path, tmp_path: Path) -> None:
    folder = finished_run
    (tmp_path / "folder").mkdir()
    (tmp_path / "in.txt").write_text("Ada: Good day.\n")
    config = load([str(folder / "config.yaml")], [])
    with pytest.raises(ConfigError, match="^--out=[^\n]*: a folder; legal: a file to write$"):
        summarize(folder, config, "in.txt", out=Path(out))


def test_an_input_that_cannot_be_read_twice(finished_run: Path, tmp_path: Path) -> None:
    """A pipe would be empty at the second reading, and the file of summaries with it."""
    folder = finished_run
    os.mkfifo(tmp_path / "pipe")
    config = load([str(folder / "config.yaml")], [])
    for file in ("pipe", "-", "/dev/null"):
        with pytest.raises(ConfigError, match="cannot be read again to resume; legal: a file"):
            summarize(folder, config, file, out=Path("out.jsonl"))
    assert not list(tmp_path.glob("out.jsonl*"))


def test_several_runs_summarize_together(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To standard output and to a file alike; a file of one run is not resumed by two."""
    first = trained(small)
    longer = ["trainer.max_steps=30", "trainer.val_check_interval=30"]
    second = trained(small, "model.num_heads=4", *longer)
    config = load([str(first / "config.yaml")], ["generation.strategy=mbr"])
    known = rows(Path(config.data.path) / "test.jsonl")
    lines = [json.dumps({"id": row["id"], "document": row["document"]}) + "\n" for row in known]
    (tmp_path / "in.jsonl").write_text("".join(lines))

    def printed(*others: Path) -> list[str]:
        capsys.readouterr()
        summarize(first, config, "in.jsonl", others=others)
        return [json.loads(line)["summary"] for line in capsys.readouterr().out.splitlines()]

    together = printed(second)
    assert together != printed()
    assert printed(first) == printed()
    summarize(first, config, "in.jsonl", others=[second], out=tmp_path / "out.jsonl")
    assert [row["summary"] for row in rows(tmp_path / "out.jsonl")] == together
    with pytest.raises(ConfigError, match="out.jsonl: started with checkpoint="):
        summarize(first, config, "in.jsonl", out=tmp_path / "out.jsonl")


def test_several_summaries_of_text(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each: number of the document, score, summary. JSONL has the same."""
    overrides = ["generation.strategy=beam", "generation.num_return_sequences=3"]
    config = load([str(finished_run / "config.yaml")], overrides)
    texts = ["Ada: Good day.", "", "Ben: I would like a pear."]
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in texts))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    capsys.readouterr()
    summarize(finished_run, config, "in.txt")
    cells = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [cell[0] for cell in cells] == ["1", "1", "1", "2", "3", "3", "3"]
    assert cells[3][2] == ""
    summarize(finished_run, config, "in.jsonl")
    expected = []
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        expected += [[f"{s['score']:.4f}", s["summary"]] for s in line["summaries"]]
    assert [cell[1:] for cell in cells] == expected


def test_a_file_as_one_document(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load([str(finished_run / "config.yaml")], [])
    (tmp_path / "in.txt").write_text(DOCUMENT + "\n")
    (tmp_path / "in.jsonl").write_text(json.dumps({"document": DOCUMENT}))
    capsys.readouterr()
    summarize(finished_run, config, "in.jsonl")
    expected = json.loads(capsys.readouterr().out)["summary"]
    summarize(finished_run, config, "in.txt", is_whole=True)
    assert capsys.readouterr().out == f"{expected}\n"
    out = Path("out.jsonl")
    summarize(finished_run, config, "in.txt", out=out, is_whole=True)
    assert [row["summary"] for row in rows(out)] == [expected]
    with pytest.raises(ConfigError, match="started with whole=True, not False"):
        summarize(finished_run, config, "in.txt", out=out)


def test_bytes_that_are_not_utf8_are_reported(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load([str(finished_run / "config.yaml")], [])
    (tmp_path / "in.txt").write_bytes("one\nna\u00efve\ntwo\n".encode("latin-1"))
    message = "1 of 3 documents contain bytes that are not UTF-8\n"
    capsys.readouterr()
    summarize(finished_run, config, "in.txt")
    assert capsys.readouterr().err.endswith(message)
    summarize(finished_run, config, "in.txt", out=Path("out.jsonl"))
    assert message in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_prompt_answers_each_line_at_once(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load([str(finished_run / "config.yaml")], [])
    texts = ["Ada: Good day.", "", "Ben: na\udcefve. " * 9]
    Path("in.txt").write_text("\n".join(texts), errors="surrogateescape")
    capsys.readouterr()
    summarize(finished_run, config, "in.txt")
    expected = capsys.readouterr().out.splitlines()
    lines = iter(texts)
    answers = []

    def type_line(prompt: str) -> str:
        answers.append(capsys.readouterr().out)
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", type_line)
    summarize(finished_run, config, "-")
    assert answers == ["", *(f"{summary}\n" for summary in expected)]


def test_a_prompt_reports_a_document_that_is_cut_or_repaired(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load([str(finished_run / "config.yaml")], ["generation.max_tokens=5"])
    reports = []

    def type_line(prompt: str) -> str:
        reports.append(capsys.readouterr().err)
        try:
            return ["Ada: Good day.", "Ada: Good day. " * 90, "na\udcefve"][len(reports) - 1]
        except IndexError:
            raise EOFError from None

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", type_line)
    summarize(finished_run, config, "-")
    assert reports[1:] == [
        "",
        "1 of 1 documents were cut at 96 tokens\n",
        "1 of 1 documents contain bytes that are not UTF-8\n",
    ]


def test_the_precision_is_the_same_wherever_the_summaries_go(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the run was trained on several GPUs, and there is none."""
    run = str(finished_run / "config.yaml")
    config = load([run], ["trainer.precision=bf16"])
    elsewhere = ["trainer.precision=bf16-mixed", "trainer.accelerator=gpu", "trainer.devices=2"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    in_bf16 = []
    generate = Summarizer.generate

    def note_precision(self: Summarizer, *arguments: Any) -> object:
        in_bf16.append(torch.is_autocast_enabled("cpu"))
        return generate(self, *arguments)

    monkeypatch.setattr(Summarizer, "generate", note_precision)
    Path("in.txt").write_text("Ada: Good day.\n")
    out = Path("out.jsonl")
    summarize(finished_run, config, "in.txt", out=out)
    summarize(finished_run, load([run], elsewhere), "in.txt")
    answers = iter(["Ada: Good day."])
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda _: next(answers, None) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        summarize(finished_run, config, "-")
    assert in_bf16 == [True] * 3

    with pytest.raises(
        ConfigError, match="started with trainer.precision=bf16-mixed, not 32-true"
    ):
        summarize(finished_run, load([run], []), "in.txt", out=out)


def test_a_terminal_as_one_document(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read to its end, without a prompt."""
    config = load([str(finished_run / "config.yaml")], [])
    terminal = Terminal()
    terminal.buffer = io.BufferedReader(io.BytesIO(b"Ada: Good day.\nBen: Good day.\n"))
    monkeypatch.setattr("sys.stdin", terminal)
    capsys.readouterr()
    summarize(finished_run, config, "-", is_whole=True)
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.slow
def test_a_prompt_on_a_terminal(finished_run: Path) -> None:
    """It takes lines longer than the 4,096 bytes that a terminal passes on by itself."""
    long = "Ben: I would like a pear. " * 200
    Path("in.txt").write_text(f"Ada: Good day.\n{long}\n")
    command = [sys.executable, "-m", "headcount", "summarize", "run"]
    expected = subprocess.run([*command, "in.txt"], capture_output=True, text=True).stdout
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)

    def read_until(text: str) -> str:
        read = ""
        while text not in read:
            assert select.select([ours], [], [], 600)[0], read
            read += os.read(ours, 65536).decode(errors="replace")
        return read

    first, second = expected.splitlines()
    read_until("> ")
    os.write(ours, b"Ada: Good day.\n")
    assert first[:60] in read_until("\n> ")
    for begin in range(0, len(long), 500):
        os.write(ours, long[begin : begin + 500].encode())
        while select.select([ours], [], [], 0.05)[0]:
            os.read(ours, 65536)
    os.write(ours, b"\n")
    assert second[:60] in read_until("\n> ")
    os.write(ours, b"\x04")
    assert process.wait(600) == 0
    os.close(ours)
