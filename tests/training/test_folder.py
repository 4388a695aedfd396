import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headcount.compose import load, to_yaml
from headcount.config import ConfigError, RunConfig
from headcount.training.folder import find_run, new_folder, write_whole


def test_each_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "runs", "a"), range(20)))
    assert {folder.name for folder in folders} == {f"a-{number}" for number in range(1, 21)}


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make a run folder"):
        new_folder(tmp_path / "file", "a")


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, "öld")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        write_whole(path, "new")
    assert path.read_text(encoding="utf-8") == "öld"


def test_a_run_from_before_a_key_is_still_this_config(tmp_path: Path) -> None:
    _, plain = load([], [f"run.folder={tmp_path}"])
    before = {**plain, "decoding": {key: value for key, value in plain["decoding"].items() if key != "beams"}}
    write_whole(tmp_path / "config.yaml", to_yaml(before))
    assert find_run(RunConfig(folder=str(tmp_path)), plain) == tmp_path
    _, other = load([], ["decoding.beams=8"])
    with pytest.raises(ConfigError, match=r"begun with decoding.beams=null"):
        find_run(RunConfig(folder=str(tmp_path)), other)
