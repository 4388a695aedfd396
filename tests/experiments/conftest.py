"""A study of small real trainings."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid
from tests.conftest import SMALL, write_data
from tests.experiments.test_grid import write


@pytest.fixture
def small_study(tmp_path: Path) -> list[Cell]:
    """Three cells that train for a few seconds.

    What they do is in ``study`` and ``runs/study``.
    """
    data = write_data(tmp_path / "data")
    changes = [
        f"data.path={data}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "trainer.max_steps=200",
    ]
    shorter = [
        "trainer.val_check_interval=100",
        "trainer.log_every_n_steps=5",
        "evaluation.baselines=[lead-1]",
    ]
    OmegaConf.save(OmegaConf.from_dotlist([*SMALL, *changes, *shorter]), tmp_path / "a.yaml")
    grid = "{model.num_heads: [1, 2, 4]}"
    return make_cells(
        load_grid(
            write(
                tmp_path / "study", grid=grid, seeds="[0]", reference_cell="{model.num_heads: 2}"
            )
        )
    )
