import csv
import errno
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger

from headcount.commands import train as run
from headcount.commands.evaluate import evaluate
from headcount.config.load import load, to_yaml
from headcount.errors import ConfigError, RunError
from headcount.evaluation.report import report
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.runs.checkpoint import write_checkpoint
from headcount.runs.partial_predictions import PartialPredictions
from headcount.training.module import Summarizer
from tests.commands.test_train import rows, trained


def test_results_are_those_of_the_predictions(small) -> None:
    folder = trained(small, "generation.max_tokens=5")
    config = load([str(folder / "config.yaml")], [])
    predictions, scores = (
        rows(folder / "predictions.jsonl"),
        json.loads((folder / "scores.json").read_text()),
    )
    assert [p["id"] for p in predictions] == [f"test-{n}" for n in range(12)]
    again = report(
        [p["summary"] for p in predictions],
        [p["truncated"] for p in predictions],
        [r["document"] for r in rows(Path(config.data.path) / "test.jsonl")],
        [p["references"] for p in predictions],
        evaluation=config.evaluation,
    )
    assert (scores["split"], scores["examples"], scores["seed"]) == ("test", 12, 0)
    assert (scores["signature"], scores["alarms"]) == (again.signature, again.alarms)
    assert list(scores["systems"]) == ["model", *config.evaluation.baselines, "human"]
    for system in again.systems:
        for name, figure in system.metrics.items():
            expected = figure and {"mean": figure.mean, "low": figure.low, "high": figure.high}
            assert scores["systems"][system.name][name] == expected
    assert (
        scores["systems"]["lead-1"]["rouge1"]["mean"] > 0
        and scores["systems"]["human"]["rouge1"] is None
    )
    with (folder / "per_example_metrics.csv").open(newline="") as file:
        figures = list(csv.DictReader(file))
    assert [row["id"] for row in figures] == [p["id"] for p in predictions]
    assert [float(row["words"]) for row in figures] == again.systems[0].values[
        :, EXAMPLE_METRICS.index("words")
    ].tolist()


def test_cut_summaries_are_those_that_fill_the_room(small) -> None:
    folder = trained(small, "generation.max_tokens=3")
    scores = json.loads((folder / "scores.json").read_text())
    assert {p["truncated"] for p in rows(folder / "predictions.jsonl")} == {
        True
    }  # it has hardly learned to end
    assert scores["systems"]["model"]["cut"]["mean"] == 100
    assert any("cut off at generation.max_tokens" in alarm for alarm in scores["alarms"])


def test_evaluate_repeats_the_run(finished_run: Path) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    evaluate(folder, config)
    for name in ("predictions.jsonl", "scores.json", "per_example_metrics.csv"):
        assert (folder / "evaluation-1" / name).read_text() == (folder / name).read_text()
    costs = [json.loads((f / "costs.json").read_text()) for f in (folder, folder / "evaluation-1")]
    assert costs[1].keys() == {"decode_ms_per_summary"} < costs[0].keys()
    assert all(0 < each["decode_ms_per_summary"] < 10_000 for each in costs)
    config = load(
        [str(folder / "config.yaml")], ["data.test_split=validation", "evaluation.references=max"]
    )
    evaluate(folder, config)
    assert rows(folder / "evaluation-2" / "predictions.jsonl")[0]["id"] == "validation-0"
    assert "references:max" in (folder / "evaluation-2" / "scores.json").read_text()


def test_an_interrupted_evaluation_is_resumed(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its folder if nothing about it has changed, each summary written once.

    Else in a new one.
    """
    folder = finished_run
    config = load([str(folder / "config.yaml")], ["generation.batch_size=5"])
    written: list[int] = []
    append = PartialPredictions.append

    def stopped(self: PartialPredictions, found: list[dict[str, Any]]) -> None:
        if len(written) >= 5:
            os.kill(os.getpid(), signal.SIGTERM)
        written.extend(row["row"] for row in found)
        append(self, found)

    monkeypatch.setattr(PartialPredictions, "append", stopped)
    with pytest.raises(SystemExit) as exit:
        evaluate(folder, config)
    assert exit.value.code == 143
    parts = folder / "evaluation-1" / "parts"
    with (parts / "0.jsonl").open("a") as file:
        file.write('{"row": 11, "summ')
    assert 0 < (before := len(written)) < 12

    def noted(self: PartialPredictions, found: list[dict[str, Any]]) -> None:
        written.extend(row["row"] for row in found)
        append(self, found)

    monkeypatch.setattr(PartialPredictions, "append", noted)
    evaluate(folder, load([str(folder / "config.yaml")], ["generation.max_tokens=9"]))
    assert (folder / "evaluation-2" / "scores.json").exists() and len(written) == before + 12
    del written[before:]
    evaluate(folder, config)
    assert sorted(written) == list(range(12)) and not parts.exists()
    for name in ("predictions.jsonl", "scores.json", "per_example_metrics.csv"):
        assert (folder / "evaluation-1" / name).read_text() == (folder / name).read_text()
    evaluate(folder, config)
    assert (folder / "evaluation-3" / "scores.json").exists()


def test_scoring_that_failed_does_not_cost_the_summaries(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    with monkeypatch.context() as patch:
        patch.setattr("headcount.commands.evaluate.report", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(folder, config)
    with monkeypatch.context() as patch:
        patch.setattr(Summarizer, "summarize", lambda *_: pytest.fail("written again"))
        evaluate(folder, config)
    assert (folder / "evaluation-1" / "scores.json").read_text() == (
        folder / "scores.json"
    ).read_text()
    assert (
        json.loads((folder / "evaluation-1" / "costs.json").read_text())["decode_ms_per_summary"]
        > 0
    )


def test_summaries_of_other_weights_are_not_taken(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    with monkeypatch.context() as patch:
        patch.setattr("headcount.commands.evaluate.report", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(folder, config)
    best = folder / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    write_checkpoint({**content, "epoch": 7}, best)
    seen: list[int] = []
    write = Summarizer.generate
    monkeypatch.setattr(
        Summarizer,
        "generate",
        lambda self, batch, **how: (seen.extend(batch.indices), write(self, batch, **how))[1],
    )
    evaluate(folder, config)
    assert set(seen) == set(range(12))


def test_long_documents_are_said(small, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(small, "data.max_document_tokens=40")
    [number] = re.findall(
        r"^(\d+) of 12 documents were cut at 40 tokens$", capsys.readouterr().out, re.M
    )
    evaluate(folder, load([str(folder / "config.yaml")], ["generation.long_documents=split"]))
    assert (
        f"{number} of 12 documents were read in windows of 40 tokens\n" in capsys.readouterr().out
    )
    whole, split = (rows(f / "predictions.jsonl") for f in (folder, folder / "evaluation-1"))
    assert (
        0
        < sum(a["summary"] != b["summary"] for a, b in zip(whole, split, strict=True))
        <= int(number)
    )


def test_shuffled_sources_stand_in_the_table(small, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(small)
    assert "shuffled " not in capsys.readouterr().out.replace("documents are shuffled", "")
    evaluate(folder, load([str(folder / "config.yaml")], []), shuffle_sources=True)
    assert "\n shuffled " in capsys.readouterr().out
    assert (
        "shuffled" in json.loads((folder / "evaluation-1" / "scores.json").read_text())["systems"]
    )


@pytest.mark.parametrize(
    "override",
    ["model.num_heads=1", "tokenizer.vocabulary_size=270", "data.max_document_tokens=90"],
)
def test_evaluate_refuses_another_model(override: str, finished_run: Path) -> None:
    folder = finished_run
    config = load([str(folder / "config.yaml")], [override])
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        evaluate(folder, config)
    assert not (folder / "evaluation-1").exists()


def test_a_damaged_checkpoint_is_named(finished_run: Path) -> None:
    folder = finished_run
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match=r"best.ckpt: damaged, or not a checkpoint"):
        evaluate(folder, load([str(folder / "config.yaml")], []))
    assert not (folder / "evaluation-1").exists()


def test_scores_go_to_wandb_with_their_signature(small, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def remember(
        self: WandbLogger, key: str, columns: list[str], data: list[list[object]]
    ) -> None:
        seen[key] = (columns, data, dict(self.experiment.summary))

    monkeypatch.setattr(WandbLogger, "log_table", remember)
    folder = trained(small, "tracking.mode=offline", "evaluation.baselines=[lead-1]")
    columns, data, summary = seen["test/scores"]
    scores = json.loads((folder / "scores.json").read_text())
    assert [row for row in data if row[:2] == ["lead-1", "rouge2"]] == [
        ["lead-1", "rouge2", *scores["systems"]["lead-1"]["rouge2"].values(), scores["signature"]]
    ]
    assert columns[-1] == "signature" and summary["test/signature"] == scores["signature"]
    assert summary["test/rouge1"] == scores["systems"]["model"]["rouge1"]["mean"]


def test_validation_is_scored_by_the_configured_rule(
    small, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = []
    monkeypatch.setattr(
        "headcount.evaluation.rouge.Rouge.score",
        lambda self, *_: rules.append(self.rule) or [0.0] * 4,
    )
    run.train(small("evaluation.references=best-by-rouge1"))
    assert set(rules) == {"best-by-rouge1"}


def test_several_runs_are_scored_as_a_system(
    small, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next to the first run; resumed like an evaluation, by the same runs in the same order."""
    first, second = trained(small), trained(small, "model.num_heads=4", "seed=1")
    config = load([str(first / "config.yaml")], ["generation.strategy=sample"])
    with monkeypatch.context() as patch:
        patch.setattr("headcount.commands.evaluate.report", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(first, config, others=[second])
    with monkeypatch.context() as patch:
        patch.setattr(Summarizer, "generate", lambda *_: pytest.fail("generated again"))
        patch.setattr(Summarizer, "plot_attention", lambda *_: Figure())
        capsys.readouterr()
        evaluate(first, config, others=[second])
    folder = first.with_name(f"{first.name}.ensemble-1")
    scores = json.loads((folder / "scores.json").read_text())
    assert list(scores["systems"]) == ["system", *config.evaluation.baselines, "human"]
    assert scores["system"] == f"ensemble of {first.name} and {second.name}"
    assert json.loads((folder / "models.json").read_text()) == [
        f"../{first.name}",
        f"../{second.name}",
    ]
    out = capsys.readouterr().out
    assert f"\nsystem: {scores['system']}\n" in out and f"evaluation folder: {folder}" in out

    # It writes something else than the first model; the first one twice writes what it writes.
    evaluate(first, config)
    evaluate(first, config, others=[first])
    again = first.with_name(f"{first.name}.ensemble-2")
    alone, together, twice = (
        [row["summary"] for row in rows(path / "predictions.jsonl")]
        for path in (first / "evaluation-1", folder, again)
    )
    assert together != alone and twice == alone

    # Had the second one carved its splits in another way, it knew the test documents of the first.
    for path, seed in ((first, 0), (second, 1)):
        carved = ["data.test_split=null", "data.carved_examples=5", f"data.carving_seed={seed}"]
        (path / "config.yaml").write_text(to_yaml(load([str(path / "config.yaml")], carved)))
    config = load([str(first / "config.yaml")], [])
    with pytest.raises(ConfigError, match=f"{second.name}: data.carving_seed=1 is not that of"):
        evaluate(first, config, others=[second])


def test_another_folder_for_an_evaluation(
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resumed by the same command, finished once, and rejected in one line for anything else."""
    folder = finished_run
    config = load([str(folder / "config.yaml")], [])
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("headcount.commands.evaluate.report", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(folder, config, out=out)
    assert (out / "parts").exists() and not (out / "scores.json").exists()
    evaluate(folder, config, out=out)
    assert (out / "scores.json").read_text() == (folder / "scores.json").read_text()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Summarizer, "generate", lambda *_: pytest.fail("generated again"))
        evaluate(folder, config, out=out)
    pairs = "test: 12 pairs; cut to length: 0 documents, 0 summaries"
    assert capsys.readouterr().out == f"{pairs}\n{out}: finished\n"

    beam = load([str(folder / "config.yaml")], ["generation.strategy=beam"])
    attempts = {
        "started with generation.strategy=greedy": (beam, [], out),
        "holds an evaluation of other runs": (config, [folder], out),
        "holds no evaluation": (config, [], folder),
    }
    for message, (changed, others, where) in attempts.items():
        with pytest.raises(ConfigError, match=f"^--out=[^\n]*{message}; legal: [^\n]*$"):
            evaluate(folder, changed, others=others, out=where)


def test_a_finished_evaluation_of_something_else_is_not_taken(
    finished_run: Path, tmp_path: Path
) -> None:
    """Of other weights or documents under the same names, or with other scores."""
    config = load([str(finished_run / "config.yaml")], [])
    out = tmp_path / "out"
    evaluate(finished_run, config, out=out)
    stamp = out / "provenance.json"
    settings = json.loads(stamp.read_text())

    with pytest.raises(ConfigError, match="started with shuffle_sources=False, not True; legal"):
        evaluate(finished_run, config, out=out, shuffle_sources=True)
    stamp.write_text(json.dumps({**settings, "documents": "others"}))
    with pytest.raises(ConfigError, match="started with documents=others, not .*; legal"):
        evaluate(finished_run, config, out=out)
    stamp.unlink()
    with pytest.raises(ConfigError, match="provenance.json, .* is missing or damaged; legal"):
        evaluate(finished_run, config, out=out)

    stamp.write_text(json.dumps(settings))
    best = finished_run / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    write_checkpoint({**content, "epoch": 7}, best)
    with pytest.raises(
        ConfigError, match=f"started with checkpoint={settings['checkpoint']}, not"
    ):
        evaluate(finished_run, config, out=out)


def test_minimum_bayes_risk_is_named_beside_its_scores(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_run
    mbr = ["generation.strategy=mbr", "generation.mbr_num_samples=4"]
    evaluate(folder, load([str(folder / "config.yaml")], mbr))
    named = "minimum Bayes risk, which optimizes ROUGE-1, ROUGE-2 and ROUGE-L"
    scores = json.loads((folder / "evaluation-1" / "scores.json").read_text())
    assert scores["system"] == named and f"\nmodel: {named}\n" in capsys.readouterr().out
    assert json.loads((folder / "scores.json").read_text())["system"] is None


def test_a_picture_that_cannot_be_written_is_named(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(self: Figure, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fill_the_disk)
    config = load([str(finished_run / "config.yaml")], ["tracking.mode=disabled"])
    with pytest.raises(RunError, match=r"cross_attention.png: cannot be written: No space left"):
        evaluate(finished_run, config)
    assert not list((finished_run / "evaluation-1").glob("*cross_attention*"))
