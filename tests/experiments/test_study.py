"""A study of real trainings, launched by the command, killed and gone on with."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headcount.experiments.cell import Cell
from headcount.experiments.launch.local import read_state
from tests.experiments.launch.test_local import wait_until

COMMAND = [sys.executable, "-m", "headcount", "ablate", "study", "--workers", "2"]


def launch(where: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        COMMAND, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def scores(cells: list[Cell], where: Path) -> list[str]:
    return [(where / cell.folder / "per_example_metrics.csv").read_text() for cell in cells]


@pytest.mark.slow
def test_killed_and_started_twice_it_ends_as_if_undisturbed(
    small_study: list[Cell], tmp_path: Path
) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    for name in ("study", "a.yaml"):
        (undisturbed / name).symlink_to(tmp_path / name)
    done = launch(undisturbed)
    printed = done.communicate()[0]
    assert done.returncode == 0 and "study: 3 of 3 cells finished" in printed
    first = launch(tmp_path)
    metrics = small_study[0].folder / "metrics.csv"
    wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") > 2, seconds=120)
    first.kill()
    first.communicate()
    others = [launch(tmp_path), launch(tmp_path)]
    assert [other.communicate() and other.returncode for other in others] == [0, 0]
    assert scores(small_study, tmp_path) == scores(small_study, undisturbed)
    for cell in small_study:
        assert cell.log.read_text().count("training: ") == 1  # begun once, by whichever launch


@pytest.mark.slow
def test_a_killed_training_is_resumed_and_a_failing_one_is_named(
    small_study: list[Cell], tmp_path: Path
) -> None:
    broken = small_study[2]
    broken.folder.parent.mkdir(parents=True)
    broken.folder.write_text("in the way")
    first = launch(tmp_path)
    best = small_study[0].folder / "checkpoints" / "last.ckpt"
    wait_until(best.exists, seconds=120)
    first.send_signal(signal.SIGTERM)
    first.communicate()
    assert first.returncode == 143
    again = launch(tmp_path)
    printed = again.communicate()[0]
    assert again.returncode == 1 and [read_state(cell) for cell in small_study] == [
        "finished",
        "finished",
        "FAILED",
    ]
    assert f"{broken.name}: FAILED, see {broken.log}" in printed and "in the way" not in printed
    assert ": resumes from step" in " ".join(small_study[0].log.read_text().split())
    assert broken.log.read_text().startswith("error: ")
