"""Every committed YAML loads, runs fast_dev_run and the smoke overlay, goes on and decodes, on
small made-up data."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from headcount.commands import train as run
from headcount.config.load import load
from headcount.errors import ConfigError
from tests.conftest import write_data
from tests.training.stopping import stop_at

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
RUNS = [
    f for f in FILES if f.parent.name != "data"
]  # presets of data are tried in tests/data/test_presets.py
DEFAULT, SMOKE = CONFIGS / "docstrings.yaml", CONFIGS / "smoke.yaml"


def with_its_base(file: Path) -> list[str]:
    """A recipe comes after its preset of data; an overlay, which names no data, over the default."""
    path = yaml.safe_load(file.read_text()).get("data", {}).get("path")
    if path == "???":
        return [str(CONFIGS / "data" / file.name), str(file)]
    return [str(file)] if path else [str(DEFAULT), str(file)]


@pytest.fixture
def overrides(file: Path, tmp_path: Path) -> list[str]:
    """Made-up data with the first columns that the config names, on whatever machine this is."""
    data = load(with_its_base(file), []).data
    document, summary = data.document_columns[0], data.summary_columns[0]
    path = write_data(tmp_path / "data", document, summary, lists=document == "source")
    changes = ["trainer.accelerator=cpu", "trainer.precision=32-true", "model.embedding_size=16"]
    return [
        f"data.path={path}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "tokenizer.vocabulary_size=280",
        *changes,
    ]


def test_all_are_found() -> None:
    assert {f.relative_to(CONFIGS).as_posix() for f in FILES} >= {
        "docstrings.yaml",
        "trainer/gpu.yaml",
        "smoke.yaml",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_loads_and_refuses_a_typo(file: Path, tmp_path: Path) -> None:
    load(with_its_base(file), [])
    section = next(iter(yaml.safe_load(file.read_text())))
    (tmp_path / "typo.yaml").write_text(file.read_text().replace(f"{section}:", f"{section}x:"))
    with pytest.raises(ConfigError, match=f"typo.yaml: {section}x=.*did you mean {section}"):
        load([str(tmp_path / "typo.yaml")], [])


@pytest.mark.parametrize("file", RUNS, ids=lambda f: f.stem)
def test_fast_dev_run(file: Path, overrides: list[str], tmp_path: Path) -> None:
    run.train(load(with_its_base(file), [*overrides, "trainer.fast_dev_run=true"]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "data"]


@pytest.mark.parametrize("file", RUNS, ids=lambda f: f.stem)
def test_a_smoke_run_resumes_and_decodes(file: Path, overrides: list[str], tmp_path: Path) -> None:
    changes = ["run.folder=smoke"]
    if file != DEFAULT:
        changes.append("tracking.mode=disabled")  # starting W&B takes as long as the rest
    config = load([*with_its_base(file), str(SMOKE)], [*overrides, *changes])
    stop_at(3, config)
    run.train(config)
    folder = tmp_path / "smoke"
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert json.loads((folder / "scores.json").read_text())["examples"] == 12
    assert (folder / "predictions.jsonl").read_text().count("\n") == 12
    assert list(folder.glob("wandb/offline-run-*/*.wandb")) or file != DEFAULT
