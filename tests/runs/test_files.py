import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headcount.data.cache import cached
from headcount.errors import ConfigError, RunError
from headcount.runs.checkpoint import write_checkpoint
from headcount.runs.files import (
    damage_as_config_error,
    describe_os_error,
    read_json_or_put_aside,
    unwritable_as_run_error,
    write_atomically,
    write_folder,
)
from headcount.runs.folder import lock_folder, stable_path
from tests.runs.test_folder import names


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "öld")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(RunError, match=rf"^{path}: cannot be written: No space left on device$"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "öld" and names(tmp_path) == ["file"]


WRITERS: dict[str, Callable[[Path], object]] = {
    "a file": lambda folder: write_atomically(folder / "file", "content"),
    "a folder": lambda folder: write_folder(folder / "export", {"file": b"content"}),
    "a checkpoint": lambda folder: write_checkpoint(
        {"global_step": 1, "state_dict": {"weight": torch.ones(2)}}, folder / "last.ckpt"
    ),
    "an entry of the cache": lambda folder: cached(
        str(folder), "thing", 1, lambda entry: (entry / "file").write_text("content")
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_content_is_on_the_disk_before_its_name_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash of the machine a name never leads to an empty file."""
    synced: set[int] = set()
    renamed: list[str] = []
    replace = os.replace

    def files_of(path: Path) -> list[Path]:
        return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]

    def record(source: Any, target: Any) -> None:
        renamed.append(Path(target).name)
        for file in files_of(Path(source)):
            assert file.stat().st_ino in synced, f"{file} is renamed before it is on the disk"
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda file: synced.add(os.fstat(file).st_ino))
    monkeypatch.setattr(os, "replace", record)
    WRITERS[kind](tmp_path)
    assert renamed


def test_an_error_names_the_folder_and_not_its_descriptor(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with lock_folder(folder):
        folder.rename(tmp_path / "renamed")
        path = stable_path(folder) / "parts" / "provenance.json"
        readable = tmp_path / "renamed" / "parts" / "provenance.json"
        message = f"^{readable}: cannot be written: No space left"
        with pytest.raises(RunError, match=message), unwritable_as_run_error(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with (
            pytest.raises(ConfigError, match=f"^{readable}: damaged "),
            damage_as_config_error(path, "train"),
        ):
            raise ValueError


def test_errors_of_the_environment_name_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "data.json"))
    assert describe_os_error(inside, tmp_path) == f"{tmp_path}/data.json: Permission denied"
    assert describe_os_error(FileNotFoundError(2, "No such file", "/etc/x"), tmp_path) is None
    assert describe_os_error(OSError(errno.EIO, "Input/output error"), tmp_path) is None

    full = OSError(errno.ENOSPC, "No space left on device")
    end = "No space left on device; the same command resumes when there is room"
    usage = shutil.disk_usage(tmp_path)
    for is_full, place in ((True, "/dev/shm"), (False, tmp_path)):
        free = 0 if is_full else 2**30
        monkeypatch.setattr(
            shutil,
            "disk_usage",
            lambda path, free=free: usage._replace(
                free=free if str(path) == "/dev/shm" else 2**30
            ),
        )
        assert describe_os_error(full, tmp_path) == f"{place}: {end}"
    full.filename = "/elsewhere"
    assert describe_os_error(full, tmp_path) == f"/elsewhere: {end}"


def test_a_damaged_file_that_a_run_can_do_without_is_put_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "costs.json"
    assert read_json_or_put_aside(file, dict) is None
    file.write_text('{"a": 1}')
    assert read_json_or_put_aside(file, dict) == {"a": 1}
    for damaged in ('{"a"', "[1]"):
        file.write_text(damaged)
        assert read_json_or_put_aside(file, dict) is None and not file.exists()
        assert (tmp_path / "costs.json.damaged").read_text() == damaged
        assert f"{file}: damaged (" in capsys.readouterr().out
