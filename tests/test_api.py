"""The Python interface, as a script uses it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl

import headcount
from headcount.commands.summarize import summarize
from headcount.config.load import load
from headcount.errors import ConfigError
from headcount.escape import printable
from headcount.runs.folder import config_file
from tests.model.builds import ARCHITECTURES

DOCUMENTS = ["Ada: Good day.\nBen: I would like a pear.", " ", "Cleo: Here you are."]


def test_importing_the_package_imports_no_torch() -> None:
    """What it offers is imported when it is asked for, also first of all: see test_imports.py."""
    script = "import headcount, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lode_run'"):
        headcount.lode_run  # noqa: B018


def test_train_with_a_plain_trainer(small, tmp_path: Path) -> None:
    config = small("trainer.max_steps=3")
    data = headcount.build_data(config)
    module = headcount.build_module(config, data)
    trainer = pl.Trainer(
        max_steps=3, accelerator="cpu", use_distributed_sampler=False, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        val_check_interval=3, check_val_every_n_epoch=None,
    )  # fmt: skip
    trainer.fit(module, data)
    assert trainer.global_step == 3 and "validation/rougeL" in trainer.callback_metrics


def test_data_sets_from_python(small) -> None:
    from datasets import Dataset, DatasetDict

    rows = [{"document": f"Ada {n}.", "summary": "Ben."} for n in range(9)]
    sets = DatasetDict(
        {split: Dataset.from_list(rows) for split in ("train", "validation", "dev")}
    )
    data = headcount.build_data(small("data.test_split=dev", "data.path=not/there"), sets)
    assert list(data.splits["test"].pairs.documents) == [row["document"] for row in rows]
    assert data.origin["path"] == "Python" and data.origin["test"]["split"] == "dev"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_finished_run(
    architecture: str, finished_run_of, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_run_of(*ARCHITECTURES[architecture])
    run = headcount.load_run(folder, ["generation.strategy=beam"])
    found = run.summarize(DOCUMENTS)

    # The command gives the same summaries.
    (tmp_path / "in.txt").write_text("\n".join(text.replace("\n", " ") for text in DOCUMENTS))
    capsys.readouterr()
    config = load([config_file(folder)], ["generation.strategy=beam"])
    summarize(folder, config, "in.txt")
    flat = [text.replace("\n", " ") for text in DOCUMENTS]
    expected = [printable(summary) for summary in run.summarize(flat)]
    assert expected == capsys.readouterr().out.splitlines()
    assert len(found) == 3 and found[1] == ""

    # An ensemble of equal models is one.
    twice = headcount.load_run(folder, ["generation.strategy=beam"], others=[folder])
    assert twice.module.ensemble is not None and twice.summarize(DOCUMENTS) == found

    # Every block has a map for each head, whose rows sum to one.
    maps = run.attention(DOCUMENTS[0])
    sites = {
        "transformer": {"encoder.0", "decoder.0", "cross.0"},
        "gpt": {"decoder.0"},
        "recurrent": {"cross.0"},
    }
    assert set(maps) == sites[architecture]
    sources = len(run.tokens(DOCUMENTS[0]))
    for site, weights in maps.items():
        assert len(weights) == 2 and np.allclose(weights.sum(-1), 1, atol=1e-5)
        assert site == "decoder.0" or weights.shape[2] == sources
    with pytest.raises(ConfigError, match="model.feedforward_size=8: .* trained with another"):
        headcount.load_run(folder, ["model.feedforward_size=8"])


def test_a_checkpoint_file_is_a_run(finished_run: Path, tmp_path: Path) -> None:
    """A training in plain Lightning leaves no run folder, only checkpoints."""
    checkpoint = tmp_path / "step=4.ckpt"
    checkpoint.write_bytes((finished_run / "checkpoints" / "best.ckpt").read_bytes())
    run, loaded = headcount.load_run(finished_run), headcount.load_run(checkpoint)
    assert loaded.summarize(DOCUMENTS) == run.summarize(DOCUMENTS)
    assert loaded.config == run.config and not loaded.module.training
    with pytest.raises(ConfigError, match="step=4.ckpt: .* no overrides"):
        headcount.load_run(checkpoint, ["generation.strategy=beam"])


def test_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {num_heads: 8}\n")
    config = headcount.load_config(tmp_path / "a.yaml", overrides=["seed=3"])
    assert (config.model.num_heads, config.seed) == (8, 3)
