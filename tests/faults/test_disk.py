"""A full disk, a damaged checkpoint, a reader beside the writer.

Nothing is lost, and nothing half-made is used.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import Callback

from headcount import cli
from headcount.commands import train as run
from headcount.errors import ConfigError, RunError
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


def _until_full(arguments: list[str], step: int, disk: Path, left: int, message: Path) -> None:
    try:
        train(arguments, Do(step, PLACES[1], lambda: fill(disk, left)))
    except RunError as error:
        message.write_text(str(error))
        raise SystemExit(1) from None


def test_the_disk_is_full_in_the_middle_of_a_save(
    forks: Forks, fault, some, disk: Path, tmp_path: Path
) -> None:
    forks.train("whole")
    for step, left in some(
        [(step, left) for step in (5, 8, 11, 13) for left in (8_192, 40_960, 200_000, 350_000)]
    ):
        cut, message = disk / "cut", tmp_path / "message"
        assert forks.run(_until_full, overrides(str(cut)), step, disk, left, message) == [1]
        assert (
            "ckpt: cannot be written (" in message.read_text()
            and "bytes are free on its disk" in message.read_text()
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
            "room again the same command resumes to the same end",
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


def remount(folder: Path, *, writable: bool) -> None:
    """Lay a read-only view over a folder, or take it away."""
    commands = [["umount", str(folder)]]
    if not writable:
        commands = [
            ["mount", "--bind", str(folder), str(folder)],
            ["mount", "-o", "remount,bind,ro", str(folder)],
        ]
    for command in commands:
        subprocess.run(command, check=True)


def _spoil_at(arguments: list[str], when: str, spoil: Callable[[], None], message: Path) -> None:
    """Train, with a folder that is spoilt at the start, at a step, or when the summaries begin."""
    score_test = run.score_test

    def spoil_and_score(*given: Any) -> Any:
        spoil()
        return score_test(*given)

    callbacks = []
    if when == "at the start":
        spoil()
    elif when == "at a step":
        callbacks = [Do(7, PLACES[1], spoil)]
    else:
        run.score_test = spoil_and_score
    try:
        train(arguments, *callbacks)
    except (ConfigError, RunError) as error:
        message.write_text(str(error))
        raise SystemExit(2 if isinstance(error, ConfigError) else 1) from None


@pytest.mark.parametrize("kind", ["read-only", "full"])
def test_the_run_folder_becomes_read_only_or_full(
    kind: str, forks: Forks, fault, some, disk: Path, tmp_path: Path
) -> None:
    forks.train("whole")
    message = tmp_path / "message"
    for when in some(["at the start", "at a step", "when the summaries begin"]):
        spoil = (
            partial(fill, disk, 0) if kind == "full" else partial(remount, disk, writable=False)
        )
        [code] = forks.run(_spoil_at, overrides(str(disk / "cut")), when, spoil, message)
        assert code in (1, 2), when
        assert str(disk) in message.read_text() and "\n" not in message.read_text()
        if kind == "full":
            (disk / "ballast").unlink()
        else:
            remount(disk, writable=True)
        forks.train(disk / "cut")
        assert_same(tmp_path / "whole", disk / "cut")
        shutil.rmtree(disk / "cut")
        fault(
            f"the run folder becomes {kind} {when}",
            "one line with the file; afterwards the same command resumes to the same end",
        )


SMALL_SHARED_MEMORY = """
mount -t tmpfs -o size={size} none /dev/shm || exit 77
exec "$@"
"""


@pytest.mark.parametrize(
    ("size", "code", "happens"),
    [
        ("4k", 1, "exit 1, one line names /dev/shm; nothing waits"),
        ("512k", 0, "the run finishes; weights, metrics and summaries are the same"),
    ],
)
def test_shared_memory_is_full(
    size: str, code: int, happens: str, forks: Forks, fault, tmp_path: Path
) -> None:
    """The batches of loader workers would not fit; nor, in the smallest, would their semaphores."""
    forks.train("whole")
    (tmp_path / "empty.yaml").write_text("{}")
    script = SMALL_SHARED_MEMORY.format(size=size)
    command = ["unshare", "-m", "bash", "-c", script, "bash", sys.executable, "-m", "headcount"]
    arguments = ["train", "empty.yaml", *overrides("cut", "data.num_workers=2")]
    if shutil.which("unshare") is None:
        pytest.skip("a /dev/shm of its own cannot be mounted here")
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("a /dev/shm of its own cannot be mounted here")
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    if code:
        assert "data.num_workers=2: the workers cannot be started" in done.stderr
        assert "/dev/shm" in done.stderr and not (tmp_path / "cut").exists()
    else:
        assert_same(tmp_path / "whole", tmp_path / "cut")
    fault(f"/dev/shm of {size} with two loader workers", happens)


def _rename(arguments: list[str], step: int, old: Path, new: Path, number: int) -> None:
    def rename() -> None:
        old.rename(new)
        if number:
            kill(number)

    train(arguments, Do(step, PLACES[1], rename))


def test_a_run_folder_is_renamed_while_it_trains(
    forks: Forks, fault, some, tmp_path: Path
) -> None:
    forks.train("whole")
    old, new = tmp_path / "old", tmp_path / "new"
    for step, number in some([(step, n) for step in (2, 6, 11) for n in (0, signal.SIGTERM)]):
        codes = forks.run(_rename, overrides(str(old)), step, old, new, number)
        assert codes == [128 + number if number else 0]
        assert not old.exists()
        if number:
            forks.train(new)
        assert_same(tmp_path / "whole", new)
        shutil.rmtree(new)
        fault(
            "a run folder is renamed while its run trains" + ", then SIGTERM" * bool(number),
            "the run follows it; weights, metrics and summaries are the same to the last bit",
        )


def test_the_last_checkpoint_is_that_of_another_run(
    forks: Forks, fault, some, tmp_path: Path
) -> None:
    forks.train("whole")
    for change in some(["seed=1", "model.dropout=0.3", "optimizer.learning_rate=0.01"]):
        forks.train("other", change)
        assert forks.stop("cut", 8, PLACES[1], signal.SIGKILL) == [-signal.SIGKILL]
        for name in ("last.ckpt", "last.ckpt.sha256"):
            shutil.copy(Path("other/checkpoints") / name, Path("cut/checkpoints") / name)
        forks.train("cut")
        assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        shutil.rmtree("other")
        fault(
            "last.ckpt is that of another run, with its digest",
            "it is named and set aside; the run resumes from the one before it",
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
                "it is named and set aside; the run resumes from the one before it",
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

    class Dying(checkpoint._HashingFile):
        left = count

        def write(self, data: bytes) -> int:
            Dying.left -= 1
            if not Dying.left:
                kill(signal.SIGKILL)
            return super().write(data)

    checkpoint._HashingFile = Dying
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
            "the same command resumes from the checkpoint before; nothing is left",
        )
