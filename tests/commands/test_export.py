import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from headcount.commands.export import CardFacts, export
from headcount.commands.summarize import summarize
from headcount.config.load import load
from headcount.data.tokenizer import END, load_tokenizer
from headcount.data.tokens import fingerprint
from headcount.errors import ConfigError, RunError
from headcount.runs.checkpoint import load_checkpoint, write_checkpoint
from headcount.runs.folder import config_file, load_run_config
from headcount.training.ensemble import check_runs


@pytest.fixture
def run(finished_run: Path) -> Path:
    return finished_run


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
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
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
        ConfigError, match="model.num_heads=1: .* was trained with another value; legal: 2"
    ):
        summarize(tmp_path / "out", config, "in.txt")


def test_the_tokenizer_of_an_export_is_that_of_its_run(run: Path, tmp_path: Path) -> None:
    """Also for what has to have the same one: an ensemble, fine-tuning. It closes documents."""
    export(run, tmp_path / "out")
    ours, theirs = (
        load_tokenizer(folder / "tokenizer.json") for folder in (run, tmp_path / "out")
    )
    assert fingerprint(ours) == fingerprint(theirs)
    assert theirs.encode("Ada").tokens[-1] == END != ours.encode("Ada").tokens[-1]
    check_runs([run, tmp_path / "out"], load_run_config(run, []))


def test_a_weight_is_stored_once_and_nothing_of_the_machine(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert len(weights) == len(
        {t.data_ptr() for t in load_checkpoint(run, "best")["state_dict"].values()}
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["format_version"] == 1 and not {"run", "tracking"} & config.keys()
    assert config["model"]["num_heads"] == 2 and "cache_dir" not in config["data"]


def test_no_address_of_a_logger_is_exported(run: Path, tmp_path: Path) -> None:
    best = load_checkpoint(run, "best")
    best["config"]["loggers"]["mlflow_uri"] = "http://ada:secret@server"
    write_checkpoint(best, run / "checkpoints" / "best.ckpt")
    export(run, tmp_path / "out")
    text = (tmp_path / "out" / "config.json").read_text()
    assert "secret" not in text and "callbacks" not in json.loads(text)
    assert load_run_config(tmp_path / "out", []).loggers.mlflow_uri is None


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


def test_the_card_says_license_language_data_and_use(run: Path, tmp_path: Path) -> None:
    """Of a run on a data set of the hub; a local folder is no data set of the hub."""

    def read_card(folder: Path) -> tuple[dict[str, Any], str]:
        _, head, body = (folder / "README.md").read_text().split("---\n", 2)
        return yaml.safe_load(head), body

    export(run, tmp_path / "local")
    head, body = read_card(tmp_path / "local")
    assert head["license"] == "unknown" and "language" not in head and "datasets" not in head
    assert "Language: not stated" in body and "## Intended use and limits" in body

    best = load_checkpoint(run, "best")
    best["config"]["data"]["path"] = "some/set"
    write_checkpoint(best, run / "checkpoints" / "best.ckpt")
    export(run, tmp_path / "out", CardFacts(license="mit", languages=["en", "de"]))
    head, body = read_card(tmp_path / "out")
    assert (head["license"], head["language"]) == ("mit", ["en", "de"])
    assert head["datasets"] == ["some/set"] and "transformer" in head["tags"]
    assert "Language: en, de. License of the weights: mit" in body
    assert "headcount.load_run" in body and "AutoModelForSeq2SeqLM" in body


def test_files_are_readable_for_everybody(run: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        export(run, tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o644}


def test_an_export_is_whole_or_not_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    export(run, tmp_path / "empty")
    before = (tmp_path / "empty" / "README.md").stat().st_mtime_ns
    with pytest.raises(
        ConfigError, match="empty: exists, and is not an empty folder; legal: a new or empty one"
    ):
        export(run, tmp_path / "empty")
    assert (tmp_path / "empty" / "README.md").stat().st_mtime_ns == before
    (run / "scores.json").rename(run / "elsewhere.json")
    with pytest.raises(
        ConfigError, match=r"no scores.json in it; legal: the folder of a finished run"
    ):
        export(run, tmp_path / "out")
    (run / "elsewhere.json").rename(run / "scores.json")


@pytest.mark.parametrize("number", [1, 6, 9])
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    ("error", "kind"),
    [(errno.ENOSPC, RunError), (errno.EDQUOT, RunError), (errno.EACCES, ConfigError)],
)
def test_a_full_disk_leaves_nothing(
    error: int,
    kind: type[Exception],
    there: bool,
    number: int,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever file or rename it hits."""
    if there:
        (tmp_path / "out").mkdir()
    left = iter(range(number, -99, -1))

    def fail_at(call):
        def wrapped(*arguments: object) -> object:
            if next(left) == 1:
                raise OSError(error, os.strerror(error))
            return call(*arguments)

        return wrapped

    if number > 7 and not there:
        return  # there is one rename
    monkeypatch.setattr("headcount.runs.files.os.fsync", fail_at(os.fsync))
    monkeypatch.setattr("headcount.runs.files.os.replace", fail_at(os.replace))
    with pytest.raises(kind, match=rf"out: cannot be written: {os.strerror(error)}$"):
        export(run, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*out*")] == (["out"] if there else [])
    assert not there or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("where", [".", "", "../here", "./"])
def test_into_the_current_folder(
    where: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays the same folder, so that the shell that stands in it sees the files."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = (tmp_path / "here").stat().st_ino
    export(run, Path(where))
    assert (tmp_path / "here").stat().st_ino == before and len(os.listdir()) == 6
    assert (Path("README.md")).read_text().count("\n# here\n") == 1
    export(Path("../run"), Path("elsewhere"))
    with pytest.raises(ConfigError, match="exists, and is not an empty folder"):
        export(run, Path(where))


def test_the_folder_of_a_run_is_the_current_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    export(Path("."), tmp_path / "out")
    with pytest.raises(ConfigError, match="exists, and is not an empty folder"):
        export(Path("."), Path("."))


def test_a_damaged_export_is_named(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    (tmp_path / "in.txt").write_text("Ada: Good day.\n")
    config, weights = tmp_path / "out" / "config.json", tmp_path / "out" / "model.safetensors"
    output, whole = json.loads(config.read_text()), weights.read_bytes()
    for text, content, message in (
        (config.read_text(), whole[:-10], "model.safetensors: damaged, or not a checkpoint"),
        (
            json.dumps(output | {"model": output["model"] | {"encoder_layers": 2}}),
            whole,
            "weights are not of the model",
        ),
        (
            json.dumps(output | {"format_version": 2}),
            whole,
            "config.json: format_version=2 is not known here; legal: 1",
        ),
        ("{", whole, "config.json: while parsing"),
    ):
        config.write_text(text)
        weights.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            summarize(tmp_path / "out", load([config_file(tmp_path / "out")], []), "in.txt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_rejected(value: float, run: Path, tmp_path: Path) -> None:
    """Greedy search would generate empty summaries with them, and beam search would fail."""
    export(run, tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    (tmp_path / "in.txt").write_text("Ada: Good day.\n")
    weights = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for name in list(weights)[:: len(weights) - 1]:
        changed = {key: tensor.clone() for key, tensor in weights.items()}
        changed[name].flatten()[-1] = value
        save_file(changed, path, metadata)
        for strategy in ("greedy", "beam"):
            config = load_run_config(tmp_path / "out", [f"generation.strategy={strategy}"])
            message = rf"model.safetensors: {name} holds NaN or infinity$"
            with pytest.raises(ConfigError, match=message):
                summarize(tmp_path / "out", config, "in.txt")


HUGE = [
    {"model": {"embedding_size": 10**9}},
    {"model": {"embedding_size": 2**62}},
    {"model": {"embedding_size": 10**9, "head_dim": 2, "num_heads": 10**9}},
    {"model": {"head_dim": 2, "num_heads": 10**9}},
    {"model": {"head_dim": 10**10}},
    {"model": {"encoder_layers": 10**10}},
    {"model": {"decoder_layers": 10**10}},
    {"model": {"feedforward_size": 10**12}},
    {"data": {"max_document_tokens": 10**11, "batch_tokens": 10**12}},
    {"data": {"max_summary_tokens": 10**11, "batch_tokens": 10**12}},
    {"generation": {"strategy": "beam", "num_beams": 10**9}},
    {"generation": {"strategy": "beam", "num_beams": 10**6}},
    {"generation": {"strategy": "sample", "num_return_sequences": 10**9}},
    {"generation": {"strategy": "mbr", "mbr_num_beams": 10**9}},
    {"generation": {"strategy": "mbr", "mbr_num_samples": 10**9}},
]


@pytest.mark.parametrize("sections", HUGE, ids=str)
@pytest.mark.parametrize("positions", ["sinusoidal", "rotary", "none", "alibi"])
def test_sizes_that_exhaust_memory_are_rejected(
    sections: dict[str, dict[str, object]], positions: str, run: Path, tmp_path: Path
) -> None:
    """Before anything of that size is allocated."""
    export(run, tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    (tmp_path / "in.txt").write_text("Ada: Good day.\n")
    config = json.loads(path.read_text())
    if "num_heads" in sections.get("model", {}):
        config["model"] |= dict.fromkeys(
            ["encoder_heads", "decoder_heads", "cross_heads"], sections["model"]["num_heads"]
        )
    config["model"]["positions"] = positions
    for name, keys in sections.items():
        config[name] |= keys
    path.write_text(json.dumps(config))
    if positions in ("none", "alibi") and "data" in sections:
        return  # they have no table
    with pytest.raises(ConfigError, match="weights are not of the model|GB of memory; legal: "):
        summarize(tmp_path / "out", load_run_config(tmp_path / "out", []), "in.txt")


@pytest.mark.parametrize(
    "machine",
    [
        {"devices": 8, "accelerator": "gpu", "strategy": "ddp", "num_nodes": 4},
        {"devices": [0, 3], "accelerator": "tpu"},
        {"devices": "all of them", "strategy": "magic"},
    ],
)
def test_the_machine_of_a_stranger_is_ignored(
    machine: dict[str, object], run: Path, tmp_path: Path
) -> None:
    export(run, tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    (tmp_path / "in.txt").write_text("Ada: Good day.\n")
    config = json.loads(path.read_text())
    assert not {"devices", "accelerator", "strategy", "num_nodes"} & config["trainer"].keys()
    assert config["trainer"]["max_steps"] == 4
    config["trainer"] |= machine
    path.write_text(json.dumps(config))
    config = load_run_config(tmp_path / "out", [])
    summarize(tmp_path / "out", config, "in.txt", out=tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 1
    assert load_run_config(tmp_path / "out", ["trainer.devices=2"]).trainer["devices"] == 2


def test_every_field_of_the_card_is_escaped(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's run may state anything."""
    hostile = "<img src=x> ![a](http://evil.org) https://evil.org www.evil.org `x` $x$ | --- \n# b"
    scores = json.loads((run / "scores.json").read_text())
    scores |= {"seed": hostile, "split": hostile, "signature": hostile, "alarms": [hostile]}
    scores["systems"][hostile] = scores["systems"]["lead-1"]
    (run / "scores.json").write_text(json.dumps(scores))
    best = load_checkpoint(run, "best")
    best["config"]["data"]["path"] = hostile
    best["config"]["evaluation"]["select_by"] = hostile
    best["config"]["model"] |= {"embedding_size": hostile, "encoder_heads": hostile}
    monkeypatch.setattr("headcount.commands.export.load_checkpoint", lambda *_: best)
    export(run, tmp_path / "out")
    _, _, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    prose = re.sub(r"`[^`\n]*`", "", body)
    assert prose.count("evil") >= 12
    for markup in ("<img", "](", "http:", "https:", "www.", "\n# b"):
        assert markup not in prose.replace("\\](", "")


def test_the_card_of_a_fine_tuned_model(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["config"]["model"]["start_from"] = "runs/first-1"
    write_checkpoint(checkpoint, run / "checkpoints" / "best.ckpt")
    export(run, tmp_path / "tuned")
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert "from scratch" not in card and "no other data" not in card
    assert "fine-tuned on" in card and "those of another run, runs/first" in card


def test_the_model_card_says_that_a_search_optimizes_the_metric(run: Path, tmp_path: Path) -> None:
    scores = json.loads((run / "scores.json").read_text())
    export(run, tmp_path / "greedy")
    card = (tmp_path / "greedy" / "README.md").read_text()
    assert "optimizes" not in card and "\nmodel-index:\n" in card
    system = "minimum Bayes risk, which optimizes ROUGE-1, ROUGE-2 and ROUGE-L"
    (run / "scores.json").write_text(json.dumps({**scores, "system": system}))
    export(run, tmp_path / "mbr")
    card = (tmp_path / "mbr" / "README.md").read_text()
    assert f"\nGenerated by {system}.\n" in card
    # The hub would show the scores as the model's own.
    assert "model-index" not in card
