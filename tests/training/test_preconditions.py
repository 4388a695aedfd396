from pathlib import Path

import pytest
import pytorch_lightning as pl

from headcount.training.preconditions import count_steps


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"max_steps": 5}, 5),
        ({"max_epochs": 3}, 21),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 12),
        ({"max_epochs": -1}, None),
    ],
)
def test_steps_are_those_that_lightning_trains(
    arguments: dict[str, int], steps: int | None, tmp_path: Path
) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(**arguments, **quiet, accelerator="cpu", default_root_dir=tmp_path)  # type: ignore[arg-type]
    assert count_steps(trainer, batches=7) == steps
