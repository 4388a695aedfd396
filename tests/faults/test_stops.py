"""A run that is stopped anywhere comes to the same as one that is not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headcount.data.loader import TrainingLoader
from headcount.watchdog import STOP_SIGNALS
from tests.faults.forks import KILLED, PLACES, STEPS, Forks, at_first, overrides, train
from tests.training.stopping import assert_same

pytestmark = pytest.mark.faults
SAME = "the same command resumes; weights, metrics and summaries are the same to the last bit"
EPOCHS = ["trainer.max_steps=-1", "trainer.max_epochs=2"]
WAYS = {
    "one process": (1, []),
    "two workers": (1, ["data.num_workers=2"]),
    "two processes": (2, ["trainer.devices=2"]),
    "two batches per step": (1, ["trainer.accumulate_grad_batches=2", "trainer.max_steps=7"]),
    "averaged weights": (1, ["optimizer.ema_decay=0.9"]),
    "length pools": (1, ["data.length_pools=2"]),
    "a budget of epochs": (1, EPOCHS),
    "a budget of epochs, validated within and after each": (
        1,
        [*EPOCHS, "trainer.val_check_interval=0.5", "trainer.check_val_every_n_epoch=1"],
    ),
    "a budget of epochs, two processes": (
        2,
        ["trainer.devices=2", "trainer.max_steps=-1", "trainer.max_epochs=4"],
    ),
    "a budget of epochs, at least one, and of time": (
        1,
        [*EPOCHS, "trainer.min_epochs=1", "trainer.max_time=00:01:00:00"],
    ),
    "a budget of steps, at least three, and of time": (
        1,
        ["trainer.min_steps=3", "trainer.max_time=00:01:00:00"],
    ),
    "a stream": (1, ["data.streaming=true", "data.shuffle_buffer=8"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_killed_at_every_step_of_two_epochs(
    way: str, forks: Forks, fault, some, tmp_path: Path
) -> None:
    processes, changes = WAYS[way]
    forks.train("whole", *changes, processes=processes)
    for step in some(range(STEPS // 2 if "accumulate" in str(changes) else STEPS)):
        codes = forks.stop("cut", step, PLACES[1], signal.SIGKILL, *changes, processes=processes)
        assert codes == [KILLED] * processes, step
        forks.train("cut", *changes, processes=processes)
        assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        fault(f"kill -9 at each step of two epochs, {way}", SAME)


def forget_position(arguments: list[str]) -> None:
    """Train with a restore that is broken on purpose: the position in the data is forgotten."""
    TrainingLoader.load_state_dict = lambda *_: None
    train(arguments)


def test_the_comparison_notices_a_broken_restore(forks: Forks, fault, tmp_path: Path) -> None:
    """The negative control of all the rows above."""
    forks.train("whole")
    for step in (4, 5, 8):
        assert forks.stop("cut", step, PLACES[1], signal.SIGKILL) == [KILLED]
        assert forks.run(forget_position, overrides("cut")) == [0]
        with pytest.raises(AssertionError):
            assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        fault(
            "negative control: a resume that forgets its position",
            "the comparison of the rows above fails",
        )


def test_signals_at_random_steps(forks: Forks, fault, some, tmp_path: Path) -> None:
    forks.train("whole")
    draw = random.Random(0)
    cases = [(draw.choice(PLACES), draw.randrange(STEPS), STOP_SIGNALS[n % 4]) for n in range(50)]
    for place, step, number in some(cases):
        step += place == PLACES[2]  # by then it is counted
        step = max(3, step - step % 3) if place == PLACES[3] else step  # where a validation is
        assert forks.stop("cut", step, place, number) == [128 + number], (place, step)
        assert not (tmp_path / "cut" / "finished").exists()
        forks.train("cut")
        assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        fault(
            f"{number.name} at a random step",
            f"exit {128 + number}, with a checkpoint at that step; {SAME}",
        )


def test_signals_of_two_processes(forks: Forks, fault, some, tmp_path: Path) -> None:
    forks.train("whole", "trainer.devices=2", processes=2)
    for step in some([0, 5, 8, 13]):
        arguments = overrides("cut", "trainer.devices=2")
        assert forks.run(at_first, arguments, step, PLACES[1], signal.SIGTERM, processes=2) == [
            143,
            143,
        ]
        forks.train("cut", "trainer.devices=2", processes=2)
        assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        fault("SIGTERM to one of two processes", f"both exit 143 after the same step; {SAME}")


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def children_of(number: int) -> list[int]:
    return list(map(int, Path(f"/proc/{number}/task/{number}/children").read_text().split()))


def test_the_first_of_two_processes_is_killed_while_they_start(
    forks: Forks, fault, some, tmp_path: Path
) -> None:
    """The second one would wait half an hour for it."""
    (tmp_path / "empty.yaml").write_text("{}")
    command = [
        sys.executable,
        "-m",
        "headcount",
        "train",
        "empty.yaml",
        *overrides("cut", "trainer.devices=2"),
    ]
    for delay in some([0.0, 1.0, 3.0]):
        with open("output", "w") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True
            )
        while not (second := children_of(process.pid)):
            assert process.poll() is None, Path("output").read_text()
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while any(map(is_alive, second)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(is_alive, second))
        fault(
            "kill -9 of the first of two processes while they start",
            "the other ends within seconds",
        )


@pytest.mark.parametrize(("devices", "workers"), [(1, 0), (1, 2), (2, 0)])
def test_signals_to_a_command(
    devices: int, workers: int, forks: Forks, fault, some, tmp_path: Path
) -> None:
    """As a user starts it, with the second process started by the first.

    A scheduler signals the whole group.
    """
    changes = f"trainer.devices={devices}", "trainer.max_steps=100", f"data.num_workers={workers}"
    forks.train("whole", *changes, processes=devices)
    (tmp_path / "empty.yaml").write_text("{}")
    command = [
        sys.executable,
        "-m",
        "headcount",
        "train",
        "empty.yaml",
        *overrides("cut", *changes),
    ]
    tries = [*STOP_SIGNALS, *[signal.SIGTERM] * (6 if workers else 0)]
    for number in some(tries):
        with open("output", "w") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True
            )
        while not (tmp_path / "cut" / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, Path("output").read_text()
            time.sleep(0.01)
        os.killpg(process.pid, number)
        assert process.wait(60) == 128 + number, Path("output").read_text()
        assert "Traceback" not in Path("output").read_text()
        forks.train("cut", *changes, processes=devices)
        assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        name = (
            f"{number.name} to the command's whole group, {devices} process{'es' * (devices > 1)}"
        )
        name += f", {workers} workers" if workers else ""
        fault(name, f"exit {128 + number}, no traceback; {SAME}")


def test_same_seed_same_weights(forks: Forks, fault, some, tmp_path: Path) -> None:
    forks.train("whole")
    for again in some(range(3)):
        forks.train(f"again-{again}")
        assert_same(tmp_path / "whole", tmp_path / f"again-{again}")
        fault("same config and seed again", "the same weights, metrics and summaries")
    for workers in some([1, 2, 3]):
        forks.train(f"workers-{workers}", f"data.num_workers={workers}")
        assert_same(tmp_path / "whole", tmp_path / f"workers-{workers}")
        fault("another number of workers", "the same weights, metrics and summaries")
