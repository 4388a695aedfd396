import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headcount.compose import load, to_yaml
from headcount.config import ConfigError, RunConfig
from headcount.training.folder import find_run, hold, new_folder, refuse_links, write_whole


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


def test_links_that_lead_out_of_a_run_folder_are_refused(tmp_path: Path) -> None:
    """A link within it is none of those, nor is the folder itself, which may lie on another disk."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / "checkpoints").mkdir(parents=True)
    (run / "latest").symlink_to("checkpoints")
    (tmp_path / "link").symlink_to(run)
    refuse_links(tmp_path / "link")
    outside.mkdir()
    for target in (outside, Path("../../outside"), outside / "nothing"):
        (run / "checkpoints" / "last.ckpt").symlink_to(target)
        with (
            pytest.raises(ConfigError, match=r"last.ckpt: leads out of .*outside.*; legal: links within it"),
            hold(run),
        ):
            pass
        (run / "checkpoints" / "last.ckpt").unlink()
    (run / ".lock").symlink_to(outside / "precious")
    with pytest.raises(ConfigError, match="leads out of"), hold(run):
        pass
    assert not list(outside.iterdir())
