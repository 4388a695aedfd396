"""Files of a finished training that were truncated, or edited by hand or by a spreadsheet."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from headcount.commands.ablate import ablate
from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.grid import load_grid
from headcount.experiments.report.results import read_result
from headcount.experiments.report.write import report
from headcount.runs.scores import read_results
from tests.experiments.studies import HEADS, write_study

ONE = HEADS.replace("[1, 2, 4, 8, 16]", "[8]").replace("[0, 1, 2]", "[0]")
SELECT = "select: {over: {optimizer.learning_rate: [0.1]}, by: validation/rougeL}"


def made(grid: str = ONE) -> Cell:
    [cell] = write_study(Path("study"), lambda cell: 20, grid=grid)
    return cell


def read(cell: Cell):
    return read_result(cell, load_grid(Path("study")))


def edit(**changes: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


def edit_model(**changes: object) -> Callable[[str], str]:
    def change(text: str) -> str:
        scores = json.loads(text)
        scores["systems"]["model"] |= changes
        return json.dumps(scores)

    return change


DAMAGE: list[tuple[str, Callable[[str], str], str]] = [
    ("scores.json", lambda text: text[: len(text) // 2], "damaged"),
    ("scores.json", lambda text: "", "damaged"),
    ("scores.json", lambda text: "[]", "damaged"),
    ("scores.json", lambda text: "[" * 100_000, "damaged"),
    ("scores.json", lambda text: "\0" * 100, "damaged"),
    ("scores.json", edit(step="100"), "step=100 is not a whole number"),
    ("scores.json", edit(systems=None), "damaged"),
    ("scores.json", edit(systems={}), "no 'systems.model'"),
    ("scores.json", edit(systems=["model"]), "damaged"),
    ("scores.json", edit_model(rouge1=12), "damaged"),
    ("scores.json", edit_model(rouge1={"mean": 1, "low": 0}), "no 'high'"),
    (
        "scores.json",
        edit_model(rouge1={"mean": "12,5", "low": 0, "high": 1}),
        "systems.model.rouge1.mean=12,5 is not a number",
    ),
    ("scores.json", edit_model(rouge1={"mean": float("nan"), "low": 0, "high": 1}), "mean=nan is"),
    ("costs.json", lambda text: text[:-10], "damaged"),
    ("costs.json", lambda text: "[1, 2]", "list instead of a mapping"),
    ("costs.json", edit(tokens_per_second="9,983"), "tokens_per_second=9,983 is not a number"),
    ("costs.json", edit(parameters=None), "parameters=None is not a number"),
    ("environment.json", lambda text: text[:-10], "damaged"),
    (
        "environment.json",
        lambda text: text.replace("2,", '"2",'),
        "threads=2 is not a whole number",
    ),
    ("environment.json", lambda text: text.replace('"A CPU"', "3"), "processor=3 is not a text"),
    ("environment.json", lambda text: "[{}]", "no 'threads'"),
    ("config.yaml", lambda text: text[:5] + ": [", "damaged"),
    ("config.yaml", lambda text: "", "damaged"),
    (
        "config.yaml",
        lambda text: text.replace("  num_heads: 8", "  num_heads: 4"),
        "model.num_heads=4, but cell num_heads=8,",
    ),
    ("data.json", lambda text: "{}", "no 'train'"),
    ("data.json", lambda text: '{"train": 3}', "damaged"),
    ("metrics.csv", lambda text: text.replace("12.5", "12,5"), "damaged"),
    ("metrics.csv", lambda text: text.replace(",", ";"), "damaged"),
    ("metrics.csv", lambda text: "", "damaged"),
    ("per_example_metrics.csv", lambda text: text.replace(",12.0", ",x"), "damaged"),
    ("per_example_metrics.csv", lambda text: text.replace(",", ";"), "damaged"),
    ("per_example_metrics.csv", lambda text: text[:-20], "damaged"),
    ("predictions.jsonl", lambda text: text[:-20], "damaged"),
    ("predictions.jsonl", lambda text: "3\n", "damaged"),
]


def test_a_damaged_file_is_named_in_one_line(tmp_path: Path) -> None:
    cell = made(ONE + SELECT)
    hashes = {role: {"sha256": "0"} for role in ("train", "validation", "test")}
    (cell.folder / "data.json").write_text(json.dumps(hashes))
    (cell.folder / "metrics.csv").write_text("step,validation/rougeL,validation/loss\n1,12.5,2\n")
    read(cell)
    for name, damage, message in DAMAGE:
        path = cell.folder / name
        good = path.read_text()
        path.write_text(damage(good))
        assert path.read_text() != good, f"{name} is as before ({message})"
        with pytest.raises(ConfigError) as caught:
            read(cell)
        path.write_text(good)
        line = str(caught.value)
        assert line.startswith(f"{path}: ") and message in line and "\n" not in line


def test_a_table_that_ends_early_is_named(tmp_path: Path) -> None:
    cell = made()
    path = cell.folder / "per_example_metrics.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(ConfigError, match="damaged .*per_example_metrics.csv and pred"):
        read(cell)


@pytest.mark.parametrize("name", ["scores.json", "config.yaml", "predictions.jsonl"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    cell = made()
    (cell.folder / name).unlink()
    with pytest.raises(ConfigError, match=name):
        read(cell)


def test_a_run_without_costs_has_none(tmp_path: Path) -> None:
    cell = made()
    (cell.folder / "costs.json").unlink()
    assert read(cell).costs == {} and read(cell).data == {}


def test_ids_may_be_long(tmp_path: Path) -> None:
    """Longer than what Python's CSV reader takes by itself."""
    cell = made()
    long = "x" * 200_000
    for name in ("per_example_metrics.csv", "predictions.jsonl"):
        path = cell.folder / name
        path.write_text(path.read_text().replace("test-7", long))
    assert long in read_results(cell.folder).rows
    report(Path("study"))


def test_keys_without_effect_may_differ(tmp_path: Path) -> None:
    """A run may have been trained with another cache or name; a later schema has more keys."""
    cell = made()
    path = cell.folder / "config.yaml"
    text = path.read_text().replace("num_workers: 0", "num_workers: 3")
    path.write_text(text.replace("  qk_norm", "  other"))
    read(cell)


def test_a_run_is_not_pooled_with_those_of_another_rule(tmp_path: Path) -> None:
    """Before ``selection_margin`` existed, the best checkpoint was selected."""
    cell = made()
    path = cell.folder / "config.yaml"
    path.write_text(path.read_text().replace("  selection_margin: 1.0\n", ""))
    for read_again in (
        lambda: read(cell),
        lambda: report(Path("study")),
        lambda: ablate(Path("study"), []),
    ):
        with pytest.raises(ConfigError) as caught:
            read_again()
        assert str(caught.value) == (
            f"{path}: trained before evaluation.selection_margin existed, as with "
            "evaluation.selection_margin=0.0, but cell num_heads=8,seed=0 has 1.0; legal: "
            "headcount ablate, after this folder was moved away, or a report by the version that "
            "trained it"
        )

    # With the rule of that time it is the same training.
    earlier = replace(cell.config.evaluation, selection_margin=0.0)
    read(replace(cell, config=replace(cell.config, evaluation=earlier)))
