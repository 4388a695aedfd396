import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headcount.config import ConfigError
from headcount.training.folder import new_folder, write_whole


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
