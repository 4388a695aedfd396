import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from headcount.commands.export import export
from headcount.commands.summarize import summarize
from headcount.commands.train import train
from headcount.config.load import load
from headcount.errors import ConfigError
from headcount.runs.checkpoint import load_checkpoint
from headcount.runs.folder import config_file


@pytest.fixture
def run(small, tmp_path: Path) -> Path:
    config = small("tracking.entity=me", f"run.folder={tmp_path / 'run'}")
    train(config)
    return tmp_path / "run"


def written(folder: Path, capsys: pytest.CaptureFixture[str], *changes: str) -> str:
    config = load([config_file(folder)], list(changes))
    capsys.readouterr()
    summarize(folder, config, "in.txt")
    return capsys.readouterr().out


def test_an_export_summarizes_as_its_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("Ada: Good day.\nBen: I would like a pear.\n")
    export(run, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    beam = "generation.strategy=beam", "generation.num_return_sequences=2"
    assert written(tmp_path / "out", capsys) == written(run, capsys)
    assert written(tmp_path / "out", capsys, *beam) == written(run, capsys, *beam)
    theirs, ours = (
        load_checkpoint(folder, "best")["state_dict"] for folder in (run, tmp_path / "out")
    )
    assert theirs.keys() == ours.keys() and all(
        torch.equal(theirs[name], ours[name]) for name in theirs
    )
    config = load([config_file(tmp_path / "out")], ["model.num_heads=1"])
    with pytest.raises(
        ConfigError, match="model.num_heads=1: .* was trained with another; legal: 2"
    ):
        summarize(tmp_path / "out", config, "in.txt")


def test_a_weight_is_stored_once_and_nothing_of_the_machine(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert len(weights) == len(
        {t.data_ptr() for t in load_checkpoint(run, "best")["state_dict"].values()}
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["format_version"] == 1 and not {"run", "tracking"} & config.keys()
    assert config["model"]["num_heads"] == 2 and "cache_dir" not in config["data"]


def test_the_model_card_says_scores_and_signature(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    _, head, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    scores = json.loads((run / "scores.json").read_text())
    figure = scores["systems"]["model"]["rouge1"]
    [results] = yaml.safe_load(head)["model-index"][0]["results"]
    assert results["metrics"][0] == {
        "type": "rouge",
        "name": "ROUGE-1",
        "value": round(figure["mean"], 2),
    }
    assert f"| model | {figure['mean']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}] |" in body
    assert (
        scores["signature"] in body
        and "encoder 2, decoder 2, cross 2" in body
        and "headcount summarize" in body
    )


def test_an_export_is_whole_or_not_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    export(run, tmp_path / "empty")
    before = (tmp_path / "empty" / "README.md").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="empty: there already; legal: a new or an empty folder"):
        export(run, tmp_path / "empty")
    assert (tmp_path / "empty" / "README.md").stat().st_mtime_ns == before
    (run / "scores.json").rename(run / "elsewhere.json")
    with pytest.raises(
        ConfigError, match=r"no scores.json in it; legal: the folder of a finished run"
    ):
        export(run, tmp_path / "out")
    (run / "elsewhere.json").rename(run / "scores.json")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headcount.commands.export.shutil.copyfile", fail)
    with pytest.raises(ConfigError, match=r"out: cannot be made: No space left on device"):
        export(run, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_a_damaged_export_is_named(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    (tmp_path / "in.txt").write_text("Ada: Good day.\n")
    config, weights = tmp_path / "out" / "config.json", tmp_path / "out" / "model.safetensors"
    said, whole = json.loads(config.read_text()), weights.read_bytes()
    for text, content, message in (
        (config.read_text(), whole[:-10], "model.safetensors: damaged, or not a checkpoint"),
        (
            json.dumps(said | {"model": said["model"] | {"encoder_layers": 2}}),
            whole,
            "weights are not of the model",
        ),
        (
            json.dumps(said | {"format_version": 2}),
            whole,
            "config.json: format_version=2 is not known here; legal: 1",
        ),
        ("{", whole, "config.json: while parsing"),
    ):
        config.write_text(text)
        weights.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            summarize(tmp_path / "out", load([config_file(tmp_path / "out")], []), "in.txt")
