import json
from pathlib import Path

import pytest

from headcount.commands.evaluate import evaluate
from headcount.commands.export import export
from headcount.commands.heads import analyse_heads
from headcount.commands.prune import prune_run
from headcount.commands.train import train
from headcount.config.load import load
from headcount.errors import ConfigError
from headcount.heads.ablation import ablated
from headcount.heads.blocks import heads_of, parse_head
from tests.commands.test_heads import run_config
from tests.commands.test_train import rows, trained

pytestmark = pytest.mark.usefixtures("unpictured")


def test_a_pruned_run_is_a_finished_run(small, tmp_path: Path, capsys) -> None:
    """It evaluates, exports, and writes what the gated model writes."""
    import headcount

    run = trained(small, "generation.max_tokens=5")
    to = tmp_path / "pruned"
    prune_run(run, to, run_config(run), keep=4, by="random", seed=1)
    printed = capsys.readouterr().out
    assert "6 heads, 4 of them kept (order: random)" in printed and "parameters:" in printed

    made_of = json.loads((to / "pruning.json").read_text())
    assert len(made_of["removed"]) == 2 and made_of["from"] == str(run)
    before, after = made_of["parameters"]
    assert after < before
    full = headcount.load_run(run)
    pruned = headcount.load_run(to)
    assert len(heads_of(pruned.module.model)) == 4
    texts = [row["document"] for row in rows(Path(full.config.data.path) / "test.jsonl")]
    with ablated(
        full.module.model, [parse_head(n, full.module.model) for n in made_of["removed"]]
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


def test_measured_orders_come_from_the_newest_analysis(small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("headcount.commands.heads.save_plot", lambda *_: [])
    run = trained(small, "generation.max_tokens=5")
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
def test_an_impossible_number_of_heads_is_rejected(small, tmp_path: Path, keep: int) -> None:
    run = trained(small)
    with pytest.raises(ConfigError, match=rf"--keep={keep}: the model has 6 heads"):
        prune_run(run, tmp_path / "a", run_config(run), keep=keep, by="random")


def test_a_folder_of_something_else_is_left_alone(small, tmp_path: Path) -> None:
    run = trained(small)
    to = tmp_path / "mine"
    to.mkdir()
    (to / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="exists, and is not an empty folder"):
        prune_run(run, to, run_config(run), keep=5, by="random")
    assert [path.name for path in to.iterdir()] == ["thesis.tex"]


def test_an_interrupted_call_is_completed(small, tmp_path: Path, monkeypatch) -> None:
    run = trained(small, "generation.max_tokens=5")
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
