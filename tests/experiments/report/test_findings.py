from pathlib import Path

import numpy as np
import pytest

from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.grid import load_grid
from headcount.experiments.report.findings import (
    describe_findings,
    describe_method,
    describe_state,
    setting_name,
)
from headcount.experiments.report.study import read_study
from tests.experiments.studies import HEADS, write_study, write_values

THREE = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8, 16]")
EVEN = np.tile([1.0, -1.0], 20)[:, None]


def study_of(rouge1: dict[int, float], *, seeds: str = "[0, 1, 2]"):  # type: ignore[no-untyped-def]
    """Write and read a study.

    The mean ROUGE-1 of each number of heads; seeds and examples differ a little.
    """
    cells = write_study(
        Path("study"),
        lambda cell: 0,
        grid=THREE.replace("[0, 1, 2]", seeds),
        keep=lambda cell: False,
    )
    for cell in cells:
        heads = cell.axes["model.num_heads"]
        if heads in rouge1:
            wobble = 0.0 if heads == 8 else 0.1 * (cell.seed - 1)
            values = np.repeat(
                rouge1[heads] + wobble + EVEN * (heads == 8), len(EXAMPLE_METRICS), axis=1
            )
            write_values(cell, values)
    return read_study(load_grid(Path("study")), cells)


def test_findings_follow_from_the_figures(tmp_path: Path) -> None:
    said = describe_findings(study_of({1: 20, 8: 24, 16: 24.1}))
    effects = "-4.00 R1 [-4.37, -3.63], -4.00 R2 [-4.37, -3.63], -4.00 RL [-4.37, -3.63]"
    assert said[0] == "Significantly different from 8 heads: 1 head of 2 settings compared."
    assert said[1].startswith(
        f"- 1 head: {effects}: significantly lower R1 (p 0.001), R2 (p 0.001) and RL (p "
    )
    assert said[2].startswith("- 16 heads: +0.10 R1 [-0.27, +0.47], ")
    assert ": no significant difference; the study could have seen 0." in said[2]
    assert said[3] == "All means lie above those of lead-1, longest-1 and random-1."


def test_what_does_not_pass_a_baseline_is_named(tmp_path: Path) -> None:
    said = describe_findings(study_of({1: 16, 8: 24}))[-1]
    assert said.startswith(
        "All means lie above those of lead-1, longest-1 and random-1, but for 1 head in R1 "
        "(lead-1)"
    )
    assert "8 heads" not in said and "oracle" not in said


def test_one_seed_says_that_it_is_one(tmp_path: Path) -> None:
    study = study_of({1: 20, 8: 24}, seeds="[2]")
    assert describe_findings(study)[1].startswith(
        "- 1 head (about other documents, not other seeds): -3.90 R1 ["
    )
    assert (
        "seed 2: with the 95 % interval about other documents alone; in"
        in describe_method(study)[0]
    )


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    study = study_of({1: 20})
    assert describe_findings(study) == [
        "All means lie above those of lead-1, longest-1 and random-1."
    ]
    cells = [cell for cell, _ in study.unfinished]
    cells[1].folder.mkdir()
    cells[5].folder.with_name(f"{cells[5].folder.name}.failed").write_text("1\n")
    said = describe_state(
        read_study(study.grid, [*(result.cell for result in study.results), *cells])
    )
    assert said[0] == "Half-finished: 3 of 9 trainings are finished."
    assert said[1:3] == [
        "- num_heads=8,seed=0: not started",
        "- num_heads=8,seed=1: started, not finished",
    ]
    assert said[6] == f"- num_heads=16,seed=2: FAILED, see {cells[5].log}"
    assert (
        said[7]
        == "- Nothing can be compared yet: the baseline num_heads=8 has no finished training."
    )
    assert describe_state(study_of({1: 20, 8: 20, 16: 20})) == []


def test_the_method_says_how_to_read_it(tmp_path: Path) -> None:
    study = study_of({1: 20, 8: 24, 16: 24})
    said = "\n".join(describe_method(study))
    for text in (
        "40 test examples, seed 0, 1 and 2",
        "`rouge|made:up`",
        "minus 8 heads",
        "all 6 comparisons (Holm)",
    ):
        assert text in said
    for text in (
        "`fixed_width`",
        "measured on cpu",
        "held by the process",
        "`runs/study/*/predictions.jsonl`",
    ):
        assert text in said


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("num_heads=16", "16 heads"),
        ("num_heads=1", "1 head"),
        ("num_kv_heads=4", "4 kv heads"),
        ("num_heads=1,copying=true", "num_heads=1,copying=true"),
        ("gpt", "gpt"),
    ],
)
def test_names(label: str, name: str) -> None:
    class Cell:
        pass

    cell = Cell()
    cell.label = label  # type: ignore[attr-defined]
    assert setting_name(cell) == name  # type: ignore[arg-type]
