import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from headcount.config.load import as_dict, load, to_yaml
from headcount.errors import ConfigError, RunError
from headcount.runs.files import write_atomically
from headcount.runs.folder import (
    create_numbered_folder,
    current_folder,
    find_run,
    has_effect,
    load_run_config,
    lock_folder,
    reject_links,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(
            pool.map(lambda _: create_numbered_folder(tmp_path / "runs", "a"), range(20))
        )
    assert {folder.name for folder in folders} == {f"a-{number}" for number in range(1, 21)}


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make a run folder"):
        create_numbered_folder(tmp_path / "file", "a")


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with lock_folder(folder):
        for _ in range(2):
            with (
                pytest.raises(ConfigError, match=r"^\S*run: another process is using this folder"),
                lock_folder(folder),
            ):
                pass
        (folder / "data.json").touch()
    with lock_folder(folder):
        assert names(folder) == [".lock", "data.json"]


def test_a_folder_in_which_nothing_was_written_is_deleted(tmp_path: Path) -> None:
    """A config that was there before is somebody's."""
    folder = tmp_path / "run"
    with lock_folder(folder):
        (folder / "config.yaml").touch()
    assert names(tmp_path) == []
    folder.mkdir()
    (folder / "config.yaml").touch()
    with lock_folder(folder):
        pass
    assert "config.yaml" in names(folder)


def test_afresh_moves_a_run_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "run"
    for number in range(2):
        with lock_folder(folder, fresh=True):
            assert names(folder) == [".lock"]
            (folder / "config.yaml").touch()
            (folder / f"data.{number}").touch()
    assert names(tmp_path / "runs") == ["run", "run.old-1"]
    assert "data.0" in names(tmp_path / "runs" / "run.old-1")
    with (
        lock_folder(folder),
        pytest.raises(ConfigError, match="another process is using this folder"),
        lock_folder(folder, fresh=True),
    ):
        pass
    with (
        pytest.raises(ConfigError, match="runs: not a run folder, run.* is in it"),
        lock_folder(tmp_path / "runs", fresh=True),
    ):
        pass
    monkeypatch.chdir(folder)
    with (
        pytest.raises(ConfigError, match=r"^run.folder=\.: cannot be renamed[^\n]*$"),
        lock_folder(Path("."), fresh=True),
    ):
        pass
    assert names(tmp_path) == ["runs"]


def test_a_run_that_was_moved_aside_returns_if_no_new_one_was_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="no data"), lock_folder(folder, fresh=True):
        (folder / "config.yaml").write_text("seed: 2\n")
        raise ConfigError("no data")
    assert names(tmp_path) == ["run"] and (folder / "config.yaml").read_text() == "seed: 1\n"
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}: the earlier run in it was moved to {folder}.old-1",
        f"{folder}: no new run was started in it, so the earlier one was moved back",
    ]

    # There is no run in an empty folder.
    (tmp_path / "empty").mkdir()
    with lock_folder(tmp_path / "empty", fresh=True):
        pass
    assert names(tmp_path) == ["run"] and capsys.readouterr().out == ""


def test_a_run_from_before_a_key_is_still_this_config(tmp_path: Path) -> None:
    config = load([], [f"run.folder={tmp_path}"])
    before = as_dict(config)
    del before["generation"]["num_beams"]
    write_atomically(tmp_path / "config.yaml", yaml.safe_dump(before))
    assert find_run(config) == tmp_path
    other = load([], [f"run.folder={tmp_path}", "generation.num_beams=8"])
    with pytest.raises(ConfigError, match=r"started with generation.num_beams=null"):
        find_run(other)


def test_links_that_lead_out_of_a_run_folder_are_refused(tmp_path: Path) -> None:
    """A link within it is none of those, nor is the folder itself, which may lie on another disk."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / "checkpoints").mkdir(parents=True)
    (run / "latest").symlink_to("checkpoints")
    (tmp_path / "link").symlink_to(run)
    reject_links(tmp_path / "link")
    outside.mkdir()
    for target in (outside, Path("../../outside"), outside / "nothing"):
        (run / "checkpoints" / "last.ckpt").symlink_to(target)
        with (
            pytest.raises(
                ConfigError, match=r"last.ckpt: leads out of .*outside.*; legal: links within it"
            ),
            lock_folder(run),
        ):
            pass
        (run / "checkpoints" / "last.ckpt").unlink()
    (run / ".lock").symlink_to(outside / "precious")
    with pytest.raises(ConfigError, match="leads out of"), lock_folder(run):
        pass
    assert not list(outside.iterdir())


def test_a_link_of_wandb_to_its_own_logs_is_allowed(tmp_path: Path) -> None:
    """W&B writes it by an absolute path, which is wrong after the folder was moved."""
    run = tmp_path / "run"
    outside = tmp_path / "outside"
    outside.mkdir()
    (run / "wandb").mkdir(parents=True)
    (run / "wandb" / "debug.log").symlink_to(tmp_path / "moved" / "wandb" / "debug.log")
    reject_links(run)
    (run / "wandb" / "data").symlink_to(outside)
    with pytest.raises(ConfigError, match="data: leads out of"):
        reject_links(run)


def test_an_empty_config_of_a_run_is_damage(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    message = rf"^{tmp_path}/config.yaml: damaged \(empty\); legal: as train has written it$"
    with pytest.raises(ConfigError, match=message):
        load_run_config(tmp_path, [])


def test_a_run_from_before_a_key_is_not_resumed_by_another_rule(tmp_path: Path) -> None:
    """The best checkpoint was selected before ``selection_margin`` existed."""
    config = load([], ["run.folder=here", "evaluation.selection_margin=0"])
    Path("here").mkdir()
    text = to_yaml(config).replace("  selection_margin: 0.0\n", "")
    assert "selection_margin" not in text
    Path("here/config.yaml").write_text(text)
    message = r"here: the run in it was started with evaluation.selection_margin=0.0; legal: the"
    with pytest.raises(ConfigError, match=message):
        find_run(load([], ["run.folder=here"]))
    assert find_run(config) == Path("here")


def test_workers_of_a_stream_have_an_effect() -> None:
    """Each of them reads a part of it, so their number decides the order of the examples."""
    config = load([], [])
    assert not has_effect("data.num_workers", config) and not has_effect("tracking.name", config)
    assert has_effect("seed", config)
    streamed = load([], ["data.streaming=true"])
    assert has_effect("data.num_workers", streamed) and not has_effect("data.cache_dir", streamed)


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load([], ["run.directory=~/runs", "run.name=mine"])
    (tmp_path / "runs" / "mine-1").mkdir(parents=True)
    write_atomically(tmp_path / "runs" / "mine-1" / "config.yaml", to_yaml(config))
    assert find_run(config) == tmp_path / "runs" / "mine-1"
    assert find_run(load([], ["run.folder=~/runs/mine-1"])) == tmp_path / "runs" / "mine-1"
    with pytest.raises(
        ConfigError, match=r"^run.folder=~nosuchuser: the home directory is unknown"
    ):
        find_run(load([], ["run.folder=~nosuchuser"]))


def test_a_folder_is_followed_when_it_is_renamed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run"
    assert current_folder(folder) == folder
    with lock_folder(folder):
        assert current_folder(folder) == folder
        folder.rename(tmp_path / "runs" / "renamed")
        assert current_folder(folder) == tmp_path / "runs" / "renamed"
        folder.mkdir()  # somebody else's
        (tmp_path / "runs").rename(tmp_path / "moved")
        assert current_folder(folder) == tmp_path / "moved" / "renamed"
        (tmp_path / "moved" / "renamed" / "data.json").touch()
    assert names(tmp_path / "moved" / "renamed") == [".lock", "data.json"]


def test_a_deleted_folder_is_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with lock_folder(folder):
        shutil.rmtree(folder)
        with pytest.raises(RunError, match=r"run: it was deleted or moved away while this run"):
            current_folder(folder)
    assert not folder.exists()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everyone may write into, unlike those of pytest."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another identity")
def test_folders_of_others_in_a_shared_directory_are_skipped(shared: Path) -> None:
    config = load([], [f"run.directory={shared}", "run.name=a"])
    for number in (1, 2, 3):
        folder = shared / f"a-{number}"
        folder.mkdir()
        write_atomically(folder / "config.yaml", to_yaml(config))
    (shared / "a-1").chmod(0o000)
    (shared / "a-3" / "config.yaml").chmod(0o000)
    with as_nobody():
        assert find_run(config) is None
        assert create_numbered_folder(shared, "a").name == "a-4"
        with pytest.raises(ConfigError, match=r"^run.folder=\S*a-1: cannot be read: Permission"):
            find_run(load([], [f"run.folder={shared / 'a-1'}"]))

    (shared / "a-2" / "finished").touch()
    with as_nobody():
        assert find_run(config) == shared / "a-2"
