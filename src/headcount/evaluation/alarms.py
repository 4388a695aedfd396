"""Alarms: one-line warnings about degenerate summaries, which a mean score does not reveal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.bootstrap import RESAMPLES, differences
from headcount.evaluation.systems import EXAMPLE_METRICS, System
from headcount.evaluation.tokenizers import Dropped, measure_dropped

SAME_SHARE = 0.05  # of all summaries are equal, in addition to those of the references
LONG_RATIO = 2.0  # length of the summaries divided by that of the references
SHORT_RATIO = 0.5  # the same
CUT_PERCENT = 10.0  # of the summaries reach the maximum length
REPEATED_PERCENT = 10.0  # of the trigrams are repeated, in addition to those of the references
DROPPED_PERCENT = 1.0  # of the words, or of the letters and digits, of the references are dropped
BLIND_PERCENT = 50.0  # of the letters and digits are dropped: ROUGE says nothing about the texts


def find_alarms(
    model: System,
    shuffled: System,
    baselines: Sequence[System],
    summaries: Sequence[str],
    references: Sequence[Sequence[str]],
    evaluation: EvaluationConfig,
) -> Iterator[str]:
    """Yield a line for each problem of the summaries.

    Args:
        model: scores of the model.
        shuffled: scores of the model when each summary is that of another document.
        baselines: scores of the extractive baselines, and of the human references as the last.
        summaries: the summaries of the model.
        references: the references of each example.
        evaluation: settings of the scores.
    """
    human = baselines[-1]
    dropped = _measure_dropped(references, evaluation)
    if alarm := _describe_dropped(dropped, evaluation):
        yield alarm
    yield from _degenerate(summaries, references)
    # These alarms compare ROUGE, which means nothing if most of the text is dropped.
    if dropped.characters < BLIND_PERCENT:
        yield from _ignored_documents(model, shuffled)
        yield from _below_lead(model, baselines)
    yield from _length(model, human)
    yield from _repetition(model, human)


def find_dropped_text(
    references: Sequence[Sequence[str]], evaluation: EvaluationConfig
) -> str | None:
    """Return the alarm that ROUGE ignores a part of the references; None if it does not."""
    return _describe_dropped(_measure_dropped(references, evaluation), evaluation)


def _measure_dropped(references: Sequence[Sequence[str]], evaluation: EvaluationConfig) -> Dropped:
    texts: list[str] = []
    for of_example in references:
        texts.extend(of_example)
    return measure_dropped(texts, evaluation.tokenizer)


def _describe_dropped(dropped: Dropped, evaluation: EvaluationConfig) -> str | None:
    if max(dropped.words, dropped.characters) <= DROPPED_PERCENT:
        return None
    return (
        f"ROUGE ignores {dropped.words:.1f} % of the words and "
        f"{dropped.characters:.1f} % of the letters and digits of the references: "
        f"evaluation.tokenizer={evaluation.tokenizer} drops them; unicode keeps them"
    )


def _degenerate(summaries: Sequence[str], references: Sequence[Sequence[str]]) -> Iterator[str]:
    total = len(summaries)
    texts = [summary for summary in summaries if summary.strip()]
    if len(texts) < total:
        yield f"{total - len(texts):,} of {total:,} summaries are empty"
    if not texts:
        return

    # Some data sets have the same reference for many documents.
    [(text, number)] = Counter(texts).most_common(1)
    [(_, usual)] = Counter(of_example[0] for of_example in references).most_common(1)
    if number > usual + SAME_SHARE * total:
        yield f"the same summary is generated for {number:,} of {total:,} documents: {text}"


def _ignored_documents(model: System, shuffled: System) -> Iterator[str]:
    # There is no test of one example, nor of scores that are all zero.
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
    if length > LONG_RATIO * usual_length:
        yield f"the summaries are too long: {average}"
    if length < SHORT_RATIO * usual_length:
        yield f"the summaries are too short: {average}"
    if model.mean("cut") > CUT_PERCENT:
        share = f"{model.mean('cut'):.0f} %"
        yield f"{share} of the summaries were cut off at generation.max_tokens"


def _repetition(model: System, human: System) -> Iterator[str]:
    repeated = model.mean("repeated_3grams")
    usual = human.mean("repeated_3grams")
    if repeated > usual + REPEATED_PERCENT:
        share = f"{repeated:.0f} % of their trigrams repeat"
        yield f"the summaries repeat themselves: {share}, {usual:.0f} % in the references"
