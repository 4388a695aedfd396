"""The config and the study of this project are right, and a small model of the config trains."""

from pathlib import Path

import pytorch_lightning as pl
from datasets import Dataset

import headcount
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid

PROJECT = Path(__file__).parent.parent
CONFIG = PROJECT / "configs" / "project.yaml"
SMALL = ["model.embedding_size=16", "model.feedforward_size=32", "tokenizer.vocabulary_size=300"]
ROWS = [
    {
        "document": f"Ada: Good day. Ben: I would like {number} pears. Ada: Here you are.",
        "summary": f"Ben buys {number} pears from Ada.",
    }
    for number in range(40)
]


def test_a_small_model_trains(tmp_path: Path) -> None:
    """Made-up pairs take the place of the data."""
    cache = f"data.cache_dir={tmp_path / 'cache'}"
    config = headcount.load_config(CONFIG, overrides=[*SMALL, cache])
    splits = {name: Dataset.from_list(ROWS) for name in ("train", "validation", "test")}
    data = headcount.build_data(config, splits)
    module = headcount.build_module(config, data)
    trainer = pl.Trainer(
        max_steps=2,
        val_check_interval=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, data)
    assert trainer.global_step == 2
    assert 0 <= trainer.callback_metrics["validation/rougeL"] <= 100


def test_the_study_has_its_cells() -> None:
    """Every cell has a legal config."""
    cells = make_cells(load_grid(PROJECT / "experiments" / "heads"))
    assert len(cells) == 6
    assert {cell.config.model.num_heads for cell in cells} == {1, 4}
