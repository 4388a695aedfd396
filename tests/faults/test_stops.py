"""A run that is stopped anywhere comes to the same as one that is not."""

import random
import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.forks import KILLED, PLACES, STEPS, Forks
from tests.training.stopping import assert_same

pytestmark = pytest.mark.faults
SAME = "the same command goes on; weights, metrics and summaries are the same to the last bit"
WAYS = {
    "one process": (1, []),
    "two workers": (1, ["data.num_workers=2"]),
    "two processes": (2, ["trainer.devices=2"]),
    "two batches a step": (1, ["trainer.accumulate_grad_batches=2", "trainer.max_steps=7"]),
    "length pools": (1, ["data.length_pools=2"]),
    "a stream": (1, ["data.streaming=true", "data.shuffle_buffer=8"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_killed_at_every_step_of_two_epochs(way: str, forks: Forks, fault, some, tmp_path: Path) -> None:
    processes, changes = WAYS[way]
    forks.train("whole", *changes, processes=processes)
    for step in some(range(STEPS // 2 if "accumulate" in str(changes) else STEPS)):
        codes = forks.stop("cut", step, PLACES[1], signal.SIGKILL, *changes, processes=processes)
        assert codes == [KILLED] * processes, step
        forks.train("cut", *changes, processes=processes)
        assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        fault(f"kill -9 at each step of two epochs, {way}", SAME)


def test_signals_at_random_steps(forks: Forks, fault, some, tmp_path: Path) -> None:
    forks.train("whole")
    draw = random.Random(0)
    cases = [(draw.choice(PLACES), draw.randrange(STEPS), (signal.SIGTERM, signal.SIGINT)[n % 2]) for n in range(50)]
    for place, step, number in some(cases):
        step = max(3, step - step % 3) if place == PLACES[3] else step  # where a validation is
        assert forks.stop("cut", step, place, number) == [128 + number], (place, step)
        assert not (tmp_path / "cut" / "finished").exists()
        forks.train("cut")
        assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        fault(f"{number.name} at a random step", f"exit {128 + number}, with a checkpoint at that step; {SAME}")


def test_signals_of_two_processes(forks: Forks, fault, some, tmp_path: Path) -> None:
    forks.train("whole", "trainer.devices=2", processes=2)
    for step in some([0, 5, 8, 13]):
        codes = forks.stop("cut", step, PLACES[1], signal.SIGTERM, "trainer.devices=2", processes=2)
        assert codes == [143, 143]
        forks.train("cut", "trainer.devices=2", processes=2)
        assert_same(tmp_path / "whole", tmp_path / "cut")
        shutil.rmtree("cut")
        fault("SIGTERM to both of two processes", f"both exit 143; {SAME}")


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
