import os
import resource
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from headcount.config.load import as_dict, load
from headcount.errors import ConfigError, RunError
from headcount.runs.checkpoint import (
    Resumable,
    check_unchanged,
    checkpoint_path,
    is_selected,
    last_good_checkpoint,
    load_checkpoint,
    remove_scratch,
    write_checkpoint,
)


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """The path of the last checkpoint of a run; there are two, of steps 1 and 2."""
    path = checkpoint_path(tmp_path, "last")
    for step in (1, 2):
        write_checkpoint(
            {"global_step": step, "state_dict": {"weight": torch.full((1000,), float(step))}}, path
        )
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


KEPT = ["last.ckpt", "last.ckpt.sha256", "previous.ckpt", "previous.ckpt.sha256"]


def test_the_one_before_is_kept(last: Path, tmp_path: Path) -> None:
    assert names(last.parent) == KEPT
    assert [load_checkpoint(tmp_path, name)["global_step"] for name in ("last", "previous")] == [
        2,
        1,
    ]
    assert last_good_checkpoint(tmp_path) == Resumable(last, 2)
    with pytest.raises(ConfigError, match="not a run folder with a checkpoint"):
        load_checkpoint(tmp_path, "best")


def damage(whole: bytes) -> list[bytes]:
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    return [b"", whole[:100], whole[:-1], os.urandom(len(whole)), bytes(flipped)]


@pytest.mark.parametrize("kind", range(5))
def test_a_damaged_one_is_named_and_the_one_before_it_used(
    kind: int, last: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last.write_bytes(damage(last.read_bytes())[kind])
    with pytest.raises(
        ConfigError, match=r"last.ckpt: damaged, or not a checkpoint \(its SHA-256[^\n]*$"
    ):
        load_checkpoint(tmp_path, "last")
    assert last_good_checkpoint(tmp_path) == Resumable(last.with_name("previous.ckpt"), 1)
    output = capsys.readouterr().out
    assert output.startswith(f"{last}: damaged") and output.count("\n") == 1
    write_checkpoint(
        {"global_step": 3, "state_dict": {}}, last
    )  # the damaged one does not become the one before
    assert [load_checkpoint(tmp_path, name)["global_step"] for name in ("last", "previous")] == [
        3,
        1,
    ]


def test_one_without_its_step_is_damaged(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, "last")
    write_checkpoint({"state_dict": {}}, path)
    with pytest.raises(
        ConfigError, match=r"last.ckpt: damaged, or not a checkpoint \(it has no global_step\)$"
    ):
        load_checkpoint(tmp_path, "last")
    assert last_good_checkpoint(tmp_path) is None


@pytest.mark.parametrize("weights", [3, "text", [1], None, {"a": 3}, {1: torch.zeros(1)}])
def test_one_without_weights_is_damaged(weights: object, tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, "best")
    write_checkpoint({"global_step": 1, "state_dict": weights}, path)
    with pytest.raises(
        ConfigError, match=r"best.ckpt: damaged, or not a checkpoint \(it has no weights\)$"
    ):
        load_checkpoint(tmp_path, "best")


def test_a_run_from_before_a_key_is_still_used(tmp_path: Path) -> None:
    config = load([], [])
    plain = as_dict(config)
    before = {
        **plain,
        "model": {key: value for key, value in plain["model"].items() if key != "layer_dropout"},
    }
    content = {"global_step": 1, "state_dict": {}, "config": before}
    write_checkpoint(content, checkpoint_path(tmp_path, "best"))
    check_unchanged(tmp_path, config)
    for change, legal in {
        "model.layer_dropout=0.1": "to leave it out",
        "model.num_heads=8": "4",
    }.items():
        other = load([], [change])
        with pytest.raises(
            ConfigError, match=rf"^{change}: .* was trained with another value; legal: {legal}$"
        ):
            check_unchanged(tmp_path, other)
    write_checkpoint({"global_step": 1, "state_dict": {}}, checkpoint_path(tmp_path, "best"))
    with pytest.raises(ConfigError, match="not a checkpoint of this version"):
        check_unchanged(tmp_path, config)


def test_no_place_for_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        RunError, match=r"last.ckpt: cannot be written \([^\n]*; [\d,]+ bytes are free[^\n]*$"
    ):
        write_checkpoint(
            {"global_step": 3, "state_dict": {}}, tmp_path / "file" / "checkpoints" / "last.ckpt"
        )


def test_none_is_good(last: Path, tmp_path: Path) -> None:
    last.write_bytes(b"")
    last.with_name("previous.ckpt").write_bytes(b"")
    assert last_good_checkpoint(tmp_path) is None


@pytest.mark.parametrize("cut", range(4))
def test_a_save_that_is_cut_anywhere_between_its_renames(
    cut: int, last: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renames are of the two side files and the two checkpoints."""
    done, rename = iter(range(10)), os.replace

    def replace(source: Any, target: Any) -> None:
        if next(done) == cut:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", replace)
        write_checkpoint({"global_step": 3, "state_dict": {}}, last)
    found = last_good_checkpoint(tmp_path)
    assert found and found[1] == 2
    remove_scratch(tmp_path)
    assert not [name for name in names(last.parent) if name.startswith(".")]


def test_a_full_disk(last: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in last.parent.iterdir()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(
            RunError, match=r"last.ckpt: cannot be written \(.*\); [\d,]+ bytes are free[^\n]*$"
        ):
            write_checkpoint({"global_step": 3, "state_dict": {"weight": torch.ones(1000)}}, last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert {path: path.read_bytes() for path in last.parent.iterdir()} == before


def test_the_directory_for_temporary_files_does_not_matter(
    last: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    write_checkpoint({"global_step": 3, "state_dict": {}}, last)
    assert load_checkpoint(tmp_path, "last")["global_step"] == 3


def test_read_while_it_is_written(last: Path, tmp_path: Path) -> None:
    best, stop = checkpoint_path(tmp_path, "best"), threading.Event()
    write_checkpoint({"global_step": 0, "state_dict": {}}, best)

    def write() -> None:
        step = 1
        while not stop.is_set():
            write_checkpoint(
                {"global_step": step, "state_dict": {"weight": torch.full((1000,), float(step))}},
                best,
            )
            step += 1

    writer = threading.Thread(target=write)
    writer.start()
    steps = [0]
    while writer.is_alive() and (len(steps) < 50 or not steps[-1]):
        steps.append(load_checkpoint(tmp_path, "best")["global_step"])
    stop.set()
    writer.join()
    assert steps == sorted(steps) and steps[-1] > 0


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "canary",)

    write_checkpoint({"canary": Canary()}, checkpoint_path(tmp_path, "best"))
    with pytest.raises(ConfigError, match="damaged, or not a checkpoint"):
        load_checkpoint(tmp_path, "best")
    assert not (tmp_path / "canary").exists()


def test_weights_that_export_did_not_write_are_named(tmp_path: Path) -> None:
    """A clone without Git LFS, and weights that another program has converted."""
    weights = tmp_path / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ConfigError, match=r"model.safetensors: this is a pointer of Git LFS"):
        load_checkpoint(tmp_path, "best")
    save_file({"a": torch.zeros(1)}, weights)
    with pytest.raises(
        ConfigError, match=r"has no tied and no step: another program has saved it"
    ):
        load_checkpoint(tmp_path, "best")


def test_a_later_validation_is_selected_within_the_margin_of_the_best() -> None:
    assert is_selected(0.0, None, 1.0)
    assert is_selected(3.0, 2.0, 1.0) and is_selected(1.0, 2.0, 1.0)
    assert not is_selected(0.9, 2.0, 1.0)
    assert is_selected(2.0, 2.0, 0.0) and not is_selected(1.9, 2.0, 0.0)
