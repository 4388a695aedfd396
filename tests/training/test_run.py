import csv
import json
from pathlib import Path

import pytest
import torch

from headcount.compose import load
from headcount.config import ConfigError
from headcount.training import run


def trained(small, *overrides: str) -> Path:
    config, plain = small(*overrides)
    run.train(config, plain)
    return max(Path(config.run.directory).iterdir(), key=lambda folder: int(folder.name.split("-")[-1]))


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_all_that_it_promises(small, capsys: pytest.CaptureFixture[str]) -> None:
    _, plain = small("trainer.log_every_n_steps=1")
    folder = trained(small, "trainer.log_every_n_steps=1")
    promised = "checkpoints config.yaml cross_attention.png data.json figures.csv metrics.csv predictions.jsonl"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*promised.split(), "audit.json", "lengths.png", "scores.json", "tokenizer.json"]
    )
    assert load([str(folder / "config.yaml")], [])[1] == plain
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["config"] == plain
    with (folder / "metrics.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert [r["step"] for r in logged if r["validation/rougeL"]] == ["1", "3"]
    assert {"train/loss", "train/token_accuracy", "train/tokens_per_second", "test/rouge1"} <= logged[0].keys()
    said = capsys.readouterr().out
    for text in ("ROUGE-Lsum", "lead-1", "rouge-score:0.1.2|nrefs:1|", "reference", "run folder"):
        assert text in said
    assert said.count("  summary    ") == 5


def test_the_best_checkpoint_by_validation_is_kept_and_used(small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation scores are made to fall, so that the first checkpoint is the best."""
    falling = iter(range(100, 0, -1))
    monkeypatch.setattr("headcount.evaluation.rouge.Rouge.score", lambda *_: [next(falling) / 100] * 4)
    folder = trained(small, "trainer.max_steps=6")
    steps = {
        n: torch.load(folder / "checkpoints" / f"{n}.ckpt", weights_only=True)["global_step"] for n in ("best", "last")
    }
    assert steps == {"best": 2, "last": 6}
    assert json.loads((folder / "scores.json").read_text())["step"] == 2


def test_a_run_folder_is_never_written_into_twice(small) -> None:
    first = trained(small)
    before = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    second = trained(small)
    assert (first.name, second.name) == ("run-1", "run-2")
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == before


def test_same_config_and_seed_give_the_same_run(small) -> None:
    first, second, other = trained(small), trained(small), trained(small, "seed=1")
    weights = [
        torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (first, second, other)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(*(each["model.summary_embedding.tokens.weight"] for each in (weights[0], weights[2])))
    assert (first / "predictions.jsonl").read_text() == (second / "predictions.jsonl").read_text()


def test_resume_goes_on_from_the_last_step(small) -> None:
    first = trained(small)
    second = trained(small, f"run.resume={first}", "trainer.max_steps=6")
    checkpoint = torch.load(second / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6
    with (second / "metrics.csv").open() as file:
        assert [r["step"] for r in csv.DictReader(file) if r["validation/rougeL"]] == ["5"]


def test_fast_dev_run_leaves_nothing(small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, plain = small("trainer.fast_dev_run=true", "tracking.mode=offline")
    run.train(config, plain)
    assert "every part ran once" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "data"]


def test_no_validation_within_the_budget_still_ends_with_scores(small) -> None:
    folder = trained(small, "trainer.val_check_interval=50")
    assert json.loads((folder / "scores.json").read_text())["step"] == 4
    trained(small, f"run.resume={folder}", "trainer.max_steps=6")


@pytest.mark.parametrize(
    "override",
    ["trainer.accelerator=abacus", "trainer.precision=7", "trainer.strategy=none", "trainer.strategy=ddp_fork"],
)
def test_a_wrong_trainer_value_is_answered_before_anything_is_made(override: str, small, tmp_path: Path) -> None:
    config, plain = small(override)
    with pytest.raises(ConfigError, match=r"^trainer[:.][^\n]*$"):
        run.train(config, plain)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "cache").exists()


def test_bf16_trains_and_decodes(small) -> None:
    scores = json.loads((trained(small, "trainer.precision=bf16-mixed") / "scores.json").read_text())
    assert scores["examples"] == 12


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
    run.summarize(folder, config, plain, "-" if stdin else "in.txt")
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 4 and lines[0] and not lines[1] and not lines[3]
    (tmp_path / "same.jsonl").write_text(json.dumps({"document": "Ben: I would like a pear. 🙂"}))
    run.summarize(folder, config, plain, "same.jsonl")
    assert json.loads(capsys.readouterr().out)["summary"] == lines[2]


def test_summarize_jsonl(small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary of a test document is that of the run, whatever stands beside it."""
    folder = trained(small)
    config, plain = load([str(folder / "config.yaml")], [])
    known = rows(Path(config.data.path) / "test.jsonl")
    lines = [{"id": r["id"], "document": r["document"]} for r in known] + [{"text": DOCUMENT}, {"document": "\ud800"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    run.summarize(folder, config, plain, "in.jsonl")
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [o["id"] for o in out] == [*(r["id"] for r in known), 13, 14]
    assert [o["summary"] for o in out[:12]] == [p["summary"] for p in rows(folder / "predictions.jsonl")]


def test_summarize_as_told(small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several hypotheses with their scores, the best first; a key that shaped the model is refused."""
    folder = trained(small)
    config, plain = load([str(folder / "config.yaml")], ["decoding.strategy=beam", "decoding.returned=3"])
    (tmp_path / "in.jsonl").write_text(json.dumps({"document": DOCUMENT}) + '\n{"document": " "}')
    capsys.readouterr()
    run.summarize(folder, config, plain, "in.jsonl")
    first, empty = map(json.loads, capsys.readouterr().out.splitlines())
    scores = [each["score"] for each in first["summaries"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert first["summary"] == first["summaries"][0]["summary"] and empty["summary"] == ""
    config, plain = load([str(folder / "config.yaml")], ["model.num_heads=1"])
    with pytest.raises(ConfigError, match="model.num_heads=1: .* was trained with another; legal: 2"):
        run.summarize(folder, config, plain, "in.jsonl")


@pytest.mark.parametrize("line", ['{"document": "a"', '{"other": "a"}', '{"document": 3}', "[1]"])
def test_summarize_names_the_broken_line(line: str, small, tmp_path: Path) -> None:
    folder = trained(small)
    config, plain = load([str(folder / "config.yaml")], [])
    (tmp_path / "in.jsonl").write_text(f'{{"document": "fine"}}\n{line}\n')
    with pytest.raises(ConfigError, match="^in.jsonl:2: "):
        run.summarize(folder, config, plain, "in.jsonl")


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_named(damage: bytes, small, tmp_path: Path) -> None:
    folder = trained(small)
    (folder / "checkpoints" / "best.ckpt").write_bytes(damage)
    config, plain = load([str(folder / "config.yaml")], [])
    with pytest.raises(ConfigError, match=r"best.ckpt: damaged, or not a checkpoint"):
        run.summarize(folder, config, plain, "-")
