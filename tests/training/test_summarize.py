import json
from pathlib import Path

import pytest

from headcount.compose import load
from headcount.config import ConfigError
from headcount.training.summarize import summarize
from tests.training.test_run import rows, trained

DOCUMENT = "Ada: Good day.\nBen: I would like a pear."


@pytest.mark.parametrize("stdin", [False, True])
def test_summarize_text_a_document_a_line(
    stdin: bool, small, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(small)
    config, plain = load([str(folder / "config.yaml")], [])
    (tmp_path / "in.txt").write_text("Ada: Good day.\n\nBen: I would like a pear. 🙂\n")
    capsys.readouterr()
    if stdin:
        monkeypatch.setattr("sys.stdin", (tmp_path / "in.txt").open())
    summarize(folder, config, plain, "-" if stdin else "in.txt")
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 4 and lines[0] and not lines[1] and not lines[3]
    (tmp_path / "same.jsonl").write_text(json.dumps({"document": "Ben: I would like a pear. 🙂"}))
    summarize(folder, config, plain, "same.jsonl")
    assert json.loads(capsys.readouterr().out)["summary"] == lines[2]


def test_summarize_jsonl(small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary of a test document is that of the run, whatever stands beside it."""
    folder = trained(small)
    config, plain = load([str(folder / "config.yaml")], [])
    known = rows(Path(config.data.path) / "test.jsonl")
    lines = [{"id": r["id"], "document": r["document"]} for r in known] + [{"text": DOCUMENT}, {"document": "\ud800"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    summarize(folder, config, plain, "in.jsonl")
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [o["id"] for o in out] == [*(r["id"] for r in known), 13, 14]
    assert [o["summary"] for o in out[:12]] == [p["summary"] for p in rows(folder / "predictions.jsonl")]


def test_summarize_as_told(small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several hypotheses with their scores, the best first; a key that shaped the model is refused."""
    folder = trained(small)
    config, plain = load([str(folder / "config.yaml")], ["decoding.strategy=beam", "decoding.returned=3"])
    (tmp_path / "in.jsonl").write_text(json.dumps({"document": DOCUMENT}) + '\n{"document": " "}')
    capsys.readouterr()
    summarize(folder, config, plain, "in.jsonl")
    first, empty = map(json.loads, capsys.readouterr().out.splitlines())
    scores = [each["score"] for each in first["summaries"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert first["summary"] == first["summaries"][0]["summary"] and empty["summary"] == ""
    config, plain = load([str(folder / "config.yaml")], ["model.num_heads=1"])
    with pytest.raises(ConfigError, match="model.num_heads=1: .* was trained with another; legal: 2"):
        summarize(folder, config, plain, "in.jsonl")


@pytest.mark.parametrize("line", ['{"document": "a"', '{"other": "a"}', '{"document": 3}', "[1]"])
def test_summarize_names_the_broken_line(line: str, small, tmp_path: Path) -> None:
    folder = trained(small)
    config, plain = load([str(folder / "config.yaml")], [])
    (tmp_path / "in.jsonl").write_text(f'{{"document": "fine"}}\n{line}\n')
    with pytest.raises(ConfigError, match="^in.jsonl:2: "):
        summarize(folder, config, plain, "in.jsonl")


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_named(damage: bytes, small, tmp_path: Path) -> None:
    folder = trained(small)
    (folder / "checkpoints" / "best.ckpt").write_bytes(damage)
    config, plain = load([str(folder / "config.yaml")], [])
    with pytest.raises(ConfigError, match=r"best.ckpt: damaged, or not a checkpoint"):
        summarize(folder, config, plain, "-")
