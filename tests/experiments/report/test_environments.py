import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headcount.experiments.grid import load_grid
from headcount.experiments.report.environments import (
    count_hours,
    describe_differences,
    describe_environments,
    summarize_environments,
    why_times_are_not_comparable,
)
from headcount.experiments.report.study import Study, read_study
from headcount.experiments.report.tables import cost_table
from tests.experiments.studies import ENVIRONMENT, HEADS, write_study

TWO = HEADS.replace("[1, 2, 4, 8, 16]", "[4, 8]")
Edit = Callable[[Any, int], Any]


def study_of(
    *,
    costs: Edit = lambda value, _: value,
    environment: Edit = lambda value, _: value,
    grid: str = TWO,
) -> Study:
    """Write and read a study of two settings with three seeds; edits get the run's number.

    Without an edit all decode equally fast, in one environment.
    """
    cells = write_study(Path("study"), lambda cell: 20, grid=grid)
    for number, cell in enumerate(cells):
        path = cell.folder / "costs.json"
        steady = json.loads(path.read_text()) | {"decode_ms_per_summary": 15.0}
        path.write_text(json.dumps(costs(steady, number)))
        path = cell.folder / "environment.json"
        edited = environment(ENVIRONMENT, number)
        path.unlink() if edited is None else path.write_text(json.dumps(edited and [edited]))
    return read_study(load_grid(Path("study")), cells)


def edit_one(**changes: Any) -> Edit:
    return lambda value, number: value | changes if number == 4 else value


def test_the_environment_is_said_once(tmp_path: Path) -> None:
    study = study_of()
    first, second = describe_environments(study)
    assert first == (
        "Environment of 6 trainings: processor A CPU, device cpu, threads 2, processes 1, system "
        "Linux x86_64, python 3.12.3, headcount 0.1.0 (commit 0123456789ab), torch 2.12.0, "
        "numpy 2.4.0."
    )
    assert second == (
        "6 finished trainings: 0.50 hours of training, validation left out, 1.00 core-hours "
        "(hours x threads x processes); decoding of the test examples: 0.00 hours."
    )
    assert summarize_environments(study) == {
        "trainings": 6,
        "training_hours": 0.5008,
        "core_hours": 1.0017,
        "core_hours_trainings": 6,
        "decoding_hours": 0.0015,
        "environments": [{"trainings": 6, **ENVIRONMENT}],
        "environments_not_recorded": 0,
    }


def test_where_environments_differ_it_is_said_in_what(tmp_path: Path) -> None:
    other = {"processor": "B CPU", "packages": {"torch": "2.11.0", "numpy": "2.4.0"}}
    study = study_of(environment=edit_one(**other))
    [difference] = describe_differences(study)
    assert difference == (
        "The trainings ran in environments that differ in processor (A CPU: 5 trainings; B CPU: 1 "
        "training) and torch (2.12.0: 5 trainings; 2.11.0: 1 training)."
    )
    shared, hours = describe_environments(study)
    assert "processor" not in shared and "numpy 2.4.0" in shared and "hours" in hours
    counts = [each["trainings"] for each in summarize_environments(study)["environments"]]
    assert counts == [5, 1]


def test_a_training_in_two_environments_counts_in_both(tmp_path: Path) -> None:
    study = study_of()
    path = study.results[0].cell.folder / "environment.json"
    path.write_text(json.dumps([ENVIRONMENT | {"threads": 4}, ENVIRONMENT]))
    study = read_study(study.grid, study.cells)
    assert describe_differences(study) == [
        "The trainings ran in environments that differ in threads (2: 6 trainings; 4: 1 training)."
    ]
    assert count_hours(study)["core_hours"] == 1.0017


@pytest.mark.parametrize(
    ("forgotten", "message"),
    [
        (1, "The environment of 1 of 6 trainings is not recorded."),
        (6, "core-hours unknown as their environment is not recorded"),
    ],
)
def test_trainings_of_earlier_versions(forgotten: int, message: str, tmp_path: Path) -> None:
    study = study_of(environment=lambda value, number: None if number < forgotten else value)
    assert message in "\n".join([*describe_differences(study), *describe_environments(study)])
    assert bool(describe_differences(study)) == (forgotten < 6)


def test_gpus_have_hours_of_their_own(tmp_path: Path) -> None:
    study = study_of(environment=lambda value, _: value | {"device": "A GPU", "processes": 2})
    assert "1.00 GPU-hours (hours x GPUs)" in describe_environments(study)[1]


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ({"environment": edit_one(processor="B")}, "processors, devices or numbers of threads"),
        ({"environment": edit_one(threads=1)}, "processors, devices or numbers of threads differ"),
        ({"environment": lambda value, n: value if n else None}, "the processor of 1 training is"),
        ({"costs": edit_one(tokens_per_second=4991.7)}, "differ by up to 100% in tokens/s"),
        ({"costs": edit_one(decode_ms_per_summary=30)}, "differ by up to 100% in decoding"),
        ({"grid": TWO.replace("[0, 1, 2]", "[0]")}, "tokens/s of fewer than two seeds"),
    ],
)
def test_why_times_are_not_comparable(edits: dict[str, Any], reason: str, tmp_path: Path) -> None:
    study = study_of(**edits)
    reasons = why_times_are_not_comparable(study)
    assert reason in "; ".join(reasons)
    starred = [title for title in cost_table(study).columns if title.endswith("*")]
    assert starred == ["tokens/s*", "decoding, ms per summary*"]


def test_times_of_one_machine_that_agree_are_comparable(tmp_path: Path) -> None:
    study = study_of(environment=lambda value, number: value | {"python": f"3.{number}"})
    assert why_times_are_not_comparable(study) == []
    assert not any("*" in title for title in cost_table(study).columns)


def test_a_study_without_costs_has_no_times_to_compare(tmp_path: Path) -> None:
    study = study_of(costs=lambda value, _: {})
    assert why_times_are_not_comparable(study) == []


def test_a_part_that_only_some_trainings_have_is_not_shared(tmp_path: Path) -> None:
    """Earlier versions recorded fewer parts."""

    def forget(value: dict[str, Any], number: int) -> dict[str, Any]:
        if number >= 2:
            return value
        parts = {name: each for name, each in value.items() if name != "system"}
        return parts | {"packages": {"torch": "2.12.0"}}

    study = study_of(environment=forget)
    shared, _ = describe_environments(study)
    assert "Linux" not in shared and "numpy" not in shared and "torch 2.12.0" in shared
    assert describe_differences(study) == [
        "The trainings ran in environments that differ in system (not recorded: 2 trainings; "
        "Linux x86_64: 4 trainings) and numpy (not recorded: 2 trainings; 2.4.0: 4 trainings)."
    ]
