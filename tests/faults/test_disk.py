"""A full disk, a damaged checkpoint, a reader beside the writer.

Nothing is lost, and nothing half-made is used.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Callback

from headcount import cli
from headcount.errors import RunError
from headcount.runs.checkpoint import checkpoint_path, last_good_checkpoint, load_checkpoint
from tests.faults.forks import PLACES, Do, Forks, kill, overrides, train
from tests.training.stopping import assert_same

pytestmark = pytest.mark.faults
ROOM = 4 * 2**20  # bytes of the small disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, left: int) -> None:
    with (disk / "ballast").open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - left)))


def _until_full(arguments: list[str], step: int, disk: Path, left: int, said: Path) -> None:
    try:
        train(arguments, Do(step, PLACES[1], lambda: fill(disk, left)))
    except RunError as error:
        said.write_text(str(error))
        raise SystemExit(1) from None


def test_the_disk_is_full_in_the_middle_of_a_save(
    forks: Forks, fault, some, disk: Path, tmp_path: Path
) -> None:
    forks.train("whole")
    for step, left in some(
        [(step, left) for step in (5, 8, 11, 13) for left in (8_192, 40_960, 200_000, 350_000)]
    ):
        cut, said = disk / "cut", tmp_path / "said"
        assert forks.run(_until_full, overrides(str(cut)), step, disk, left, said) == [1]
        assert (
            "ckpt: cannot be written (" in said.read_text()
            and "bytes are free on its disk" in said.read_text()
        )
        good = last_good_checkpoint(cut)
        assert good is not None and good[0].name == "last.ckpt" and good[1] == step - step % 3
        kept = {path.name.removesuffix(".sha256") for path in (cut / "checkpoints").iterdir()}
        assert kept <= {"best.ckpt", "last.ckpt", "previous.ckpt"}
        (disk / "ballast").unlink()
        forks.train(cut)
        assert_same(tmp_path / "whole", cut)
        shutil.rmtree(cut)
        fault(
            "the disk is full in the middle of a save",
            "exit 1, one line with path and free space; the one before is whole, nothing "
            "half-made is left; with "
            "room again the same command goes on to the same end",
        )


def _elsewhere(arguments: list[str], folder: str) -> None:
    os.environ["TMPDIR"] = folder
    train(arguments)


def test_temporary_files_are_on_another_disk_which_is_full(
    forks: Forks, fault, disk: Path, tmp_path: Path
) -> None:
    forks.train("whole")
    fill(disk, 0)
    assert forks.run(_elsewhere, overrides("cut"), str(disk)) == [0]
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert [path.name for path in disk.iterdir()] == ["ballast"]
    fault(
        "TMPDIR is on another file system, and full",
        "the run finishes; checkpoints are written beside their place",
    )


def damages(whole: bytes) -> dict[str, list[bytes]]:
    draw, size = random.Random(0), len(whole)
    flipped = []
    for bit in draw.sample(range(8 * size), 50):
        copy = bytearray(whole)
        copy[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(copy))
    return {
        "truncated": [whole[: size * part // 20] for part in range(1, 20)] + [whole[:-1]],
        "empty": [b""],
        "replaced by random bytes": [draw.randbytes(size), draw.randbytes(100)],
        "changed in one bit": flipped,
    }


def test_a_checkpoint_is_damaged(forks: Forks, fault, some, tmp_path: Path, capsys) -> None:
    forks.train("whole")
    assert forks.stop("stopped", 8, PLACES[1], signal.SIGKILL) == [-signal.SIGKILL]
    cut = tmp_path / "cut"
    for kind, cases in damages(checkpoint_path(tmp_path / "stopped", "last").read_bytes()).items():
        for number, damage in enumerate(some(cases)):
            shutil.copytree("stopped", cut)
            checkpoint_path(cut, "last").write_bytes(damage)
            if number:  # the first of each kind goes all the way
                found = last_good_checkpoint(cut)
                assert found is not None and found[0].name == "previous.ckpt" and found[1] == 3
                assert f"{checkpoint_path(cut, 'last')}: damaged" in capsys.readouterr().out
            else:
                forks.train("cut")
                assert_same(tmp_path / "whole", cut)
            shutil.rmtree(cut)
            fault(
                f"a checkpoint is {kind}",
                "it is named and put aside; the run goes on from the one before it",
            )


class Rewrite(Callback):
    """Writes best.ckpt at each step."""

    def on_train_batch_end(self, trainer, *_: object) -> None:
        trainer.save_checkpoint(checkpoint_path(Path("live"), "best"))


def _rewrite(arguments: list[str]) -> None:
    train(arguments, Rewrite())


def test_summaries_are_asked_of_a_run_that_is_training(
    forks: Forks, fault, some, tmp_path: Path, capsys
) -> None:
    changes = "trainer.max_steps=1000000", "trainer.val_check_interval=1000000"
    live = forks.start(_rewrite, overrides("live", *changes))
    (tmp_path / "in.txt").write_text("Ada: Good day.\nBen: I would like a pear.\n")
    try:
        while not checkpoint_path(tmp_path / "live", "best").exists():
            assert live.is_alive()
            time.sleep(0.01)
        steps = []
        for _ in some(range(50)):
            capsys.readouterr()
            cli.app(["summarize", "live", "in.txt"], standalone_mode=False)
            assert capsys.readouterr().out.count("\n") == 2
            steps.append(load_checkpoint(tmp_path / "live", "best")["global_step"])
            fault(
                "summaries are asked of a run that saves at every step",
                "they are written; no partial file is read",
            )
        assert live.is_alive() and steps == sorted(steps) and len(set(steps)) > len(steps) // 2
    finally:
        live.kill()
        live.join()


def _killed_at(arguments: list[str], count: int) -> None:
    from headcount.runs import checkpoint

    class Dying(checkpoint._Summing):
        left = count

        def write(self, data: bytes) -> int:
            Dying.left -= 1
            if not Dying.left:
                kill(signal.SIGKILL)
            return super().write(data)

    checkpoint._Summing = Dying  # type: ignore[misc]
    train(arguments)


def test_killed_in_the_middle_of_a_save(forks: Forks, fault, some, tmp_path: Path) -> None:
    forks.train("whole")
    for count in some(range(50, 1050, 100)):
        assert forks.run(_killed_at, overrides("cut"), count) == [-signal.SIGKILL]
        forks.train("cut")
        assert_same(tmp_path / "whole", tmp_path / "cut")
        assert not [
            path
            for path in (tmp_path / "cut" / "checkpoints").iterdir()
            if path.name.startswith(".")
        ]
        shutil.rmtree("cut")
        fault(
            "kill -9 in the middle of a save",
            "the same command goes on from the checkpoint before; nothing is left",
        )
