"""The scripts of experiments/which_heads: what is trained, and how it is compared."""

import csv
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from headcount.config.load import load
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.cell import Cell
from tests.experiments.studies import write_study, write_values

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments/which_heads"
DOCSTRINGS = ROOT / "configs/docstrings.yaml"  # that of head_count
DOCUMENTS = 40
DIFFICULTY = np.random.default_rng(0).normal(0, 8, DOCUMENTS)  # of each document
ROUGE_L = {  # of each row, on average
    "8 heads a block from scratch": 23.0,
    "4 heads a block from scratch": 22.0,
    "the same, 150 further steps": 22.5,
    "36 of 72 at random": 18.0,
    "36 of 72 at random, then 150 steps": 22.0,
    "36 of 72 by gates learned in 150 steps": 24.5,
}

# A ``headcount`` that notes its arguments and leaves the folder that the command would leave.
STUB = """#!/bin/bash
echo "$(printf '%q ' "$@")" >> commands
case $1 in
  train) for argument; do case $argument in run.folder=*) folder=${argument#*=};; esac; done;;
  prune) folder=$3;;
esac
mkdir -p "$folder"
touch "$folder/scores.json"
"""


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module that writes into another folder."""
    monkeypatch.chdir(tmp_path)
    spec = spec_from_file_location("compare", FOLDER / "compare.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare", module)  # its dataclass looks there
    spec.loader.exec_module(module)
    module.HERE = tmp_path
    return module


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """Return a cell whose folder the tests replace."""
    return write_study(tmp_path / "study", lambda cell: 0.0, keep=lambda cell: False)[0]


def write_runs(compare: ModuleType, cell: Cell, runs: Path) -> None:
    """Write the finished runs of every row and seed: a document's difficulty is the same in all of
    them, and the noise of a row's runs adds up to nothing."""
    for row in compare.ROWS:
        for seed in compare.SEEDS:
            noise = np.random.default_rng(seed).normal(0, 1, DOCUMENTS)
            values = np.full((DOCUMENTS, len(EXAMPLE_METRICS)), 12.0)
            rouge = ROUGE_L[row.name] + DIFFICULTY + (noise - noise.mean()) + 0.1 * (seed - 1)
            values[:, EXAMPLE_METRICS.index("rougeL")] = rouge
            name = row.runs.format(seed=seed).replace("????????", "0a1b2c3d")
            write_values(replace(cell, folder=runs / name), values)
    pruned = runs / "which_heads/gates-0/pruning.json"
    pruned.write_text(json.dumps({"parameters": [2_300_000, 1_900_000]}))


def test_each_row_is_compared_with_its_reference(
    compare: ModuleType, cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(compare, cell, tmp_path / "runs")
    compare.main(tmp_path / "runs")
    with (tmp_path / "results.csv").open(newline="") as file:
        table = {row["system"]: row for row in csv.DictReader(file)}
    assert {name: float(row["ROUGE-L"]) for name, row in table.items()} == pytest.approx(
        {name: score + DIFFICULTY.mean() for name, score in ROUGE_L.items()}, abs=0.01
    )
    for row in compare.ROWS:
        found = table[row.name]
        if row.reference is None:
            assert found["compared with"] == found["difference in ROUGE-L"] == "-"
        else:
            difference = ROUGE_L[row.name] - ROUGE_L[row.reference]
            assert found["difference in ROUGE-L"].startswith(f"{difference:+.2f} [")
            assert found["compared with"] == row.reference
    gates = table["36 of 72 by gates learned in 150 steps"]
    assert gates["parameters"] == "1,900,000" and float(gates["corrected p"]) < 0.05
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "figure.svg").read_text().count("36 of 72 at random") >= 2


def test_documents_are_paired_by_id(compare: ModuleType, cell: Cell, tmp_path: Path) -> None:
    """The rows of one run in another order change nothing; another document is an error."""
    runs = tmp_path / "runs"
    write_runs(compare, cell, runs)
    expected = compare.read_scores(runs, compare.ROWS[2])
    scores = runs / "which_heads/scratch-tuned-1/per_example_metrics.csv"
    header, *rows = scores.read_text().splitlines()
    scores.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert np.array_equal(compare.read_scores(runs, compare.ROWS[2]), expected)

    for name in ("per_example_metrics.csv", "predictions.jsonl"):
        file = scores.with_name(name)
        file.write_text(file.read_text().replace("test-7", "other-7"))
    with pytest.raises(ValueError, match="scratch-tuned-1: not the documents of"):
        compare.read_scores(runs, compare.ROWS[2])


def test_the_study_trains_what_is_compared(compare: ModuleType, tmp_path: Path) -> None:
    """Every command of study.sh: its settings are legal, and its folders are those of the rows."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "headcount").write_text(STUB)
    (binaries / "headcount").chmod(0o755)
    for heads in (4, 8):
        for seed in compare.SEEDS:
            run = tmp_path / f"runs/head_count/num_heads={heads},seed={seed}-0a1b2c3d"
            run.mkdir(parents=True)
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    script = ["bash", str(FOLDER / "study.sh")]
    subprocess.run(script, cwd=tmp_path, env=environment, check=True)

    for row in compare.ROWS:
        for seed in compare.SEEDS:
            assert len(list((tmp_path / "runs").glob(row.runs.format(seed=seed)))) == 1, row.name
    commands = [shlex.split(line) for line in (tmp_path / "commands").read_text().splitlines()]
    assert len(commands) == 5 * len(compare.SEEDS)
    for command, *arguments in commands:
        if command == "train":
            [file, *overrides] = arguments
            assert Path(file).name == "config.yaml"
            assert f"model.start_from={Path(file).parent}" in overrides
            config = load([str(DOCSTRINGS)], [*overrides, "model.num_heads=8"])
            assert config.trainer["max_steps"] == 150
        else:
            assert command == "prune" and "--by" in arguments

    # Started again, it prunes nothing twice.
    subprocess.run(script, cwd=tmp_path, env=environment, check=True)
    again = (tmp_path / "commands").read_text().splitlines()[len(commands) :]
    assert {line.split()[0] for line in again} == {"train"}
