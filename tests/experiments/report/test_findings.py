import json
from pathlib import Path

import numpy as np
import pytest

from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.grid import load_grid
from headcount.experiments.report.findings import (
    describe_costs,
    describe_findings,
    describe_method,
    describe_scores,
    describe_state,
    setting_name,
)
from headcount.experiments.report.study import read_study
from tests.experiments.studies import HEADS, write_study, write_values

THREE = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8, 16]")
EVEN = np.tile([1.0, -1.0], 20)[:, None]


def study_of(rouge1: dict[int, float], *, seeds: str = "[0, 1, 2]", more: str = ""):
    """Write and read a study.

    The mean ROUGE-1 of each number of heads; seeds and examples differ a little.
    """
    cells = write_study(
        Path("study"),
        lambda cell: 0,
        grid=THREE.replace("[0, 1, 2]", seeds) + more,
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
    message = describe_findings(study_of({1: 20, 8: 24, 16: 24.1}))
    effects = "-4.00 R1 [-4.37, -3.63], -4.00 R2 [-4.37, -3.63], -4.00 RL [-4.37, -3.63]"
    assert message[0] == "1 of 2 settings compared differs significantly from 8 heads: 1 head."
    assert message[1].startswith(
        f"- 1 head: {effects}: worse in R1 (p 0.001), R2 (p 0.001) and RL (p "
    )
    assert message[2].startswith("- 16 heads: +0.10 R1 [-0.27, +0.47], ")
    assert ": undecided in R1, R2 and RL (more than 50 seeds would decide); smallest" in message[2]
    assert message[3] == "All means lie above those of lead-1, longest-1 and random-1."


def test_what_does_not_pass_a_baseline_is_named(tmp_path: Path) -> None:
    first, *_, message = describe_findings(study_of({1: 16, 8: 24}))
    assert first == "1 of 1 setting compared differs significantly from 8 heads: 1 head."
    assert message == (
        "4 of 6 means lie above those of all of lead-1, longest-1 and random-1; not above: "
        "1 head (lead-1 in R1 and RL)."
    )
    assert "8 heads" not in message and "oracle" not in message


def test_what_lies_above_the_baselines_is_true_of_every_mean(tmp_path: Path) -> None:
    """A long list of exceptions is no sentence."""
    assert describe_findings(study_of({1: 1, 8: 1}))[-1] == (
        "No mean lies above that of lead-1, longest-1 or random-1."
    )
    assert describe_findings(study_of({1: 16, 8: 14}))[-1] == (
        "2 of 6 means lie above those of all of lead-1, longest-1 and random-1; not above: 1 head "
        "(lead-1 in R1 and RL) and 8 heads (lead-1 in R1 and RL, longest-1 in R1, random-1 in R1)."
    )


def test_equivalence_is_said_with_its_margin(tmp_path: Path) -> None:
    study = study_of({1: 20, 8: 24, 16: 24.3}, more="margin: {rougeL: 1.5}\n")
    message = describe_findings(study)
    assert "worse in R1 (p 0.00" in message[1] and "equal" not in message[1]
    assert "equal within the margin of 1.5 in RL (p 0.0" in message[2]
    assert "undecided in R1 and R2 (" in message[2]
    method = "\n".join(describe_method(study))
    assert "smaller than the margin of 1.5 RL (two one-sided tests, corrected for 2 comp" in method


def test_a_difference_that_is_significant_but_within_the_margin_does_not_matter(
    tmp_path: Path,
) -> None:
    study = study_of({1: 25, 8: 24}, more="margin: {rougeL: 4}\n")
    assert study.settings[0].comparisons["rougeL"].is_significant
    message = describe_findings(study)[1]
    assert "equal within the margin of 4 in RL (p < 0.001; higher, p 0.0" in message


def test_wall_times_are_called_comparable_only_where_that_was_measured(tmp_path: Path) -> None:
    """The reasons are in test_environments.py."""
    study = study_of({1: 20, 8: 24})
    message = "\n".join(describe_costs(study))
    assert message.endswith(
        "*: wall times, which are not comparable between settings: the seeds of a setting differ "
        "by up to 14% in decoding."
    )
    assert "other work" not in message
    for result in study.results:
        costs = result.cell.folder / "costs.json"
        edited = json.loads(costs.read_text()) | {"decode_ms_per_summary": 15}
        costs.write_text(json.dumps(edited))
    study = read_study(study.grid, [result.cell for result in study.results])
    message = "\n".join(describe_costs(study))
    assert "not comparable" not in message
    assert "measured on one kind of processor" in message and "at most 10%" in message


def test_cells_of_different_environments_are_a_finding(tmp_path: Path) -> None:
    study = study_of({1: 20, 8: 24})
    assert not any("environment" in line for line in describe_findings(study))
    path = study.results[0].cell.folder / "environment.json"
    path.write_text(path.read_text().replace("2.12.0", "2.11.0"))
    study = read_study(study.grid, [result.cell for result in study.results])
    assert describe_findings(study)[-1] == (
        "The trainings ran in environments that differ in torch (2.11.0: 1 training; "
        "2.12.0: 5 trainings)."
    )


def test_the_caption_of_a_table_describes_what_is_in_it(tmp_path: Path) -> None:
    study = study_of({1: 20, 8: 24, 16: 24.1})
    assert not any("detectable" in line for line in describe_scores(study))
    assert sum("Smallest detectable: " in line for line in describe_method(study)) == 1
    assert any("smallest detectable" in line for line in describe_findings(study))


def test_two_seeds_are_said_to_be_too_few(tmp_path: Path) -> None:
    """Also where a study is half-finished, and only two are common."""
    study = study_of({1: 20, 8: 24}, seeds="[0, 2]")
    first, second, *_ = describe_findings(study)
    assert first == "0 of 1 setting compared differ significantly from 8 heads."
    assert second.startswith("- 1 head (from two seeds): -4.00 R1 [")
    marked = "† from two seeds: too few for these error rates."
    assert sum(marked in line for line in describe_scores(study)) == 1
    full = study_of({1: 4, 8: 24})
    assert "†" not in "\n".join([*describe_method(full), *describe_findings(full)])

    study = read_study(full.grid, [full.cells[0], full.cells[2], *full.cells[3:]])
    assert describe_findings(study)[0].endswith("8 heads: 1 head (from two seeds).")
    assert sum(marked in line for line in describe_scores(study)) == 1


def test_one_seed_is_marked_too(tmp_path: Path) -> None:
    study = study_of({1: 20, 8: 24}, seeds="[2]")
    text = "\n".join(describe_scores(study))
    assert "† one seed: p and verdict are about other documents only" in text
    assert "otherwise undecided." in text  # no plan for other seeds


def test_one_seed_says_that_it_is_one(tmp_path: Path) -> None:
    study = study_of({1: 20, 8: 24}, seeds="[2]")
    assert describe_findings(study)[1].startswith(
        "- 1 head (one seed: about other documents only): -3.90 R1 ["
    )
    assert (
        "seed 2: with the 95 % interval about other documents alone." in describe_method(study)[0]
    )


def test_the_caption_names_the_planned_comparisons(tmp_path: Path) -> None:
    """Also those of settings that have no results yet."""
    margin = "margin: {rougeL: 1.5}\n"
    text = "\n".join(describe_scores(study_of({1: 20, 8: 24}, more=margin)))
    assert (
        "corrected for all 6 comparisons (Holm; those without scores yet count as p = 1)" in text
    )
    assert "(two one-sided tests, corrected for 2 comparisons)" in text
    text = "\n".join(describe_scores(study_of({1: 20, 8: 24, 16: 24}, more=margin)))
    assert "corrected for all 6 comparisons (Holm), intervals not." in text


def test_one_comparison_is_singular(tmp_path: Path) -> None:
    grid = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8]") + "margin: {rougeL: 1.5}\n"
    cells = write_study(Path("study"), lambda cell: 20, grid=grid)
    text = "\n".join(describe_scores(read_study(load_grid(Path("study")), cells)))
    assert "(two one-sided tests, corrected for 1 comparison)" in text


def test_the_caption_says_which_seeds_are_compared(tmp_path: Path) -> None:
    full = study_of({1: 20, 8: 24, 16: 24}, seeds="[0, 1, 2, 3]")
    assert "seed 0, 1, 2 and 3: mean over seeds" in describe_scores(full)[0]
    assert "paired by seed and example; p two-sided" in describe_scores(full)[1]

    study = read_study(full.grid, [*full.cells[:3], *full.cells[4:]])
    means, differences, *_ = describe_scores(study)
    assert "seed 0, 1, 2 and 3, or those that a row names: mean over seeds" in means
    assert "paired by seed and example, of the seeds that both have; p two-sided" in differences


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    study = study_of({1: 20})
    assert describe_findings(study) == [
        "All means lie above those of lead-1, longest-1 and random-1."
    ]
    cells = [cell for cell, _ in study.unfinished]
    cells[1].folder.mkdir()
    cells[5].folder.with_name(f"{cells[5].folder.name}.failed").write_text("1\n")
    message = describe_state(
        read_study(study.grid, [*(result.cell for result in study.results), *cells])
    )
    assert message[0] == "Half-finished: 3 of 9 trainings are finished."
    assert message[1:3] == [
        "- num_heads=8,seed=0: not started",
        "- num_heads=8,seed=1: started, not finished",
    ]
    assert message[6] == f"- num_heads=16,seed=2: FAILED, see {cells[5].log}"
    assert (
        message[7]
        == "- Nothing can be compared yet: the reference cell num_heads=8 has no finished training."
    )
    assert describe_state(study_of({1: 20, 8: 20, 16: 20})) == []


def test_the_scores_that_selected_a_value_are_reported(tmp_path: Path) -> None:
    select = "select: {over: {optimizer.learning_rate: [0.1, 0.2]}, by: validation/rougeL}\n"
    missing = "num_heads=1,learning_rate=0.2,seed=2"
    cells = write_study(
        Path("study"),
        lambda cell: 20,
        grid=THREE.replace("1, 8, 16", "1, 8") + select,
        keep=lambda cell: cell.name != missing,
    )
    for cell in cells:
        score = 100 * cell.choice["optimizer.learning_rate"] + cell.seed
        if cell.folder.exists():
            (cell.folder / "metrics.csv").write_text(
                f"step,validation/rougeL,validation/loss\n1,{score},2\n"
            )
    found = describe_findings(read_study(load_grid(Path("study")), cells))
    first = found.index(
        "optimizer.learning_rate is selected by the mean validation/rougeL over seeds:"
    )
    assert found[first + 1 : first + 3] == [
        "- 1 head: 0.1 (11.00); not selected: 0.2 (20.50, 2 of 3 seeds).",
        "- 8 heads: 0.2 (21.00); not selected: 0.1 (11.00).",
    ]


def test_what_an_overlay_changes_is_reported(tmp_path: Path) -> None:
    """The name of its file does not say it."""
    Path("four.yaml").write_text("model: {num_heads: 4}\noptimizer: {learning_rate: 0.005}\n")
    Path("eight.yaml").write_text("model: {num_heads: 8}\n")
    grid = HEADS.replace("model.num_heads: [1, 2, 4, 8, 16]", "configs: [four.yaml, eight.yaml]")
    grid = grid.replace("{model.num_heads: 8}", "{configs: eight.yaml}")
    grid += "varied_together: [model.num_heads, optimizer.learning_rate]\n"
    cells = write_study(Path("study"), lambda cell: 20, grid=grid)
    lines = describe_method(read_study(load_grid(Path("study")), cells))
    assert "Unlike eight: four has model.num_heads=4 and optimizer.learning_rate=0.005." in lines
    together = "model.num_heads and optimizer.learning_rate are varied together: this study cannot"
    assert any(line.startswith(together) for line in lines)


def test_the_method_says_how_to_read_it(tmp_path: Path) -> None:
    study = study_of({1: 20, 8: 24, 16: 24})
    message = "\n".join(describe_method(study))
    for text in (
        "40 test examples, seed 0, 1 and 2",
        "`rouge|made:up`",
        "minus 8 heads",
        "all 6 comparisons (Holm)",
    ):
        assert text in message
    for text in (
        "`fixed_width`",
        "measured on cpu",
        "held by the process",
        "`runs/study/*/predictions.jsonl`",
    ):
        assert text in message


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
    cell.label = label
    assert setting_name(cell) == name
