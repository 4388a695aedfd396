"""Ids of the hub; downloading is tested in tests/commands/test_push.py."""

from pathlib import Path
from typing import Any

import pytest

from headcount.errors import ConfigError
from headcount.runs.model_hub import default_output_path, find_model, hub_name


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("the hub was asked")


@pytest.mark.parametrize("name", ["runs/a-1", "/x/y", "../x", "run", "a/b/c", "used/none"])
def test_a_path_is_no_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a misspelt one in a folder that exists."""
    (tmp_path / "runs" / "a-1").mkdir(parents=True)
    (tmp_path / "used").mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", never)
    assert find_model(Path(name)) == Path(name)


def test_a_hub_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^owner/model: no such folder; the hub: "):
        find_model(Path("owner/model"))


@pytest.mark.parametrize("content", [[], ["config.json"], ["config.json", "model.safetensors"]])
def test_what_is_no_export_is_named(
    content: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        (tmp_path / "downloaded").mkdir()
        for file in content:
            (tmp_path / "downloaded" / file).touch()
        return str(tmp_path / "downloaded")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    if "model.safetensors" in content:
        assert find_model(Path("owner/model@v2")) == tmp_path / "downloaded"
    else:
        with pytest.raises(ConfigError, match="owner/model@v2: on the hub, but not an export"):
            find_model(Path("owner/model@v2"))
    assert (asked["name"], asked["revision"]) == ("owner/model", "v2")
    assert "README.md" in asked["allow_patterns"]


def test_files_about_a_model_of_the_hub_are_in_the_current_folder(tmp_path: Path) -> None:
    cached = tmp_path / "models--owner--two--heads" / "snapshots" / "0123abc"
    assert hub_name(cached) == "two--heads"
    assert default_output_path(cached, "page.html") == Path("page.html")
    for folder in (tmp_path / "runs" / "a-1", tmp_path / "snapshots" / "0123abc", Path("a")):
        assert hub_name(folder) is None
        assert default_output_path(folder, "page.html") == folder / "page.html"
