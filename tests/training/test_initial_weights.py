"""Fine-tuning: a run that starts from another one's weights."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from headcount.api import build_data, build_module
from headcount.commands import train as run
from headcount.commands.export import export
from headcount.config.load import as_dict
from headcount.errors import ConfigError
from headcount.runs.checkpoint import load_checkpoint
from headcount.training.initial_weights import check_model, read_initial_weights
from tests.training.stopping import assert_same, stop_at, weights

QUICK = "evaluation.validation_examples=4", "evaluation.baselines=[lead-1]"


@pytest.fixture
def source(small, tmp_path: Path) -> Path:
    """Train a short run to start from."""
    run.train(small(*QUICK, "run.folder=source"))
    return tmp_path / "source"


@pytest.mark.parametrize("averaging", [[], ["optimizer.ema_decay=0.9"]])
def test_the_first_weights_are_the_best_ones_of_the_source(
    small, source: Path, averaging: list[str], tmp_path: Path
) -> None:
    """A learning rate of zero keeps them. Another dropout is the same model."""
    export(source, Path("exported"))
    still = ["optimizer.learning_rate=0", "model.dropout=0.3", "seed=1"]
    tokenizer = f"tokenizer.path={source}/tokenizer.json"
    for number, start in enumerate(("source", "exported")):
        changes = [f"model.start_from={start}", f"run.folder=tuned{number}", tokenizer]
        run.train(small(*QUICK, *averaging, *still, *changes))
        tuned = weights(tmp_path / f"tuned{number}")
        expected = load_checkpoint(source, "best")["state_dict"]
        assert tuned.keys() == expected.keys()
        assert all(torch.equal(tuned[name], expected[name]) for name in tuned)


@pytest.mark.parametrize("tokenizer", ["source/tokenizer.json", "null"])
def test_a_resumed_run_does_not_need_its_source(
    small, source: Path, tokenizer: str, tmp_path: Path
) -> None:
    changes = [
        *QUICK,
        "trainer.max_steps=6",
        "model.dropout=0.2",
        "model.start_from=source",
        f"tokenizer.path={tokenizer}",
    ]
    run.train(small(*changes, "run.folder=whole"))
    stop_at(3, small(*changes, "run.folder=cut"))
    stop_at(1, small(*changes, "run.folder=early"))
    source.rename(tmp_path / "elsewhere")
    run.train(small(*changes, "run.folder=cut"))
    assert_same(tmp_path / "whole", tmp_path / "cut")

    # Before its first checkpoint it does.
    with pytest.raises(ConfigError, match="source"):
        run.train(small(*changes, "run.folder=early"))


def test_another_shape_or_tokenizer_is_named(small, source: Path, tmp_path: Path) -> None:
    def message(*changes: str) -> str:
        config = small(*QUICK, "model.start_from=source", "run.folder=tuned", *changes)
        with pytest.raises(ConfigError) as caught:
            run.train(config)
        assert not (tmp_path / "tuned").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert message("model.feedforward_size=48") == (
        "model.start_from=source: that run has another model, model.feedforward_size=64 there "
        "and 48 here; legal: its settings"
    )
    assert "another model, model.decoder_layers=1 there and 2 here; legal" in message(
        "model.decoder_layers=2", "model.dropout=0.3"
    )
    assert message("tokenizer.vocabulary_size=280").endswith(
        "that run has another tokenizer; legal: tokenizer.path=source/tokenizer.json"
    )
    # The source has trained on what is carved out of the training split now.
    same_tokenizer = "tokenizer.path=source/tokenizer.json"
    found = message("data.test_split=null", "data.carved_examples=5", same_tokenizer)
    assert found.startswith("model.start_from=source: data.test_split=test there and null here, ")
    assert found.endswith("; legal: data.test_split=test")
    for wrong in ("nowhere", "data"):
        found = message(f"model.start_from={wrong}")
        assert found.startswith(f"model.start_from={wrong}: ")
        assert found.endswith("legal: a run folder or an export")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        (["model.num_heads=4"], "num_heads=2 there and 4 here"),
        (["model.cross_heads=4"], "cross_heads=2 there and 4 here"),
        (["model.positions=rotary"], "positions=sinusoidal there and rotary here"),
        (["model.activation=relu"], "activation=gelu there and relu here"),
        (["model.norm_position=post"], "norm_position=pre there and post here"),
        (["model.attention=query_key_norm"], "attention=dot_product there and query_key_norm"),
        (["model.num_kv_heads=1"], "num_kv_heads=null there and 1 here"),
        (["model.activation=relu", "model.num_heads=4"],
         "num_heads=2 there and 4 here, model.activation=gelu there and relu here"),
        # Other settings of the same heads, and what only regularizes.
        (["model.num_heads=1", "model.encoder_heads=2", "model.decoder_heads=[2]",
          "model.cross_heads=2", "model.head_dim=16", "model.cross_kv_heads=2"], None),
        (["model.dropout=0.3", "model.attention_dropout=0.1", "model.layer_dropout=0.1"], None),
    ],
)  # fmt: skip
def test_weights_of_another_meaning_are_named_though_their_shapes_fit(
    small, changes: list[str], shown: str | None
) -> None:
    """Only the config of the source is read here."""
    checkpoint = {"config": as_dict(small())}
    config = small("model.start_from=source", *changes)
    if shown is None:
        check_model(checkpoint, Path("source"), config)
        return
    with pytest.raises(ConfigError, match=rf"another model, model.{re.escape(shown)}[^\n]*$"):
        check_model(checkpoint, Path("source"), config)


def test_other_heads_of_a_pruned_model_are_named(small) -> None:
    first = small("model.head_mask={cross: [[1,0]]}")
    second = small("model.head_mask={cross: [[0,1]]}", "model.start_from=source")
    with pytest.raises(ConfigError, match=r"model.head_mask=.*1, 0.* there and .*0, 1.* here; "):
        check_model({"config": as_dict(first)}, Path("source"), second)


def test_learned_positions_of_other_lengths_are_named(small) -> None:
    """The model is the same, and its weights do not fit."""
    then = small(*QUICK, "model.positions=learned", "run.folder=source")
    run.train(then)
    longer = small("model.positions=learned", "model.start_from=source",
                   "data.max_document_tokens=120")  # fmt: skip
    with pytest.raises(ConfigError, match=r"other shapes, .*; legal: .*data.max_document_tokens="):
        read_initial_weights(longer, build_data(then).tokenizer)


def test_a_run_does_not_start_from_other_weights_than_before(
    small, source: Path, tmp_path: Path
) -> None:
    """It was stopped before its first checkpoint, and its source was trained again."""
    changes = [*QUICK, "model.start_from=source", "run.folder=tuned"]
    stop_at(1, small(*changes))
    record = json.loads((tmp_path / "tuned" / "initial_weights.json").read_text())
    assert record["start_from"] == "source" and len(record["sha256"]) == 64

    shutil.rmtree(source)
    run.train(small(*QUICK, "run.folder=source", "trainer.max_steps=1"))
    with pytest.raises(
        ConfigError,
        match=rf"^model.start_from=source: .* started from others; legal: {record['sha256']}, or ",
    ):
        run.train(small(*changes))
    run.train(small(*changes), fresh=True)
    assert json.loads((tmp_path / "tuned" / "initial_weights.json").read_text()) != record


def test_from_python(small, source: Path) -> None:
    config = small("model.start_from=source")
    module = build_module(config, build_data(config))
    module.configure_model()
    expected = load_checkpoint(source, "best")["state_dict"]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in module.state_dict().items())


def test_a_dry_run_starts_from_them_too(small, source: Path) -> None:
    run.train(small("model.start_from=source", "trainer.fast_dev_run=true"))
    shutil.rmtree(source)
    with pytest.raises(ConfigError, match="^model.start_from=source: "):
        run.train(small("model.start_from=source", "trainer.fast_dev_run=true"))
