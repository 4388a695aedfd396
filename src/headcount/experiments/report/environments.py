"""Where the trainings of a study ran and how long they took, and whether their times can be
compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from headcount.escape import one_line
from headcount.experiments.report.results import Result
from headcount.experiments.report.study import Study
from headcount.wording import count_nouns, join_words

# Measured in wall time, and their names in a sentence.
TIMES = {"tokens_per_second": "tokens/s", "decode_ms_per_summary": "decoding"}
# Times of the seeds of a setting that differ by no more, as a share, are comparable.
COMPARABLE_SPREAD = 0.1
# Parts of an environment on which times depend.
MACHINE = ("processor", "device", "threads", "processes")
SECONDS_PER_HOUR = 3600
NOT_RECORDED = "not recorded"  # by the version that wrote the environment


def count_hours(study: Study) -> dict[str, float]:
    """Return the hours of all finished trainings, those of values that were not selected too.

    Returns:
        ``trainings``: their number; ``training_hours`` of those that have costs, without
        validation; ``core_hours``, hours times threads times processes, of the
        ``core_hours_trainings`` on a CPU whose environment is recorded; ``gpu_hours``, hours times
        processes, in the same way; ``decoding_hours`` of the test examples.
    """
    hours: defaultdict[str, float] = defaultdict(float)
    for result in study.results:
        hours["trainings"] += 1
        examples = len(result.scored.rows)
        milliseconds = _number(result, "decode_ms_per_summary") or 0.0
        hours["decoding_hours"] += milliseconds * examples / 1000 / SECONDS_PER_HOUR
        seconds = _number(result, "training_seconds")
        if seconds is None:
            continue

        # A resumed training counts as one in its last environment.
        trained = seconds / SECONDS_PER_HOUR
        hours["training_hours"] += trained
        if not result.environments:
            continue
        environment = result.environments[-1]
        kind = "core" if environment["device"] == "cpu" else "gpu"
        threads = environment["threads"] if kind == "core" else 1
        hours[f"{kind}_hours"] += trained * threads * environment["processes"]
        hours[f"{kind}_hours_trainings"] += 1

    # The others are numbers of trainings.
    counted: dict[str, float] = {}
    for name, value in hours.items():
        counted[name] = round(value, 4) if name.endswith("_hours") else int(value)
    return counted


def summarize_environments(study: Study) -> dict[str, Any]:
    """Return the environments with their number of trainings, and the hours, for JSON."""
    counts: list[dict[str, Any]] = []
    for environment in _distinct(study.results):
        having = [result for result in study.results if environment in result.environments]
        counts.append({"trainings": len(having), **environment})
    unrecorded = sum(not result.environments for result in study.results)
    return {**count_hours(study), "environments": counts, "environments_not_recorded": unrecorded}


def describe_environments(study: Study) -> list[str]:
    """Return what the environments of the trainings share and how long these took, one paragraph
    per line; what differs is a finding, see ``describe_differences``."""
    lines = []
    values = _values_by_part(study.results)
    shared = [
        f"{part} {next(iter(counts))}" for part, counts in values.items() if len(counts) == 1
    ]
    if shared:
        recorded = sum(bool(result.environments) for result in study.results)
        lines.append(f"Environment of {count_nouns(recorded, 'training')}: {', '.join(shared)}.")
    return [*lines, *_describe_hours(study)]


def describe_differences(study: Study) -> list[str]:
    """Return in what the environments of the trainings differ, one sentence; nothing if they do
    not."""
    unrecorded = sum(not result.environments for result in study.results)
    if unrecorded == len(study.results):
        return []
    differing = []
    for part, counts in _values_by_part(study.results).items():
        if len(counts) > 1:
            listed = [f"{value}: {count_nouns(n, 'training')}" for value, n in counts.items()]
            differing.append(f"{part} ({'; '.join(listed)})")

    # A difference between settings may be one of these.
    sentences = []
    if differing:
        sentences.append(
            f"The trainings ran in environments that differ in {join_words(differing)}."
        )
    if unrecorded:
        sentences.append(
            f"The environment of {unrecorded} of {len(study.results)} trainings is not recorded."
        )
    return [" ".join(sentences)] if sentences else []


def _describe_hours(study: Study) -> Iterator[str]:
    hours = count_hours(study)
    trainings = count_nouns(len(study.results), "finished training")
    if not hours.get("training_hours"):
        return
    text = f"{trainings}: {hours['training_hours']:,.2f} hours of training, validation left out"
    for kind, meaning in (("core", "hours x threads x processes"), ("gpu", "hours x GPUs")):
        number = hours.get(f"{kind}_hours_trainings", 0)
        if number:
            of_some = "" if number == len(study.results) else f" of {number} of them"
            name = "core-hours" if kind == "core" else "GPU-hours"
            text += f", {hours[f'{kind}_hours']:,.2f} {name}{of_some} ({meaning})"
    if not any(result.environments for result in study.results):
        text += ", core-hours unknown as their environment is not recorded"
    if hours["decoding_hours"]:
        text += f"; decoding of the test examples: {hours['decoding_hours']:,.2f} hours"
    yield f"{text}."


def why_times_are_not_comparable(study: Study) -> list[str]:
    """Return why the times of the settings cannot be compared, a clause each; nothing if they can.

    Other work on the machine shows in the spread over the seeds, if it did not last through all of
    a setting's trainings. So times that are called comparable are so as far as can be measured.
    """
    if not any(_times(study.results, key) for key in TIMES):
        return []

    # The machines.
    reasons = []
    unrecorded = sum(not result.environments for result in study.results)
    if unrecorded:
        reasons.append(f"the processor of {count_nouns(unrecorded, 'training')} is not recorded")
    machines = {tuple(each[part] for part in MACHINE) for each in _distinct(study.results)}
    if len(machines) > 1:
        reasons.append("processors, devices or numbers of threads differ")

    # The spread over the seeds of a setting.
    spreads = []
    for key, name in TIMES.items():
        measured = [_times(setting.results, key) for setting in study.settings]
        if any(len(times) < 2 for times in measured):
            reasons.append(f"a setting has {name} of fewer than two seeds")
        spread = max((max(times) / min(times) - 1 for times in measured if times), default=0.0)
        if spread > COMPARABLE_SPREAD:
            spreads.append(f"{spread:.0%} in {name}")
    if spreads:
        reasons.append(f"the seeds of a setting differ by up to {join_words(spreads)}")
    return reasons


def _times(results: Sequence[Result], key: str) -> list[float]:
    times = [_number(result, key) for result in results]
    return [time for time in times if time is not None and time > 0]


def _number(result: Result, key: str) -> float | None:
    value = result.costs.get(key)
    return value if isinstance(value, int | float) else None


def _distinct(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return each environment once, in the order in which they first occur."""
    distinct: list[dict[str, Any]] = []
    for result in results:
        distinct += [each for each in result.environments if each not in distinct]
    return distinct


def _values_by_part(results: Sequence[Result]) -> dict[str, Counter[str]]:
    """Return the values of each part of the environments, with the number of trainings.

    A package is a part of its own. A part that some environments have and others do not is
    ``NOT_RECORDED`` in the others. Trainings without any environment are not counted.
    """
    # All parts that some environment has, in order.
    names: dict[str, None] = {}
    for environment in _distinct(results):
        names.update(dict.fromkeys(_parts(environment)))

    values: dict[str, Counter[str]] = {name: Counter() for name in names}
    for result in results:
        parts = [_parts(environment) for environment in result.environments]
        for name in names:
            # A training that was resumed elsewhere counts for both values.
            values[name].update(sorted({each.get(name, NOT_RECORDED) for each in parts}))
    return values


def _parts(environment: dict[str, Any]) -> dict[str, str]:
    """Return the parts of an environment as text, each package as one."""
    parts = {name: value for name, value in environment.items() if name != "packages"}
    parts |= environment["packages"]
    return {one_line(name): one_line(str(value)) for name, value in parts.items()}
