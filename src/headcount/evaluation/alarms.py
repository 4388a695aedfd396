"""Health alarms: what is wrong with summaries that a score does not say, in plain words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.bootstrap import RESAMPLES, differences
from headcount.evaluation.systems import EXAMPLE_METRICS, System
from headcount.evaluation.tokenizers import Dropped, measure_dropped

SAME = 0.05  # share of one summary among all, beyond the references' own
LONG = 2.0  # times the references' length
SHORT = 0.5  # times the references' length
CUT = 10.0  # % of summaries
REPEATED = 10.0  # % of trigrams, beyond the references' own
DROPPED = 1.0  # % of the words, or of the letters and digits, of the references
BLIND = 50.0  # % of them, from which on ROUGE says nothing about the texts


def find_alarms(
    model: System,
    shuffled: System,
    baselines: Sequence[System],
    summaries: Sequence[str],
    references: Sequence[Sequence[str]],
    evaluation: EvaluationConfig,
) -> Iterator[str]:
    """Yield what is wrong, a line each; nothing if all is well.

    Args:
        model: what is judged.
        shuffled: the same model when each example has the document of another.
        baselines: extractive baselines, and the human references last.
        summaries: the model's texts.
        references: the references' texts.
        evaluation: how they are scored.
    """
    human = baselines[-1]
    dropped = _measure_dropped(references, evaluation)
    if alarm := _describe_dropped(dropped, evaluation):
        yield alarm
    yield from _degenerate(summaries, references)
    # Below this share ROUGE is about the few words that it sees, and so would be these alarms.
    if dropped.characters < BLIND:
        yield from _ignored_documents(model, shuffled)
        yield from _below_lead(model, baselines)
    yield from _length(model, human)
    yield from _repetition(model, human)


def find_dropped_text(
    references: Sequence[Sequence[str]], evaluation: EvaluationConfig
) -> str | None:
    """Return the alarm that ROUGE does not see the references; None if it sees them."""
    return _describe_dropped(_measure_dropped(references, evaluation), evaluation)


def _measure_dropped(references: Sequence[Sequence[str]], evaluation: EvaluationConfig) -> Dropped:
    texts: list[str] = []
    for of_example in references:
        texts.extend(of_example)
    return measure_dropped(texts, evaluation.tokenizer)


def _describe_dropped(dropped: Dropped, evaluation: EvaluationConfig) -> str | None:
    if max(dropped.words, dropped.characters) <= DROPPED:
        return None
    return (
        f"ROUGE does not see {dropped.words:.1f} % of the words and "
        f"{dropped.characters:.1f} % of the letters and digits of the references: "
        f"evaluation.tokenizer={evaluation.tokenizer} drops them; unicode keeps them"
    )


def _degenerate(summaries: Sequence[str], references: Sequence[Sequence[str]]) -> Iterator[str]:
    total = len(summaries)
    empty = sum(not summary.strip() for summary in summaries)
    if empty:
        yield f"{empty:,} of {total:,} summaries are empty"

    [(text, number)] = Counter(summaries).most_common(1)
    [(_, usual)] = Counter(texts[0] for texts in references).most_common(1)
    if text.strip() and number > usual + SAME * total:
        yield f"one summary stands for {number:,} of {total:,} documents: {text}"


def _ignored_documents(model: System, shuffled: System) -> Iterator[str]:
    # Nothing can be said about one example, or if no summary has a word of its reference.
    if len(model.values) < 2 or not model.mean("rouge1") > 0:
        return
    column = [EXAMPLE_METRICS.index("rouge1")]
    [gain] = differences(model.values[:, column], shuffled.values[:, column], RESAMPLES)
    if gain.low <= 0:
        yield (
            "the summaries do not depend on the documents: "
            f"ROUGE-1 is {model.mean('rouge1'):.2f}, and {shuffled.mean('rouge1'):.2f} when the "
            "documents are shuffled"
        )


def _below_lead(model: System, baselines: Sequence[System]) -> Iterator[str]:
    leads = [system for system in baselines if system.name.startswith("lead-")]
    if len(model.values) < 2 or not leads:
        return
    best = max(leads, key=lambda system: system.mean("rougeL"))
    column = [EXAMPLE_METRICS.index("rougeL")]
    [gain] = differences(model.values[:, column], best.values[:, column], RESAMPLES)
    if isfinite(gain.high) and gain.high < 0:
        yield (
            "the summaries score below the beginning of the documents: ROUGE-L is "
            f"{model.mean('rougeL'):.2f}, and {best.mean('rougeL'):.2f} of {best.name}"
        )


def _length(model: System, human: System) -> Iterator[str]:
    length = model.mean("words")
    usual_length = human.mean("words")
    average = f"{length:.0f} words on average, the references have {usual_length:.0f}"
    if length > LONG * usual_length:
        yield f"the summaries run away: {average}"
    if length < SHORT * usual_length:
        yield f"the summaries are too short: {average}"
    if model.mean("cut") > CUT:
        share = f"{model.mean('cut'):.0f} %"
        yield f"{share} of the summaries were cut at the longest that decoding allows"


def _repetition(model: System, human: System) -> Iterator[str]:
    repeated = model.mean("repeated_3grams")
    usually = human.mean("repeated_3grams")
    if repeated > usually + REPEATED:
        share = f"{repeated:.0f} % of their trigrams repeat"
        yield f"the summaries stutter: {share}, {usually:.0f} % in the references"
