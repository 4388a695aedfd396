"""The findings of a study in words that follow from its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headcount.escape import markdown_code, one_line
from headcount.experiments.cell import Cell
from headcount.experiments.report.statistics import SIGNIFICANCE, Comparison
from headcount.experiments.report.study import METRICS, SettingResult, Study
from headcount.experiments.report.tables import p_as_text

ABBREVIATIONS = {"rouge1": "R1", "rouge2": "R2", "rougeL": "RL"}
# Systems that have seen the references: nothing is expected to score above them.
SEES_REFERENCES = ("oracle", "human")
CONTROLS = {
    "fixed_width": "the model's width is divided among the heads: equal parameters",
    "fixed_head_dim": "each head has the same width: parameters grow with the heads",
    "matched_parameters": "feed-forward blocks make up for what attention takes: parameters "
    "agree within 1 %",
    "none": "nothing is controlled but what all cells share",
}


def describe_state(study: Study) -> list[str]:
    """Return what is missing, one item a line; nothing if everything is finished."""
    if not study.unfinished:
        return []
    lines = [f"Half-finished: {len(study.results)} of {len(study.cells)} trainings are finished."]
    for cell, state in study.unfinished:
        lines.append(f"- {cell.name}: {_describe_unfinished(cell, state)}")

    # What cannot be compared for want of the reference cell.
    reference = study.reference_cell
    if reference is None:
        label = study.grid.label(study.grid.reference_cell)
        lines.append(
            f"- Nothing can be compared yet: the baseline {label} has no finished training."
        )
        return lines
    for setting in study.settings:
        if setting is not reference and not setting.comparisons:
            name = setting_name(setting.cell)
            lines.append(f"- {name} cannot be compared yet: no seed in common with the baseline.")
    return lines


def _describe_unfinished(cell: Cell, state: str) -> str:
    if state == "FAILED":
        return f"FAILED, see {cell.log}"
    return "started, not finished" if cell.folder.exists() else "not started"


def describe_findings(study: Study) -> list[str]:
    """Return what was found, a sentence a line."""
    lines = []
    compared = [setting for setting in study.settings if setting.comparisons]
    if study.reference_cell and compared:
        differing = []
        for setting in compared:
            if any(_is_significant(comparison) for comparison in setting.comparisons.values()):
                differing.append(setting_name(setting.cell))
        lines.append(
            f"Significantly different from {setting_name(study.reference_cell.cell)}: "
            f"{_join(differing or ['none'])} of {len(compared)} settings compared."
        )
        for setting in compared:
            name = f"{setting_name(setting.cell)}{_describe_seeds(setting)}"
            lines.append(f"- {name}: {_describe_comparisons(setting)}.")
    return lines + _describe_baselines(study)


def setting_name(cell: Cell) -> str:
    """Return the name of a setting in a sentence: ``num_heads=16`` is 16 heads."""
    key, _, value = cell.label.partition("=")
    if not key.startswith("num_") or "," in value:
        return cell.label
    counted = key.removeprefix("num_").replace("_", " ")
    return f"{value} {counted.removesuffix('s') if value == '1' else counted}"


def _describe_seeds(setting: SettingResult) -> str:
    """Return how many seeds are compared, if some are missing, or there is only one."""
    seeds = next(iter(setting.comparisons.values())).difference.seeds
    parts = []
    if seeds < len(setting.cells):
        parts.append(f"{seeds} of {len(setting.cells)} seeds")
    if seeds == 1:
        parts.append("about other documents, not other seeds")
    return f" ({', '.join(parts)})" if parts else ""


def _describe_comparisons(setting: SettingResult) -> str:
    effects = []
    detectable = []
    for metric, comparison in setting.comparisons.items():
        name = ABBREVIATIONS[metric]
        difference = comparison.difference
        interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
        effects.append(f"{difference.mean:+.2f} {name} {interval}")
        detectable.append(f"{comparison.detectable:.2f} {name}")
    verdict = _describe_verdict(setting.comparisons)
    return f"{', '.join(effects)}: {verdict}; the study could have seen {', '.join(detectable)}"


def _describe_verdict(comparisons: dict[str, Comparison]) -> str:
    """Return in which metrics a setting is significantly higher, lower, or neither."""
    by_side: dict[str, list[str]] = {}
    neither = []
    for metric, comparison in comparisons.items():
        name = ABBREVIATIONS[metric]
        if _is_significant(comparison):
            side = "higher" if comparison.difference.mean > 0 else "lower"
            by_side.setdefault(side, []).append(f"{name} ({p_as_text(comparison.corrected_p)})")
        else:
            neither.append(name)

    if not by_side:
        return "no significant difference"
    parts = [f"significantly {side} {_join(names)}" for side, names in by_side.items()]
    if neither:
        parts.append(f"no significant difference in {_join(neither)}")
    return ", ".join(parts)


def _join(names: Sequence[str]) -> str:
    if len(names) < 2:
        return " and ".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _is_significant(comparison: Comparison) -> bool:
    return comparison.corrected_p < SIGNIFICANCE


def _describe_baselines(study: Study) -> list[str]:
    """Return which settings do not score above the baselines that have not seen a reference."""
    blind = {
        name: scores
        for name, scores in study.baselines.items()
        if not name.startswith(SEES_REFERENCES)
    }
    if not blind:
        return []

    below = []
    for setting in study.settings:
        for metric in METRICS:
            for name, scores in blind.items():
                if setting.estimates[metric].mean <= scores[metric].mean:
                    where = f"{setting_name(setting.cell)} in {ABBREVIATIONS[metric]}"
                    below.append(f"{where} ({name})")

    sentence = f"All means lie above those of {_join(list(blind))}"
    return [f"{sentence}, but for {_join(below)}." if below else f"{sentence}."]


def describe_method(study: Study) -> list[str]:
    """Return how to read the tables, a paragraph a line."""
    lines = [_describe_scores(study)]
    if compared := sum(bool(setting.comparisons) for setting in study.settings):
        assert study.reference_cell is not None
        lines.append(
            f"Δ: minus {setting_name(study.reference_cell.cell)}, paired by seed and example; "
            f"p two-sided, corrected for all {compared * len(METRICS)} comparisons (Holm), "
            "intervals not. What the study could have seen: the smallest true difference that "
            "four of five repetitions would find at 5 %, not corrected, by this one's variance."
        )
    lines.append(f"Control `{study.grid.control}`: {CONTROLS[study.grid.control]}.")
    lines += _describe_costs(study)
    lines.append(f"Summaries by id: `{study.results[0].cell.folder.parent}/*/predictions.jsonl`.")
    return lines


def _describe_scores(study: Study) -> str:
    seeds = sorted({seed for setting in study.settings for seed in setting.seeds})
    seed_counts = {len(setting.seeds) for setting in study.settings}

    # With one seed, intervals are about other documents only.
    if seed_counts == {1}:
        spread = ""
        about = "about other documents alone"
    else:
        spread = "mean over seeds ± their standard deviation, "
        about = "about other seeds and other documents"
        if 1 in seed_counts:
            about += ", of one seed about other documents alone"

    return (
        f"F1 x 100 of {study.examples:,} test examples, seed {_join_numbers(seeds)}: {spread}with "
        f"the 95 % interval {about}; in the figure each seed is a dot. "
        f"{markdown_code(study.signature)}"
    )


def _join_numbers(numbers: Iterable[int]) -> str:
    return _join([str(number) for number in numbers])


def _describe_costs(study: Study) -> list[str]:
    devices = set()
    for result in study.results:
        if "device" in result.costs:
            devices.add(one_line(str(result.costs["device"])))
    if not devices:
        return []
    memory = "held by the process" if devices == {"cpu"} else "allocated on the GPU"
    return [
        f"Costs, measured on {_join(sorted(devices))}: FLOP of matrix products on true lengths, "
        "forward and backward; tokens of both sides, validation left out; peak memory "
        f"{memory}; KV cache of one longest document and summary in fp32."
    ]
