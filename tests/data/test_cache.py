import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headcount.config import ConfigError
from headcount.data.cache import cached

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
            str(tmp_path), "thing", key, lambda to, key=key: built.append((to / "part").write_text(str(key)))
        )
        assert (folder / "part").read_text() == str(key)
    assert len(built) == 2


def test_what_a_killed_process_leaves_is_not_trusted(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", BUILD_SLOWLY, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = time.monotonic()
    folder = cached(str(tmp_path), "thing", 1, lambda to: (to / "whole").touch() or None)
    assert [p.name for p in folder.iterdir()] == ["whole"]
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
