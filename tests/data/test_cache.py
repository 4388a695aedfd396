import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headcount.data.cache import DIGESTS, cached
from headcount.errors import ConfigError

BUILD_SLOWLY = """
import sys, time
from headcount.data.cache import cached

def build(folder):
    (folder / "part").write_text("half")
    print("building", flush=True)
    time.sleep(60)

cached(sys.argv[1], "thing", 1, build)
"""


def test_built_once_per_key(tmp_path: Path) -> None:
    built = []
    for key in (1, 1, 2):
        folder = cached(
            str(tmp_path),
            "thing",
            key,
            lambda to, key=key: built.append((to / "part").write_text(str(key))),
        )
        assert (folder / "part").read_text() == str(key)
    assert len(built) == 2


def test_what_a_killed_process_leaves_is_not_trusted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD_SLOWLY, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = time.monotonic()
    folder = cached(str(tmp_path), "thing", 1, lambda to: (to / "whole").touch() or None)
    assert sorted(p.name for p in folder.iterdir()) == [DIGESTS, "whole"]
    assert time.monotonic() - started < 5  # a dead process holds no lock
    assert not list(tmp_path.glob("*.partial"))


def test_a_failed_build_is_no_entry(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        cached(str(tmp_path), "thing", 1, lambda to: 1 // 0)
    assert [p.suffix for p in tmp_path.iterdir()] in ([".lock", ".partial"], [".partial", ".lock"])
    assert cached(str(tmp_path), "thing", 1, lambda to: None).is_dir()


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^data.cache_dir=[^\n]*: cannot write thing-\w+: "):
        cached(str(tmp_path / "file"), "thing", 1, lambda to: None)
    assert os.listdir(tmp_path) == ["file"]


def fill(to: Path) -> None:
    (to / "pairs.arrow").write_bytes(b"pairs" * 100)
    (to / "info.json").write_text('{"pairs": 100}')


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a changed byte": lambda folder: flip(folder / "pairs.arrow"),
    "a changed byte in a small file": lambda folder: flip(folder / "info.json"),
    "a byte too many": lambda folder: (folder / "pairs.arrow").open("ab").write(b" "),
    "an empty file": lambda folder: (folder / "info.json").write_text(""),
    "a missing file": lambda folder: (folder / "info.json").unlink(),
    "an empty list of digests": lambda folder: (folder / DIGESTS).write_text(""),
    "a list that is none": lambda folder: (folder / DIGESTS).write_text("[1, 2]"),
    "no list of digests": lambda folder: (folder / DIGESTS).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_built_again(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cached(str(tmp_path), "thing", 1, fill)
    DAMAGES[damage](folder)
    assert cached(str(tmp_path), "thing", 1, fill) == folder
    assert re.fullmatch(r".*thing-\w+: (.* is not what was written|not readable .*); it is built again\n",
                        capsys.readouterr().out)  # fmt: skip
    assert (folder / "pairs.arrow").read_bytes() == b"pairs" * 100
    assert (folder / "info.json").read_text() == '{"pairs": 100}'
    assert cached(str(tmp_path), "thing", 1, lambda to: 1 // 0) == folder
    assert capsys.readouterr().out == ""


def test_a_complete_entry_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a cache that others own: no lock, no folder and no file is written."""
    folder = cached(str(tmp_path), "thing", 1, fill)
    for path in tmp_path.glob("*.lock"):
        path.unlink()
    monkeypatch.setattr(
        "headcount.data.cache.FileLock", lambda *_: pytest.fail("a lock was written")
    )
    before = sorted(tmp_path.rglob("*"))
    assert cached(str(tmp_path), "thing", 1, fill) == folder
    assert sorted(tmp_path.rglob("*")) == before


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"^data.cache_dir=~nosuchuser/x: the home directory is unknown; legal: "
    ):
        cached("~nosuchuser/x", "thing", 1, fill)
