"""What a study says, in words that follow from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from headcount.escape import markdown_code, one_line
from headcount.experiments.cell import Cell
from headcount.experiments.report.statistics import SIGNIFICANCE, Comparison
from headcount.experiments.report.study import METRICS, Row, Study
from headcount.experiments.report.tables import say_p

SHORT = {"rouge1": "R1", "rouge2": "R2", "rougeL": "RL"}
SEES_REFERENCES = ("oracle", "human")


def say_state(study: Study) -> list[str]:
    """Return what is missing, a line each; nothing where all is finished."""
    if not study.unfinished:
        return []
    lines = [f"Half-finished: {len(study.results)} of {len(study.cells)} trainings are finished."]
    for cell, state in study.unfinished:
        lines.append(f"- {cell.name}: {_say_unfinished(cell, state)}")
    if study.baseline is None:
        label = study.grid.label(study.grid.baseline)
        lines.append(
            f"- Nothing can be compared yet: the baseline {label} has no finished training."
        )
    for row in study.rows:
        if study.baseline and row is not study.baseline and not row.comparisons:
            lines.append(
                f"- {say_name(row.cell)} cannot be compared yet: no seed in common with the "
                "baseline."
            )
    return lines


def _say_unfinished(cell: Cell, state: str) -> str:
    if state == "FAILED":
        return f"FAILED, see {cell.log}"
    return "started, not finished" if cell.folder.exists() else "not started"


def say_findings(study: Study) -> list[str]:
    """Return what was found, a line each."""
    compared = [row for row in study.rows if row.comparisons]
    lines = []
    if study.baseline and compared:
        name = say_name(study.baseline.cell)
        differs = [row for row in compared if any(map(_significant, row.comparisons.values()))]
        found = _join([say_name(row.cell) for row in differs] or ["none"])
        lines.append(
            f"Significantly different from {name}: {found} of {len(compared)} settings compared."
        )
        lines += [
            f"- {say_name(row.cell)}{_say_seeds(row)}: {_say_comparison(row)}." for row in compared
        ]
    return [*lines, *_say_baselines(study)]


def say_name(cell: Cell) -> str:
    """Return the name of a setting as it is said: ``num_heads=16`` is 16 heads."""
    key, _, value = cell.label.partition("=")
    if not key.startswith("num_") or "," in value:
        return cell.label
    counted = key.removeprefix("num_").replace("_", " ")
    return f"{value} {counted.removesuffix('s') if value == '1' else counted}"


def _say_seeds(row: Row) -> str:
    """Say how many seeds a comparison has, where some are missing.

    One says nothing about others.
    """
    seeds = next(iter(row.comparisons.values())).difference.seeds
    missing = f"{seeds} of {len(row.cells)} seeds" if seeds < len(row.cells) else ""
    alone = "about other documents, not other seeds" if seeds == 1 else ""
    said = ", ".join(filter(None, (missing, alone)))
    return f" ({said})" if said else ""


def _say_comparison(row: Row) -> str:
    effects, seen = [], []
    for metric, found in row.comparisons.items():
        change = found.difference
        effects.append(
            f"{change.mean:+.2f} {SHORT[metric]} [{change.low:+.2f}, {change.high:+.2f}]"
        )
        seen.append(f"{found.detectable:.2f} {SHORT[metric]}")
    verdict = _say_verdict(row.comparisons)
    return f"{', '.join(effects)}: {verdict}; the study could have seen {', '.join(seen)}"


def _say_verdict(comparisons: dict[str, Comparison]) -> str:
    sides: dict[str, list[str]] = {}
    for metric, found in comparisons.items():
        if _significant(found):
            side = "higher" if found.difference.mean > 0 else "lower"
            sides.setdefault(side, []).append(f"{SHORT[metric]} ({say_p(found.corrected_p)})")
    rest = [SHORT[metric] for metric, found in comparisons.items() if not _significant(found)]
    if not sides:
        return "no significant difference"
    parts = [f"significantly {side} {_join(metrics)}" for side, metrics in sides.items()]
    return ", ".join([*parts, *([f"no significant difference in {_join(rest)}"] if rest else [])])


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _significant(found: Comparison) -> bool:
    return found.corrected_p < SIGNIFICANCE


def _say_baselines(study: Study) -> list[str]:
    """Say what does not score above the extracts that no reference has chosen."""
    plain = {
        name: figures
        for name, figures in study.baselines.items()
        if not name.startswith(SEES_REFERENCES)
    }
    if not plain:
        return []
    below = [
        f"{say_name(row.cell)} in {SHORT[metric]} ({name})"
        for row in study.rows
        for metric in METRICS
        for name, figures in plain.items()
        if row.estimates[metric].mean <= figures[metric].mean
    ]
    said = f"All means lie above those of {_join(list(plain))}"
    return [f"{said}, but for {_join(below)}." if below else f"{said}."]


def say_method(study: Study) -> list[str]:
    """Return how the tables are to be read, a line each."""
    seeds = sorted({seed for row in study.rows for seed in row.seeds})
    counts = {len(row.seeds) for row in study.rows}
    spread = "mean over seeds ± their standard deviation, " if counts != {1} else ""
    about = (
        "about other seeds and other documents" if counts != {1} else "about other documents alone"
    )
    about += ", of one seed about other documents alone" if 1 in counts and len(counts) > 1 else ""
    lines = [
        f"F1 x 100 of {study.examples:,} test examples, seed {_join(list(map(str, seeds)))}: "
        f"{spread}with the 95 % "
        f"interval {about}; in the figure each seed is a dot. {markdown_code(study.signature)}"
    ]
    if compared := sum(bool(row.comparisons) for row in study.rows):
        assert study.baseline is not None
        lines.append(
            f"Δ: minus {say_name(study.baseline.cell)}, paired by seed and example; p two-sided, "
            "corrected for all "
            f"{compared * len(METRICS)} comparisons (Holm), intervals not. What the study could "
            "have seen: the "
            "smallest true difference that four of five repetitions would find at 5 %, not "
            "corrected, by this one's "
            "variance."
        )
    control = {
        "fixed_width": "the model's width is divided among the heads: equal parameters",
        "fixed_head_dim": "each head has the same width: parameters grow with the heads",
        "matched_parameters": "feed-forward blocks make up for what attention takes: parameters "
        "agree within 1 %",
        "none": "nothing is controlled but what all cells share",
    }[study.grid.control]
    lines.append(f"Control `{study.grid.control}`: {control}.")
    devices = sorted(
        {
            one_line(str(result.costs["device"]))
            for result in study.results
            if "device" in result.costs
        }
    )
    if devices:
        memory = "held by the process" if devices == ["cpu"] else "allocated on the GPU"
        lines.append(
            f"Costs, measured on {_join(devices)}: FLOP of matrix products on true lengths, "
            "forward and backward; "
            f"tokens of both sides, validation left out; peak memory {memory}; KV cache of one "
            "longest document and "
            "summary in fp32."
        )
    lines.append(f"Summaries by id: `{study.results[0].cell.folder.parent}/*/predictions.jsonl`.")
    return lines
