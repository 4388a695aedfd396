import json
from pathlib import Path

import pytest
import torch

import headcount
from headcount.commands.evaluate import evaluate
from headcount.commands.export import export
from headcount.commands.heads import analyse_heads
from headcount.commands.model import describe
from headcount.commands.prune import prune_run
from headcount.commands.train import train
from headcount.config.load import load
from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.heads.ablation import ablated
from headcount.heads.blocks import heads_of, parse_head
from headcount.runs.checkpoint import load_checkpoint
from tests.commands.test_heads import run_config
from tests.commands.test_train import rows, trained
from tests.training.stopping import assert_same, stop_at


def test_a_pruned_run_is_a_finished_run(finished_run_of, tmp_path: Path, capsys) -> None:
    """It evaluates, exports, and writes what the gated model writes."""
    run = finished_run_of("generation.max_tokens=5")
    to = tmp_path / "pruned"
    prune_run(run, to, run_config(run), keep=4, by="random", seed=1)
    printed = capsys.readouterr().out
    assert "6 heads, 4 of them kept (order: random)" in printed

    pruning = json.loads((to / "pruning.json").read_text())
    assert len(pruning["removed"]) == 2 and pruning["from"] == str(run)
    before, after = pruning["parameters"]
    assert f"  parameters: {before:,} -> {after:,}\n" in printed
    assert after < before
    full = headcount.load_run(run)
    pruned = headcount.load_run(to)
    assert len(heads_of(pruned.module.model)) == 4
    texts = [row["document"] for row in rows(Path(full.config.data.path) / "test.jsonl")]
    with ablated(
        full.module.model, [parse_head(n, full.module.model) for n in pruning["removed"]]
    ):
        expected = full.summarize(texts)
    assert pruned.summarize(texts) == expected
    assert [row["summary"] for row in rows(to / "predictions.jsonl")] == expected

    config = load([str(to / "config.yaml")], [])
    evaluate(to, config)
    assert (to / "evaluation-1" / "scores.json").exists()
    train(config)
    assert "this run is finished" in capsys.readouterr().out
    export(to, tmp_path / "exported")
    assert headcount.load_run(tmp_path / "exported").summarize(texts) == expected


def test_measured_orders_come_from_the_newest_analysis(
    finished_run_of, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("headcount.commands.heads.save_plot", lambda *_: [])
    run = finished_run_of("generation.max_tokens=5")
    with pytest.raises(ConfigError, match=r"--by=gradient: .* has no analysis of its heads"):
        prune_run(run, tmp_path / "a", run_config(run), keep=5, by="gradient")
    assert not (tmp_path / "a").exists()

    _, analysis = analyse_heads(run, run_config(run))
    prune_run(run, tmp_path / "a", run_config(run), keep=5, by="gradient")
    least = min(analysis.heads, key=lambda result: result.normalized_importance)
    removed = json.loads((tmp_path / "a" / "pruning.json").read_text())["removed"]
    assert removed == [str(least.head)]

    table = next(run.glob("heads-1/heads.csv"))
    table.write_text("site,layer\nencoder,0\n")
    with pytest.raises(ConfigError, match=r"heads\.csv: damaged"):
        prune_run(run, tmp_path / "b", run_config(run), keep=5, by="gradient")


@pytest.mark.parametrize("keep", [0, 7])
def test_an_impossible_number_of_heads_is_rejected(
    finished_run: Path, tmp_path: Path, keep: int
) -> None:
    run = finished_run
    with pytest.raises(ConfigError, match=rf"--keep={keep}: the model has 6 heads"):
        prune_run(run, tmp_path / "a", run_config(run), keep=keep, by="random")


def test_a_folder_of_something_else_is_left_alone(finished_run: Path, tmp_path: Path) -> None:
    run = finished_run
    to = tmp_path / "mine"
    to.mkdir()
    (to / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="exists, and is not an empty folder"):
        prune_run(run, to, run_config(run), keep=5, by="random")
    assert [path.name for path in to.iterdir()] == ["thesis.tex"]


def test_an_interrupted_call_is_completed(finished_run_of, tmp_path: Path, monkeypatch) -> None:
    run = finished_run_of("generation.max_tokens=5")
    to = tmp_path / "pruned"

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headcount.commands.prune.score_test", stop)
    with pytest.raises(KeyboardInterrupt):
        prune_run(run, to, run_config(run), keep=5, by="random")
    monkeypatch.undo()
    assert not (to / "scores.json").exists()
    prune_run(run, to, run_config(run), keep=5, by="random")
    assert (to / "scores.json").exists()


L0 = "heads.gates=l0", "heads.l0_penalty=1", "heads.gates_learning_rate=2"
TOP_K = "heads.gates=top_k", "heads.keep=4"


@pytest.mark.parametrize("changes", [L0, TOP_K])
def test_a_run_with_learned_gates_is_pruned_to_what_they_left(
    small,
    finished_run_of,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: tuple[str, ...],
) -> None:
    """Trained from a finished run; the smaller model writes what the gated one wrote."""
    start = finished_run_of("generation.max_tokens=5")
    run = trained(
        small,
        "generation.max_tokens=5",
        f"model.start_from={start}",
        f"tokenizer.path={start}/tokenizer.json",
        "optimizer.warmup_steps=0",
        *changes,
    )
    prune_run(run, tmp_path / "pruned", run_config(run), by="gates")
    pruning = json.loads((tmp_path / "pruned" / "pruning.json").read_text())
    keep = pruning["keep"]
    assert keep == 6 - len(pruning["removed"]) < 6
    if changes == TOP_K:
        assert keep == 4

    predictions = (tmp_path / "pruned" / "predictions.jsonl").read_bytes()
    assert predictions == (run / "predictions.jsonl").read_bytes()
    pruned_config = load([str(tmp_path / "pruned" / "config.yaml")], [])
    assert pruned_config.heads.gates == "none" and pruned_config.heads.keep is None

    # The learned order is one of the analysis, and closed heads go in any order.
    monkeypatch.setattr("headcount.commands.heads.save_plot", lambda *_: [])
    _, analysis = analyse_heads(run, run_config(run))
    assert "gates" in {curve.order for curve in analysis.curves}
    useless = {str(result.head) for result in analysis.heads if result.importance == 0}
    assert useless == set(pruning["removed"])
    prune_run(run, tmp_path / "other", run_config(run), keep=keep, by="random")
    assert (tmp_path / "other" / "predictions.jsonl").read_bytes() == predictions
    with pytest.raises(ConfigError, match=rf"--keep=6: the model has {keep} open heads"):
        prune_run(run, tmp_path / "more", run_config(run), keep=6, by="random")

    # Its weights do without gates only once the closed heads are gone.
    with pytest.raises(ConfigError, match=r"learned gates on its heads; legal: .* --by gates"):
        train(small(f"model.start_from={run}", f"tokenizer.path={run}/tokenizer.json"))
    with pytest.raises(ConfigError, match="heads.gates=none: .* was trained with another value"):
        analyse_heads(run, run_config(run, "heads.gates=none", "heads.keep=null"))


def test_gates_that_were_not_learned_are_no_order(finished_run: Path, tmp_path: Path) -> None:
    config = run_config(finished_run)
    with pytest.raises(ConfigError, match=r"--by=gates: .* was trained without learned gates"):
        prune_run(finished_run, tmp_path / "a", config, keep=4, by="gates")
    with pytest.raises(ConfigError, match="--keep is missing; legal: 1 to 6 heads"):
        prune_run(finished_run, tmp_path / "a", config, by="random")


def test_a_pruned_run_trains_on_and_resumes_exactly(finished_run: Path, tmp_path: Path) -> None:
    pruned = tmp_path / "pruned"
    prune_run(finished_run, pruned, run_config(finished_run), keep=3, by="random", seed=2)
    changes = [
        f"model.start_from={pruned}",
        f"tokenizer.path={pruned}/tokenizer.json",
        "model.dropout=0.2",
        "trainer.max_steps=6",
    ]

    def continued(folder: str) -> Config:
        config = str(pruned / "config.yaml")
        return load([config], [*changes, f"run.folder={tmp_path / folder}"])

    train(continued("whole"))
    stop_at(3, continued("cut"))
    train(continued("cut"))
    assert_same(tmp_path / "whole", tmp_path / "cut")

    # The heads that remained were trained.
    assert len(heads_of(headcount.load_run(tmp_path / "whole").module.model)) == 3
    before = load_checkpoint(pruned, "best")["state_dict"]
    after = load_checkpoint(tmp_path / "whole", "best")["state_dict"]
    assert before.keys() == after.keys()
    projections = [name for name in before if name.endswith("attention.input_projection.weight")]
    assert len(projections) == 3
    for name in projections:
        assert len(before[name]) == 0 or not torch.equal(before[name], after[name])


def test_one_head_is_left(
    finished_run_of,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of blocks with one head each, that of the last cross-attention: the run is analysed,
    exported and summarizes. Without it nothing attends to the document."""
    run = finished_run_of("model.num_heads=1", "generation.max_tokens=5")
    heads = heads_of(headcount.load_run(run).module.model)
    assert [str(head) for head in heads] == ["encoder.0.0", "decoder.0.0", "cross.0.0"]
    monkeypatch.setattr("headcount.commands.prune.random_order", lambda *_: heads)
    to = tmp_path / "pruned"
    prune_run(run, to, run_config(run), keep=1, by="random")
    config = load([str(to / "config.yaml")], [])
    assert config.model.head_mask == {"encoder": [[0]], "decoder": [[0]], "cross": [[1]]}
    assert len(headcount.load_run(to).summarize(["Good day."])) == 1
    monkeypatch.setattr("headcount.commands.heads.save_plot", lambda *_: [])
    _, analysis = analyse_heads(to, run_config(to))
    assert [str(result.head) for result in analysis.heads] == ["cross.0.0"]
    assert {curve.scope for curve in analysis.curves} == {"all"}
    export(to, tmp_path / "exported")
    describe(config)
    assert "cross" in capsys.readouterr().out

    monkeypatch.setattr("headcount.commands.prune.random_order", lambda *_: heads[::-1])
    with pytest.raises(ConfigError, match=r"model.head_mask.cross: no head is left"):
        prune_run(run, tmp_path / "nothing", run_config(run), keep=1, by="random")
    assert not (tmp_path / "nothing").exists()
