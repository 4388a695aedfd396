from pathlib import Path

import pytest
import torch

from headcount.config import ConfigError
from headcount.training.checkpoint import load_checkpoint


def test_a_checkpoint_is_found_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run folder with a checkpoint"):
        load_checkpoint(tmp_path, "best")
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "best.ckpt"
    torch.save({"global_step": 3}, path)
    assert load_checkpoint(tmp_path, "best") == {"global_step": 3}
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"best.ckpt: damaged, or not a checkpoint"):
        load_checkpoint(tmp_path, "best")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "canary",)

    (tmp_path / "checkpoints").mkdir()
    torch.save({"canary": Canary()}, tmp_path / "checkpoints" / "best.ckpt")
    with pytest.raises(ConfigError, match="damaged, or not a checkpoint"):
        load_checkpoint(tmp_path, "best")
    assert not (tmp_path / "canary").exists()
