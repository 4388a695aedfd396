"""Compare what ``study.sh`` has trained: ``python experiments/which_heads/compare.py``.

It writes ``results.csv``, ``table.md`` and ``figure.svg`` beside this file. A difference is paired
by seed and test document and tested as in every study, see docs/statistics.md.
"""

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.report.statistics import CellComparison, compare_family, estimate_mean
from headcount.plot_style import STYLE, save_figure
from headcount.runs.scores import read_results

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
METRIC = "rougeL"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A system of the study.

    Attributes:
        name: as the table shows it.
        runs: pattern of its run folders; {seed} is the seed.
        reference: the row that it is compared with; None: it is none of the questions.
    """

    name: str
    runs: str
    reference: str | None = None


SCRATCH = "4 heads a block from scratch"
SCRATCH_TUNED = "the same, 150 further steps"
ROWS = [
    Row(name="8 heads a block from scratch", runs="head_count/num_heads=8,seed={seed}-????????"),
    Row(name=SCRATCH, runs="head_count/num_heads=4,seed={seed}-????????"),
    Row(name=SCRATCH_TUNED, runs="which_heads/scratch-tuned-{seed}", reference=SCRATCH),
    Row(name="36 of 72 at random", runs="which_heads/random-{seed}", reference=SCRATCH),
    Row(
        name="36 of 72 at random, then 150 steps",
        runs="which_heads/random-tuned-{seed}",
        reference=SCRATCH_TUNED,
    ),
    Row(
        name="36 of 72 by gates learned in 150 steps",
        runs="which_heads/gates-{seed}",
        reference=SCRATCH_TUNED,
    ),
]


def read_scores(runs: Path, row: Row) -> NDArray[np.float64]:
    """Return the scores of a row, (seeds, documents, metrics), documents in the order of ids.

    Raises:
        ValueError: a run was scored on other documents.
    """
    [first] = runs.glob(ROWS[0].runs.format(seed=SEEDS[0]))
    ids = sorted(read_results(first).rows)
    scores = []
    for seed in SEEDS:
        [folder] = runs.glob(row.runs.format(seed=seed))
        result = read_results(folder)
        if sorted(result.rows) != ids:
            raise ValueError(f"{folder}: not the documents of {first}")
        scores.append(result.values[[result.rows[identifier] for identifier in ids]])
    return np.stack(scores)


def read_parameters(runs: Path, row: Row) -> int:
    """Return the number of parameters of a row's model."""
    [folder] = runs.glob(row.runs.format(seed=SEEDS[0]))
    pruning = folder / "pruning.json"
    if pruning.exists():
        return int(json.loads(pruning.read_text())["parameters"][1])
    return int(json.loads((folder / "costs.json").read_text())["parameters"])


def compare(scores: dict[str, NDArray[np.float64]]) -> dict[str, CellComparison]:
    """Return the comparison of each row that has a reference, corrected for their number."""
    metric = EXAMPLE_METRICS.index(METRIC)
    asked = [row for row in ROWS if row.reference is not None]
    pairs = []
    for row in asked:
        assert row.reference is not None
        pairs.append((scores[row.name][..., metric], scores[row.reference][..., metric]))
    return dict(zip([row.name for row in asked], compare_family(pairs), strict=True))


def write_tables(
    scores: dict[str, NDArray[np.float64]],
    parameters: dict[str, int],
    comparisons: dict[str, CellComparison],
) -> None:
    """Write the table as CSV and as Markdown."""
    header = ["system", "parameters", "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-L by seed"]
    header += ["compared with", "difference in ROUGE-L", "corrected p"]
    table = []
    for row in ROWS:
        means = []
        for name in ("rouge1", "rouge2", "rougeL"):
            means.append(f"{scores[row.name][..., EXAMPLE_METRICS.index(name)].mean():.2f}")
        by_seed = scores[row.name][..., EXAMPLE_METRICS.index(METRIC)].mean(1)
        cells = [row.name, f"{parameters[row.name]:,}", *means]
        cells.append(", ".join(f"{mean:.2f}" for mean in by_seed))
        if row.reference is not None:
            found = comparisons[row.name]
            difference = found.difference
            interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
            cells += [row.reference, f"{difference.mean:+.2f} {interval}"]
            cells.append(f"{found.corrected_p:.3f}")
        table.append(cells + ["-"] * (len(header) - len(cells)))

    with (HERE / "results.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *table])
    rule = ["---", *["---:"] * 4, "---", "---", "---:", "---:"]
    lines = [f"| {' | '.join(cells)} |" for cells in (header, rule, *table)]
    (HERE / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(scores: dict[str, NDArray[np.float64]]) -> Figure:
    """Draw the mean of each row with its 95 % interval over seeds and documents, and its seeds."""
    metric = EXAMPLE_METRICS.index(METRIC)
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.2), layout="constrained")
        panel = figure.subplots()
        for place, row in enumerate(ROWS):
            values = scores[row.name][..., metric]
            mean = estimate_mean(values)
            reach = [[mean.mean - mean.low], [mean.high - mean.mean]]
            panel.errorbar(mean.mean, place, xerr=reach, fmt="o", color="#0072B2")
            seeds = values.mean(1)
            panel.scatter(seeds, [place + 0.22] * len(seeds), s=5, color="#999999")
        panel.set_yticks(range(len(ROWS)), [row.name for row in ROWS])
        panel.invert_yaxis()
        panel.set_xlabel("ROUGE-L (F1 × 100) on test")
        panel.grid(axis="x", linewidth=0.3, color="#DDDDDD")
    return figure


def main(runs: Path) -> None:
    """Compare the runs in a folder, and print the table."""
    scores = {row.name: read_scores(runs, row) for row in ROWS}
    parameters = {row.name: read_parameters(runs, row) for row in ROWS}
    write_tables(scores, parameters, compare(scores))
    save_figure(draw(scores), HERE / "figure.svg")
    print((HERE / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
