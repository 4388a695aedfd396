"""``make gpu-check`` as far as it goes without a GPU: its page, and its speeds on the CPU."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def test_speeds_and_page(gpu: ModuleType) -> None:
    sizes = gpu.Sizes(
        width=16, heads=2, layers=1, vocabulary=50, documents=3, document_tokens=12,
        summary_tokens=6, batches=2,
    )  # fmt: skip
    speeds = gpu.measure_speeds(sizes, "cpu")
    assert all(len(values) == 2 and min(values) > 0 for values in speeds.values())
    assert ("transformers BART" in speeds) == (
        importlib.util.find_spec("transformers") is not None
    )

    speeds = {"headcount": [100.0, 300.0, 200.0], "transformers BART": [50.0, 50.0, 70.0]}
    page = gpu.describe("A card", "9 passed", speeds, deterministic=True, sizes=sizes)
    assert "| headcount | 200 | 100 to 300 | 1.00 |" in page
    assert "| transformers BART | 50 | 50 to 70 | 0.25 |" in page
    assert "A card, torch " in page and "GPU tests: 9 passed" in page
    assert "weights equal, bit for bit." in page
    assert "NOT equal" in gpu.describe("", "", speeds, deterministic=False, sizes=sizes)


def test_both_models_learn_from_the_same_targets(gpu: ModuleType) -> None:
    """An untrained model's loss is about the logarithm of the vocabulary's size, for both."""
    sizes = gpu.Sizes(
        width=16, heads=2, layers=1, vocabulary=50, documents=3, document_tokens=12,
        summary_tokens=6, batches=1,
    )  # fmt: skip
    batch = gpu.draw_batches(sizes)[0]
    assert batch == gpu.draw_batches(sizes)[0]
    _, ours = gpu.our_loss(sizes, "cpu")
    assert ours(batch).item() == pytest.approx(math.log(50), abs=0.8)
    pytest.importorskip("transformers", reason="needs headcount[parity]")
    _, theirs = gpu.bart_loss(sizes, "cpu")
    assert theirs(batch).item() == pytest.approx(math.log(50), abs=0.8)


def test_deterministic_trainings_are_compared(
    gpu: ModuleType, monkeypatch, tmp_path: Path
) -> None:
    """Two equal ones, then two different ones."""
    import torch

    values = iter([1.0, 1.0, 1.0, 2.0])

    def fake_train(command: list[str], *, check: bool) -> None:
        assert "trainer.deterministic=true" in command and check
        folder = Path(command[-1].removeprefix("run.folder=")) / "checkpoints"
        folder.mkdir(parents=True)
        torch.save({"state_dict": {"w": torch.tensor(next(values))}}, folder / "last.ckpt")

    monkeypatch.setattr(gpu.subprocess, "run", fake_train)
    assert gpu.is_deterministic(["config.yaml"])
    assert not gpu.is_deterministic(["config.yaml"])
