"""The findings of a study in words that follow from its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from headcount.escape import markdown_code, one_line
from headcount.evaluation.corpus_metrics import CORPUS_TITLES
from headcount.experiments.cell import Cell
from headcount.experiments.controls import find_differences
from headcount.experiments.grid import as_text
from headcount.experiments.report.environments import (
    COMPARABLE_SPREAD,
    describe_differences,
    describe_environments,
    why_times_are_not_comparable,
)
from headcount.experiments.report.sequential import plan_looks
from headcount.experiments.report.statistics import CellComparison
from headcount.experiments.report.study import (
    ABBREVIATIONS,
    METRICS,
    Candidate,
    SettingResult,
    Study,
    count_planned,
)
from headcount.experiments.report.tables import p_as_text
from headcount.experiments.verdicts import CAVEAT_MARK
from headcount.wording import count_nouns, join_words

# Systems that have seen the references: nothing is expected to score above them.
SEES_REFERENCES = ("oracle", "human")
MAX_LISTED = 5  # settings in a sentence
CONTROLS = {
    "fixed_width": "the model's width is divided among the heads: equal parameters",
    "fixed_head_dim": "each head has the same width: parameters grow with the heads",
    "matched_parameters": "feed-forward blocks make up for what attention takes: parameters "
    "agree within 1 %",
    "none": "nothing is controlled but what all cells share",
}


def describe_state(study: Study) -> list[str]:
    """Return what is missing, an item for each line; nothing if everything is finished."""
    if not study.unfinished:
        return []
    lines = [f"Half-finished: {len(study.results)} of {len(study.cells)} trainings are finished."]
    for cell, state in study.unfinished:
        lines.append(f"- {cell.name}: {_describe_unfinished(cell, state)}")

    # What cannot be compared yet.
    reference = study.reference_cell
    if reference is None:
        label = study.grid.label(study.grid.reference_cell)
        lines.append(
            f"- Nothing can be compared yet: the reference cell {label} has no finished training."
        )
        return lines
    for setting in study.settings:
        if setting is not reference and not setting.comparisons:
            name = setting_name(setting.cell)
            lines.append(
                f"- {name} cannot be compared yet: no seed in common with the reference cell."
            )
    return lines


def _describe_unfinished(cell: Cell, state: str) -> str:
    if state == "FAILED":
        return f"FAILED, see {cell.log}"
    return "started, not finished" if cell.folder.exists() else "not started"


def describe_findings(study: Study) -> list[str]:
    """Return what was found, one sentence per line."""
    lines = []
    compared = [setting for setting in study.settings if setting.comparisons]
    if study.reference_cell and compared:
        differing = []
        for setting in compared:
            if any(comparison.is_significant for comparison in setting.comparisons.values()):
                differing.append(f"{setting_name(setting.cell)}{_describe_caveat(setting)}")

        # Which settings differ, then each one.
        which = f": {join_words(differing)}" if differing else ""
        lines.append(
            f"{len(differing)} of {count_nouns(len(compared), 'setting')} compared "
            f"{'differs' if len(differing) == 1 else 'differ'} significantly from "
            f"{setting_name(study.reference_cell.cell)}{which}."
        )
        for setting in compared:
            name = f"{setting_name(setting.cell)}{_describe_seeds(setting)}"
            lines.append(f"- {name}: {_describe_comparisons(setting)}.")
    return [
        *lines,
        *_describe_baselines(study),
        *_describe_selection(study),
        *describe_differences(study),
    ]


def setting_name(cell: Cell) -> str:
    """Return the name of a setting in a sentence: ``num_heads=16`` is 16 heads."""
    key, _, value = cell.label.partition("=")
    if not key.startswith("num_") or "," in value:
        return cell.label
    counted = key.removeprefix("num_").replace("_", " ")
    return f"{value} {counted.removesuffix('s') if value == '1' else counted}"


def _describe_seeds(setting: SettingResult) -> str:
    """Return how many seeds are compared, if some are missing or if there is only one."""
    comparison = next(iter(setting.comparisons.values()))
    seeds = comparison.difference.seeds
    parts = []
    if seeds < len(setting.cells):
        parts.append(f"{seeds} of {len(setting.cells)} seeds")
    if comparison.caveat:
        parts.append(comparison.caveat)
    return f" ({', '.join(parts)})" if parts else ""


def _describe_caveat(setting: SettingResult) -> str:
    """Return in brackets what limits the verdicts of a setting; nothing from three seeds on."""
    caveat = next(iter(setting.comparisons.values())).caveat
    return f" ({caveat})" if caveat else ""


def _describe_comparisons(setting: SettingResult) -> str:
    effects = []
    detectable = []
    for metric, comparison in setting.comparisons.items():
        name = ABBREVIATIONS[metric]
        difference = comparison.difference
        interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
        effects.append(f"{difference.mean:+.2f} {name} {interval}")
        detectable.append(f"{comparison.detectable:.2f} {name}")
    verdicts = _describe_verdicts(setting.comparisons)
    return f"{', '.join(effects)}: {verdicts}; smallest detectable: {', '.join(detectable)}"


def _describe_verdicts(comparisons: dict[str, CellComparison]) -> str:
    """Return the verdicts in words, each with its metrics."""
    decided: dict[str, list[str]] = {}
    undecided = []
    seeds = []
    for metric, comparison in comparisons.items():
        name = ABBREVIATIONS[metric]
        if comparison.decision is not None:
            # By the sequential rule, to which the p-values of a fixed design do not apply.
            detail = f"after {comparison.decision_seeds} seeds"
            if comparison.next_look_seeds is not None:
                detail += f"; {comparison.next_look}"
            elif comparison.next_look:
                detail += ", the last look"
            decided.setdefault(comparison.verdict, []).append(f"{name} ({detail})")
        elif comparison.verdict == "undecided":
            undecided.append(name)
            seeds.append(comparison.planned_seeds)
        elif comparison.is_equivalent:
            assert comparison.corrected_equivalence_p is not None
            detail = p_as_text(comparison.corrected_equivalence_p)
            if comparison.is_significant:
                side = "higher" if comparison.difference.mean > 0 else "lower"
                detail += f"; {side}, {p_as_text(comparison.corrected_p)}"
            verdict = f"equal within the margin of {comparison.margin:g}"
            decided.setdefault(verdict, []).append(f"{name} ({detail})")
        else:
            detail = p_as_text(comparison.corrected_p)
            decided.setdefault(comparison.verdict, []).append(f"{name} ({detail})")

    # A number of seeds that holds for all undecided metrics is written once.
    parts = [f"{verdict} in {join_words(names)}" for verdict, names in decided.items()]
    if undecided:
        if len(set(seeds)) == 1:
            seeds = seeds[:1]
        needed = f" ({join_words(seeds)} seeds would decide)" if all(seeds) else ""
        parts.append(f"undecided in {join_words(undecided)}{needed}")
    return ", ".join(parts)


def _describe_baselines(study: Study) -> list[str]:
    """Return which means lie above those of the baselines that have not seen a reference."""
    names = [name for name in study.baselines if not name.startswith(SEES_REFERENCES)]
    if not names:
        return []

    # Each mean that is not above that of a baseline.
    not_above = []
    for setting in study.settings:
        for name in names:
            for metric in METRICS:
                baseline_mean = study.baselines[name][metric].mean
                if setting.estimates[metric].mean <= baseline_mean:
                    not_above.append((setting, name, metric))

    # All of them, none, or some.
    means = len(study.settings) * len(METRICS)
    if not not_above:
        return [f"All means lie above those of {join_words(names)}."]
    if len(not_above) == means * len(names):
        return [f"No mean lies above that of {join_words(names, 'or')}."]
    above = means - len({(setting.cell.label, metric) for setting, _, metric in not_above})
    count = "None" if above == 0 else f"{above:,}"
    return [
        f"{count} of {means:,} means {'lies' if above == 1 else 'lie'} above those of all of "
        f"{join_words(names)}; not above: {_list_not_above(not_above)}."
    ]


def _list_not_above(not_above: Sequence[tuple[SettingResult, str, str]]) -> str:
    """Return the settings with the baselines that they are not above, each with its metrics.

    Args:
        not_above: a setting, the name of a baseline and a metric each.
    """
    metrics: dict[tuple[str, str], list[str]] = {}
    for setting, name, metric in not_above:
        pair = (setting_name(setting.cell), name)
        metrics.setdefault(pair, []).append(ABBREVIATIONS[metric])
    baselines: dict[str, list[str]] = {}
    for (setting_text, name), abbreviations in metrics.items():
        are_all = len(abbreviations) == len(METRICS)
        text = name if are_all else f"{name} in {join_words(abbreviations)}"
        baselines.setdefault(setting_text, []).append(text)

    listed = [f"{setting_text} ({', '.join(texts)})" for setting_text, texts in baselines.items()]
    if len(listed) > MAX_LISTED:
        listed = [*listed[:MAX_LISTED], f"{len(listed) - MAX_LISTED} other settings"]
    return join_words(listed)


def _describe_selection(study: Study) -> list[str]:
    """Return each setting's value of the inner axis, with the validation scores that decided."""
    if study.grid.select is None:
        return []
    [key] = study.grid.select.over
    lines = [f"{key} is selected by the mean {study.grid.select.by} over seeds:"]
    for setting in study.settings:
        candidates = setting.candidates
        [selected] = [_describe_candidate(each) for each in candidates if each.is_selected]
        others = [_describe_candidate(each) for each in candidates if not each.is_selected]
        found = f"{selected}; not selected: {', '.join(others)}" if others else selected
        lines.append(f"- {setting_name(setting.cell)}: {found}.")
    return lines


def _describe_candidate(candidate: Candidate) -> str:
    """Return a value of the inner axis with its score, and its seeds where some are missing."""
    [value] = candidate.choice.values()
    parts = [] if candidate.mean is None else [f"{candidate.mean:.2f}"]
    if len(candidate.scores) < candidate.trainings:
        parts.append(f"{len(candidate.scores)} of {candidate.trainings} seeds")
    return f"{as_text(value)} ({', '.join(parts)})"


def describe_method(study: Study) -> list[str]:
    """Return how to read the tables and the figure, one paragraph per line."""
    return [
        *describe_scores(study),
        *_describe_detectable(study),
        *describe_corpus_scores(study),
        *describe_costs(study),
        *describe_environments(study),
        "In the figure bars are the intervals and dots the seeds. Dashed lines are baselines.",
        f"Summaries by id: `{study.results[0].cell.folder.parent}/*/predictions.jsonl`.",
    ]


def describe_scores(study: Study) -> list[str]:
    """Return how to read the table of scores, one paragraph per line."""
    lines = [_describe_means(study)]
    compared = sum(bool(setting.comparisons) for setting in study.settings)

    # Differences and verdicts, if there are any. A sequential rule has verdicts of its own.
    if compared:
        assert study.reference_cell is not None
        pairing = "paired by seed and example"
        if _have_different_seeds(study):
            pairing += ", of the seeds that both have"
        planned = count_planned(study.grid)
        pending = "; those without scores yet count as p = 1" if compared < planned else ""
        lines.append(
            f"Δ: minus {setting_name(study.reference_cell.cell)}, {pairing}; "
            f"p two-sided, corrected for all {count_nouns(planned * len(METRICS), 'comparison')} "
            f"(Holm{pending}), intervals not."
        )
        if not study.added.looks:
            lines.append(_describe_verdict_rule(study))
        lines += _describe_few_seeds(study)

    # What the study varies and controls.
    lines += _describe_added_seeds(study)
    lines.append(f"Control `{study.grid.control}`: {CONTROLS[study.grid.control]}.")
    lines += _describe_overlays(study)
    together = study.grid.varied_together
    if together:
        lines.append(
            f"{join_words(together)} are varied together: this study cannot tell their effects "
            "apart."
        )
    return lines


def _describe_overlays(study: Study) -> list[str]:
    """Return the keys in which settings with a file of their own differ from the reference cell:
    the name of a file does not say what it changes."""
    own = study.grid.reference_cell.get("configs")
    parts = []
    for setting in study.settings:
        if setting.cell.axes.get("configs") == own:
            continue
        differing = find_differences(study.grid, study.cells, setting.cell)
        values = [f"{key}={as_text(value)}" for key, value in differing.items()]
        parts.append(f"{setting_name(setting.cell)} has {join_words(values)}")
    if not parts:
        return []
    return [f"Unlike {study.grid.label(study.grid.reference_cell)}: {'; '.join(parts)}."]


def _describe_detectable(study: Study) -> list[str]:
    """Return what the smallest detectable difference is, which findings have and tables have
    not."""
    if not any(setting.comparisons for setting in study.settings):
        return []
    return [
        "Smallest detectable: the true difference that four of five repetitions would find at "
        "5 %, not corrected, by this study's variance."
    ]


def describe_corpus_scores(study: Study) -> list[str]:
    """Return how to read the table of BLEU and chrF, if there is one."""
    titles = [CORPUS_TITLES[metric] for metric in study.corpus_metrics]
    if not titles:
        return []
    return [
        f"{join_words(titles)} of the whole test split: mean over seeds ± their standard "
        "deviation. They are no means over examples, which the tests of a study need, so they "
        "have neither test nor verdict."
    ]


def _describe_verdict_rule(study: Study) -> str:
    """Return what the verdicts mean."""
    rule = "Verdict: better or worse where the corrected p is below 0.05"
    if study.grid.margin:
        tests = count_planned(study.grid) * len(study.grid.margin)
        rule += (
            f"; equal where the difference is proven smaller than {_describe_margin(study)} "
            f"(two one-sided tests, corrected for {count_nouns(tests, 'comparison')})"
        )
    rule += "; otherwise undecided"
    if any(comparison.planned_seeds for comparison in _comparisons(study)):
        rule += (
            ", with the seeds that would decide in four of five repetitions if the true "
            "difference is the observed one"
        )
    return f"{rule}."


def _comparisons(study: Study) -> Iterator[CellComparison]:
    for setting in study.settings:
        yield from setting.comparisons.values()


def _describe_few_seeds(study: Study) -> list[str]:
    """Return what the marked verdicts are worth."""
    seeds = {comparison.difference.seeds for comparison in _comparisons(study)}
    lines = []
    if 2 in seeds:
        lines.append(
            f"{CAVEAT_MARK} from two seeds: too few for these error rates. In simulations of four "
            "settings that do not differ, up to 11 % of studies called one better or worse; equal "
            "was not simulated."
        )
    if 1 in seeds:
        lines.append(
            f"{CAVEAT_MARK} one seed: p and verdict are about other documents only, and say "
            "nothing about other seeds."
        )
    return lines


def _describe_margin(study: Study) -> str:
    margins = [f"{value:g} {ABBREVIATIONS[name]}" for name, value in study.grid.margin.items()]
    return f"the margin of {join_words(margins)}"


def _describe_added_seeds(study: Study) -> list[str]:
    """Return which seeds were added after the launch, and the looks of the sequential rule."""
    added = study.added
    lines = []
    if added.by_hand:
        lines.append(
            f"Seeds {_join_numbers(added.by_hand)} were added by hand: p and verdicts hold if "
            "that was decided without a look at the results."
        )
    if not added.looks:
        return lines

    # The rule, and what each look found.
    plan = plan_looks(len(study.grid.seeds))
    lines.append(
        "Verdicts are those of a sequential rule, whose claims of difference and of equivalence "
        "are wrong in at most 5 % of studies each, over all looks (alpha spending, Lan and DeMets "
        f"1983): looks are planned after {_join_numbers(plan)} seeds, and undecided settings get "
        f"more. Equal is smaller than {_describe_margin(study)}. The p-values are those of the "
        "last data alone: neither they nor the intervals are adjusted for the looks."
    )
    for number, look in enumerate(added.looks, start=1):
        by_verdict: dict[str, list[str]] = {}
        for label, by_metric in look.verdicts.items():
            for metric, verdict in by_metric.items():
                by_verdict.setdefault(verdict, []).append(f"{label} {ABBREVIATIONS[metric]}")
        found = "; ".join(
            f"{verdict}: {', '.join(names)}" for verdict, names in by_verdict.items()
        )
        lines.append(f"Look {number}, after {look.seeds} seeds: {found}.")
    return lines


def _have_different_seeds(study: Study) -> bool:
    return any(setting.seeds != study.usual_seeds for setting in study.settings)


def _describe_means(study: Study) -> str:
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

    seeds = f"seed {_join_numbers(study.usual_seeds)}"
    if _have_different_seeds(study):
        seeds += ", or those that a row names"
    return (
        f"F1 x 100 of {study.examples:,} test examples, {seeds}: {spread}with "
        f"the 95 % interval {about}. {markdown_code(study.signature)}"
    )


def _join_numbers(numbers: Iterable[int]) -> str:
    return join_words([str(number) for number in numbers])


def describe_costs(study: Study) -> list[str]:
    """Return how to read the table of costs, one paragraph per line."""
    devices = set()
    for result in study.results:
        if "device" in result.costs:
            devices.add(one_line(str(result.costs["device"])))
    if not devices:
        return []

    # What was measured, and how.
    memory = "held by the process" if devices == {"cpu"} else "allocated on the GPU"
    text = (
        f"Costs, measured on {join_words(sorted(devices))}: FLOP of matrix products on true "
        "lengths, forward and backward; tokens of both sides, validation left out; peak memory "
        f"{memory}; KV cache of one longest document and summary in fp32."
    )

    return [text, _describe_times(study)]


def _describe_times(study: Study) -> str:
    """Return whether tokens/s and decoding can be compared."""
    reasons = why_times_are_not_comparable(study)
    if reasons:
        return f"*: wall times, which are not comparable between settings: {'; '.join(reasons)}."
    return (
        "Wall times (tokens/s and decoding) were measured on one kind of processor with as many "
        f"threads, and those of the seeds of a setting differ by at most {COMPARABLE_SPREAD:.0%}."
    )
