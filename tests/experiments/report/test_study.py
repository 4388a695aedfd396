import json
from pathlib import Path

import numpy as np
import pytest

from headcount.errors import ConfigError
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.cell import Cell
from headcount.experiments.grid import load_grid
from headcount.experiments.report.statistics import compare_family, estimate_mean
from headcount.experiments.report.study import Study, read_study
from headcount.runs.scores import read_results
from tests.experiments.studies import HEADS, write_run, write_study, write_values

TWO = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8]")
FOUR = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 2, 8, 16]").replace("[0, 1, 2]", "[0, 1]")
SELECT = (
    TWO.replace("[0, 1, 2]", "[0, 1]")
    + "select: {over: {optimizer.learning_rate: [0.1, 0.2]}, by: validation/rouge2}"
)


def read(cells) -> Study:
    return read_study(load_grid(Path("study")), cells)


def leave_without_reference(cell: Cell, name: str) -> None:
    """Remove the references of an example, which then has no score."""
    if not cell.folder.exists():
        return
    metrics = cell.folder / "per_example_metrics.csv"
    commas = "," * len(EXAMPLE_METRICS)
    lines = [line if f"{name}," not in line else f"{name}{commas}\n" for line in metrics.open()]
    metrics.write_text("".join(lines))
    predictions = cell.folder / "predictions.jsonl"
    lines = [line.replace('["b"]', "[]") if name in line else line for line in predictions.open()]
    predictions.write_text("".join(lines))


def test_settings_are_compared_on_the_seeds_and_examples_that_both_have(tmp_path: Path) -> None:
    cells = write_study(
        Path("study"),
        lambda cell: 20,
        grid=TWO,
        keep=lambda cell: "heads=1,seed=1" not in cell.name,
    )
    for cell in cells:
        leave_without_reference(cell, "test-7")
    study = read(cells)
    assert study.examples == 59 and [row.seeds for row in study.settings] == [[0, 2], [0, 1, 2]]
    column, ids = (
        EXAMPLE_METRICS.index("rouge2"),
        [f"test-{number}" for number in range(60) if number != 7],
    )

    def values(number: int) -> np.ndarray:
        scored = read_results(cells[number].folder)
        return scored.values[[scored.rows[name] for name in ids], column]

    mine, theirs = np.stack([values(0), values(2)]), np.stack([values(3), values(5)])
    found, [alone] = study.settings[0].comparisons["rouge2"], compare_family([(mine, theirs)])
    assert (found.difference, found.p) == (alone.difference, alone.p)
    assert study.settings[0].estimates["rouge2"] == estimate_mean(mine)
    assert study.reference_cell is study.settings[1] and not study.reference_cell.comparisons
    assert study.settings[1].estimates["rouge2"].seeds == 3
    assert [(cell.name, state) for cell, state in study.unfinished] == [
        ("num_heads=1,seed=1", "waiting")
    ]
    assert list(study.baselines) == [
        "lead-1",
        "longest-1",
        "random-1",
        "oracle-1",
    ]  # people had one reference each


def test_all_settings_and_metrics_are_one_family(tmp_path: Path) -> None:
    study = read(
        write_study(Path("study"), lambda cell: 20 + cell.axes["model.num_heads"] / 8, grid=FOUR)
    )
    found = sorted(
        (each for row in study.settings for each in row.comparisons.values()),
        key=lambda each: each.p,
    )
    assert len(found) == 9 and found[0].corrected_p == pytest.approx(min(1, 9 * found[0].p))


def test_the_family_of_a_half_finished_study_is_that_of_the_finished_one(tmp_path: Path) -> None:
    """Verdicts would be withdrawn later otherwise, though nothing in their trainings changed."""
    margin = "margin: {rougeL: 3, rouge1: 3}\n"
    cells = write_study(
        Path("study"),
        lambda cell: 20 + cell.axes["model.num_heads"] / 8,
        grid=FOUR + margin,
        keep=lambda cell: cell.axes["model.num_heads"] in (1, 8),
    )
    [setting] = [each for each in read(cells).settings if each.comparisons]
    found = sorted(setting.comparisons.values(), key=lambda each: each.p)
    assert len(found) == 3 and found[0].corrected_p == pytest.approx(min(1, 9 * found[0].p))
    equal = [each for each in found if each.equivalence_p is not None]
    first = min(equal, key=lambda each: each.equivalence_p)
    expected = min(1, 6 * first.equivalence_p)
    assert len(equal) == 2 and first.corrected_equivalence_p == pytest.approx(expected)


def test_one_seed_and_equal_scores_are_reported_as_such(tmp_path: Path) -> None:
    cells = write_study(
        Path("study"),
        lambda cell: 20,
        grid=TWO.replace("[0, 1, 2]", "[5]"),
        keep=lambda cell: False,
    )
    for cell in cells:
        write_values(cell, np.full((4, len(EXAMPLE_METRICS)), 7.0))
    row = read(cells).settings[0]
    assert row.estimates["rouge1"].sd is None
    found = row.comparisons["rouge1"]
    assert (found.difference.mean, found.difference.low, found.corrected_p, found.detectable) == (
        0,
        0,
        1,
        0,
    )


def test_an_inner_axis_is_chosen_by_the_validation_score_of_the_kept_checkpoint(
    tmp_path: Path,
) -> None:
    cells = write_study(Path("study"), lambda cell: 20, grid=SELECT)
    for cell in cells:
        kept, passed = (5, 9) if cell.choice["optimizer.learning_rate"] == 0.1 else (6, 1)
        # The latest rougeL within a point of the best one is kept.
        rows = f"0,10,{passed},,1\n1,,,0.5,\n2,20,{passed},,3\n3,19.5,{kept + cell.seed},,2\n4,8,0,,2\n"
        (cell.folder / "metrics.csv").write_text(
            f"step,validation/rougeL,validation/rouge2,train/loss,validation/loss\n{rows}"
        )
    study = read(cells)
    assert [row.cell.choice for row in study.settings] == 2 * [{"optimizer.learning_rate": 0.2}]
    assert [row.seeds for row in study.settings] == [[0, 1], [0, 1]] and len(study.results) == 8


def test_a_candidate_with_fewer_seeds_is_not_selected(tmp_path: Path) -> None:
    """Its mean may be the highest by chance."""
    missing = "learning_rate=0.2,seed=1"
    cells = write_study(
        Path("study"), lambda cell: 20, grid=SELECT, keep=lambda cell: missing not in cell.name
    )
    for cell in cells:
        if cell.folder.exists():
            score = cell.choice["optimizer.learning_rate"] + cell.seed
            (cell.folder / "metrics.csv").write_text(
                f"step,validation/rougeL,validation/rouge2,validation/loss\n1,1,{score},2\n"
            )
    setting = read(cells).settings[0]
    fewer = {"optimizer.learning_rate": 0.2}
    assert [each.scores for each in setting.candidates] == [[0.1, 1.1], [0.2]]
    assert [each.is_selected for each in setting.candidates] == [True, False]
    assert setting.candidates[1].choice == fewer and setting.candidates[1].trainings == 2
    assert setting.seeds == [0, 1]

    # With the seed that was missing it has the highest mean of as many.
    [last] = [cell for cell in cells if missing in cell.name and not cell.is_reference]
    write_run(last, 20)
    (last.folder / "metrics.csv").write_text(
        "step,validation/rougeL,validation/rouge2,validation/loss\n1,1,1.2,2\n"
    )
    assert read(cells).settings[0].cell.choice == fewer


def test_without_the_baseline_nothing_is_compared(tmp_path: Path) -> None:
    study = read(
        write_study(
            Path("study"), lambda cell: 20, grid=TWO, keep=lambda cell: not cell.is_reference
        )
    )
    assert (
        study.reference_cell is None
        and len(study.settings) == 1
        and not study.settings[0].comparisons
    )


def test_costs_are_means_over_the_seeds_that_have_them(tmp_path: Path) -> None:
    cells = write_study(Path("study"), lambda cell: 20, grid=TWO)
    (cells[1].folder / "costs.json").unlink()
    row = read(cells).settings[0]
    assert (
        row.cost("decode_ms_per_summary") == pytest.approx((14.2 + 16.2) / 2)
        and row.cost("unknown") is None
    )


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    cells = write_study(Path("study"), lambda cell: 20, grid=TWO, keep=lambda cell: False)
    with pytest.raises(
        ConfigError,
        match="study: no training of 6 is finished; legal: after headcount ablate study",
    ):
        read(cells)
    cells = write_study(Path("study"), lambda cell: 20, grid=TWO)
    scores = cells[3].folder / "scores.json"
    good = scores.read_text()
    scores.write_text(good.replace("made:up", "other"))
    with pytest.raises(
        ConfigError,
        match="num_heads=8,seed=0.* and .*num_heads=1,seed=0.* are scored differently, "
        "rouge.other and rouge.made:up; legal",
    ):
        read(cells)
    scores.write_text(good)
    for cell in cells:
        write_values(cell, np.full((1, len(EXAMPLE_METRICS)), 7.0))
    with pytest.raises(ConfigError, match="have 1 test examples with a score; legal: at least 2"):
        read(cells)


def test_cells_on_different_examples_are_rejected_by_name(tmp_path: Path) -> None:
    """Also where one of many has other references, or is missing in one."""
    cells = write_study(Path("study"), lambda cell: 20, grid=TWO)
    predictions = cells[3].folder / "predictions.jsonl"
    lines = predictions.read_text().splitlines(keepends=True)
    predictions.write_text(
        "".join(lines).replace(
            '"test-7", "summary": "a", "references": ["b"]',
            '"test-7", "summary": "a", "references": ["c"]',
        )
    )
    both = "num_heads=8,seed=0.* and .*num_heads=1,seed=0.* are scored on different examples"
    with pytest.raises(ConfigError, match=f"{both}: 1 of them, as test-7, are missing in one or"):
        read(cells)

    predictions.write_text("".join(line for line in lines if '"test-7"' not in line))
    metrics = cells[3].folder / "per_example_metrics.csv"
    rows = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(row for row in rows if not row.startswith("test-7,")))
    with pytest.raises(ConfigError, match=f"{both}: 1 of them, as test-7"):
        read(cells)


def test_cells_on_different_data_are_rejected_by_name(tmp_path: Path) -> None:
    """The same path may hold other data when a later cell is trained."""
    cells = write_study(Path("study"), lambda cell: 20, grid=TWO)
    for cell in cells:
        hashes = {role: {"sha256": role} for role in ("train", "validation", "test")}
        if cell is cells[4]:
            hashes["train"] = {"sha256": "other"}
        (cell.folder / "data.json").write_text(json.dumps(hashes))
    with pytest.raises(ConfigError, match="num_heads=8,seed=1.* have different data"):
        read(cells)
