"""Fine-tuning: a run that starts from another one's weights."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from headcount.api import build_data, build_module
from headcount.commands import train as run
from headcount.commands.export import export
from headcount.errors import ConfigError
from headcount.runs.checkpoint import load_checkpoint
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
    """A learning rate of zero keeps them. Another dropout and data have the same shapes."""
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

    assert re.fullmatch(
        r"model.start_from=source: that run has other shapes, decoder.0.feedforward.\S+ is "
        r"32 x 64 there and 32 x 48 here; legal: its settings, model.feedforward_size=64",
        message("model.feedforward_size=48"),
    )
    deeper = message("model.decoder_layers=2", "model.dropout=0.3")
    assert "is absent there and" in deeper and "model.decoder_layers=1" in deeper
    assert message("tokenizer.vocabulary_size=280").endswith(
        "that run has another tokenizer; legal: tokenizer.path=source/tokenizer.json"
    )
    for wrong in ("nowhere", "data"):
        found = message(f"model.start_from={wrong}")
        assert found.startswith(f"model.start_from={wrong}: ")
        assert found.endswith("legal: a run folder or an export")


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
