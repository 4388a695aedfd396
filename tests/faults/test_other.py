"""A run is not resumed as another one."""

import shutil
import signal
from pathlib import Path

import pytest

from headcount.commands import train as run
from headcount.config.load import load
from headcount.errors import ConfigError
from tests.faults.forks import PLACES, Forks, overrides
from tests.training.stopping import assert_same

pytestmark = pytest.mark.faults
CHANGED = {
    "other heads": ["model.num_heads=4", "model.encoder_heads=1", "model.num_kv_heads=1"],
    "another tokenizer": ["tokenizer.vocabulary_size=280", "tokenizer.algorithm=unigram"],
    "another batch budget": ["data.batch_tokens=400"],
    "other data": ["data.path=other", "data.max_document_tokens=64"],
    "another seed": ["seed=1"],
}


def test_resumed_as_another_run(forks: Forks, fault, some, tmp_path: Path) -> None:
    assert forks.stop("cut", 8, PLACES[1], signal.SIGKILL) == [-signal.SIGKILL]
    before = {path: path.read_bytes() for path in Path("cut").rglob("*") if path.is_file()}
    refused = "exit 2, one line with the keys that differ; the run is as it was"

    def refuse(name: str, key: str, *changes: str) -> None:
        with pytest.raises(ConfigError) as error:
            run.train(load([], overrides("cut", *changes)))
        assert (
            key in str(error.value)
            and "legal: " in str(error.value)
            and "\n" not in str(error.value)
        )
        assert {
            path: path.read_bytes() for path in Path("cut").rglob("*") if path.is_file()
        } == before
        fault(f"resumed with {name}", refused)

    for name, changes in CHANGED.items():
        for change in some(changes):
            refuse(name, change.partition("=")[0], change)

    for split in some(["train", "validation", "test"]):
        path = Path("data") / f"{split}.jsonl"
        whole = path.read_text()
        path.write_text(whole.replace("kite", "bike"))
        refuse("other data in the same place", f"its {split} split has the SHA-256")
        path.write_text(whole)

    tokenizer = Path("cut") / "tokenizer.json"
    whole = tokenizer.read_text()
    tokenizer.write_text(whole.replace("</s>", "<end>"))
    before[tokenizer] = tokenizer.read_bytes()
    refuse("another tokenizer", "tokenizer.json")
    shutil.rmtree("cut")


def test_a_damaged_cache(forks: Forks, fault, some, tmp_path: Path) -> None:
    """Whatever file of the cache of prepared data is changed, what is trained on is the data."""
    forks.train("whole")
    files = sorted(path for path in (tmp_path / "cache").glob("*/*") if path.suffix != ".lock")
    assert {path.name for path in files} >= {
        "pairs.arrow",
        "tokens.arrow",
        "tokenizer.json",
        "info.json",
    }
    for path in some(files):
        whole = path.read_bytes()
        middle = len(whole) // 2
        for content in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], b""):
            path.write_bytes(content)
            forks.train("again")
            assert_same(tmp_path / "whole", tmp_path / "again")
            assert path.read_bytes() == whole
            shutil.rmtree("again")
            fault(
                "a file of the data cache is changed in one bit, or empty",
                "the entry is built again and a line says so; weights, metrics and summaries "
                "are the same",
            )
