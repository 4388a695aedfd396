import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headcount.config.load import load
from headcount.config.sections.data import DataConfig
from headcount.data import hub
from headcount.data.sources import load_splits
from headcount.errors import ConfigError


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return load([], [f"data.cache_dir={tmp_path / 'cache'}"]).data


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the offline mode of the tests away."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def never(*_: object, **__: object) -> None:
    pytest.fail("the hub was asked")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("my_dialoges/", "no such file or folder, did you mean my_dialogues?"),
        ("./my_dialoges", "no such file or folder, did you mean my_dialogues?"),
        ("two words", "no such file or folder; legal: docstrings, one of those, a hub id"),
        ("a/b/c", "no such file or folder"),
        ("-x/y", "no such file or folder"),
        ("pairs.jsonl.gz", "no such file or folder"),
        ("some/pairs.txt", "no such file or folder"),
    ],
)
def test_what_is_no_hub_id_is_named_at_once(
    path: str, message: str, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_dialogues").mkdir()
    monkeypatch.setattr("datasets.load_dataset", never)
    monkeypatch.setattr(hub, "find_commit", never)
    with pytest.raises(ConfigError, match=re.escape(f"data.path={path}: {message}")):
        load_splits(replace(data, path=path), {"test": "test"})


@pytest.mark.parametrize("path", ["my_dialoges", "sets/dialoges"])
def test_a_misspelt_path_that_could_be_a_hub_id(
    path: str, data: DataConfig, tmp_path: Path
) -> None:
    for name in ("my_dialogues", "sets/dialogues"):
        (tmp_path / name).mkdir(parents=True)
    right = path.replace("oges", "ogues")
    with pytest.raises(ConfigError, match=rf"data.path={path}: .*did you mean {right}\?"):
        load_splits(replace(data, path=path), {"test": "test"})


def test_a_hub_that_cannot_be_reached_costs_no_time(
    data: DataConfig, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloaded data sets are still found: datasets is asked, in its offline mode."""
    import datasets
    import huggingface_hub

    asked = []

    def load_dataset(*_: object, **__: object) -> Any:
        asked.append((datasets.config.HF_HUB_OFFLINE, huggingface_hub.is_offline_mode()))
        return datasets.Dataset.from_dict({"document": ["a"], "summary": ["b"]})

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    began = time.monotonic()
    splits, _ = load_splits(replace(data, path="some/set"), {"test": "test"})
    assert list(splits["test"].documents) == ["a"] and asked == [(True, True)]
    assert time.monotonic() - began < 8


def test_a_data_set_that_the_hub_has_not(
    data: DataConfig, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    def refuse(*_: object, **__: object) -> None:
        response = SimpleNamespace(status_code=404, headers={}, request=None)
        raise RepositoryNotFoundError("404: no\nsuch repository", response=response)

    monkeypatch.setattr(hub, "find_commit", refuse)
    monkeypatch.setattr("datasets.load_dataset", never)
    with pytest.raises(
        ConfigError,
        match="data.path=some/set: no such file or folder; the hub: 404: no such repository",
    ):
        load_splits(replace(data, path="some/set"), {"test": "test"})
