"""Made-up studies: run folders as trainings leave them, with scores that a seed decides."""

import csv
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from headcount.config.load import to_yaml
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid

HEADS = """
configs: [base.yaml]
control: fixed_width
grid: {model.num_heads: [1, 2, 4, 8, 16]}
seeds: [0, 1, 2]
reference_cell: {model.num_heads: 8}
"""
BASELINES = {"lead-1": 18.46, "longest-1": 15.22, "random-1": 15.21, "oracle-1": 30.6}
ENVIRONMENT = {
    "processor": "A CPU",
    "device": "cpu",
    "threads": 2,
    "processes": 1,
    "system": "Linux x86_64",
    "python": "3.12.3",
    "headcount": "0.1.0 (commit 0123456789ab)",
    "packages": {"torch": "2.12.0", "numpy": "2.4.0"},
}
SHARES = {"rouge1": 1.0, "rouge2": 0.3, "rougeL": 0.9, "rougeLsum": 0.9}  # of ROUGE-1, roughly


def write_study(
    folder: Path,
    score: Callable[[Cell], float],
    *,
    grid: str = HEADS,
    keep: Callable[[Cell], bool] = lambda cell: True,
) -> list[Cell]:
    """Write a study whose trainings score what is said in ROUGE-1, with noise over examples and
    seeds.

    Args:
        folder: for ``grid.yaml``.
        score: the true ROUGE-1 of a cell.
        grid: what is in that file.
        keep: whether a cell is finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "grid.yaml").write_text(grid)
    Path("base.yaml").write_text("run: {directory: runs}\ntracking: {mode: disabled}\n")
    cells = make_cells(load_grid(folder))
    for cell in cells:
        if keep(cell):
            write_run(cell, score(cell))
    return cells


def write_run(cell: Cell, score: float, examples: int = 60) -> None:
    """Write a finished run folder."""
    shared, own = np.random.default_rng(0), np.random.default_rng(zlib.crc32(cell.name.encode()))
    rouge1 = (
        score + shared.normal(0, 8, examples) + own.normal(0, 0.3) + own.normal(0, 2, examples)
    )
    values = np.full((examples, len(EXAMPLE_METRICS)), 12.0)
    for metric, share in SHARES.items():
        values[:, EXAMPLE_METRICS.index(metric)] = share * rouge1
    write_values(cell, values)


def write_values(cell: Cell, values: np.ndarray) -> None:
    """Write a finished run folder with these figures, (examples, EXAMPLE_METRICS)."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / "config.yaml").write_text(to_yaml(cell.config))
    ids = [f"test-{number}" for number in range(len(values))]
    with (cell.folder / "per_example_metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["id", *EXAMPLE_METRICS],
                *([name, *row] for name, row in zip(ids, values, strict=True)),
            ]
        )
    lines = [json.dumps({"id": name, "summary": "a", "references": ["b"]}) + "\n" for name in ids]
    (cell.folder / "predictions.jsonl").write_text("".join(lines))
    model = {
        name: figure(mean)
        for name, mean in zip(EXAMPLE_METRICS, values.mean(0).tolist(), strict=True)
    }
    systems = {"model": model} | {
        name: {metric: figure(share * mean) for metric, share in SHARES.items()}
        for name, mean in BASELINES.items()
    }
    systems["human"] = dict.fromkeys(SHARES)
    scores = {
        "split": "test",
        "examples": len(ids),
        "seed": cell.seed,
        "step": 100,
        "signature": "rouge|made:up",
    }
    (cell.folder / "scores.json").write_text(json.dumps({**scores, "systems": systems}))
    costs = {
        "parameters": 2_300_000,
        "training_flops": 4.2e13,
        "training_tokens": 3_000_000,
        "training_seconds": 300.5,
    }
    costs |= {
        "tokens_per_second": 9983.4,
        "peak_memory_bytes": 912 * 2**20,
        "kv_cache_bytes": 1_769_472,
    }
    costs |= {"decode_ms_per_summary": 14.2 + cell.seed, "device": "cpu"}
    (cell.folder / "costs.json").write_text(json.dumps(costs))
    (cell.folder / "environment.json").write_text(json.dumps([ENVIRONMENT]))
    (cell.folder / "finished").write_text('{"step": 100}')


def figure(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 1, "high": mean + 1}
