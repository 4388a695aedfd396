"""Alarms: one-line warnings about degenerate summaries, which a mean score does not reveal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite

import numpy as np
import regex

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.bootstrap import RESAMPLES, differences
from headcount.evaluation.corpus_metrics import make_corpus_metrics
from headcount.evaluation.systems import EXAMPLE_METRICS, System
from headcount.evaluation.tokenizers import (
    UNSPACED_CHARACTER,
    Dropped,
    measure_dropped,
    tokenize_characters,
)
from headcount.wording import count_nouns

SAME_SHARE = 0.05  # of all summaries are equal, in addition to those of the references
LONG_RATIO = 2.0  # length of the summaries divided by that of the references
SHORT_RATIO = 0.5  # the same
CUT_PERCENT = 10.0  # of the summaries reach the maximum length
REPEATED_PERCENT = 10.0  # of the trigrams are repeated, in addition to those of the references
DROPPED_PERCENT = 1.0  # of the words, or of the letters and digits, of the references are dropped
BLIND_PERCENT = 50.0  # of the letters and digits, or of the references, have no token
SYMBOLS_PERCENT = 1.0  # of the references have no letter or digit
UNSPACED_PERCENT = 10.0  # of the letters and digits are of scripts without blanks between words

_UNSPACED = regex.compile(UNSPACED_CHARACTER, regex.V1)
_HAN = regex.compile(r"\p{Han}")


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
    texts = _flatten(references)
    dropped = measure_dropped(texts, evaluation.tokenizer)
    yield from find_unscored_text(references, evaluation)
    yield from _degenerate(summaries, references)
    # These alarms compare ROUGE, which means nothing if most of the text is dropped.
    if max(dropped.characters, _symbols_percent(texts)) < BLIND_PERCENT:
        yield from _ignored_documents(model, shuffled)
        yield from _below_lead(model, baselines)
    yield from _length(model, human)
    yield from _repetition(model, human)


def find_unscored_text(
    references: Sequence[Sequence[str]], evaluation: EvaluationConfig
) -> Iterator[str]:
    """Yield an alarm for each reason why a metric ignores a part of the references."""
    texts = _flatten(references)
    alarms = (
        _describe_dropped(measure_dropped(texts, evaluation.tokenizer), evaluation),
        _describe_symbols(texts, evaluation),
        _describe_unspaced(texts, evaluation),
    )
    yield from (alarm for alarm in alarms if alarm)


def _flatten(references: Sequence[Sequence[str]]) -> list[str]:
    texts: list[str] = []
    for of_example in references:
        texts.extend(of_example)
    return texts


def _describe_dropped(dropped: Dropped, evaluation: EvaluationConfig) -> str | None:
    if max(dropped.words, dropped.characters) <= DROPPED_PERCENT:
        return None
    return (
        f"ROUGE ignores {dropped.words:.1f} % of the words and "
        f"{dropped.characters:.1f} % of the letters and digits of the references: "
        f"evaluation.tokenizer={evaluation.tokenizer} drops them; unicode keeps them"
    )


def _symbols_percent(texts: Sequence[str]) -> float:
    """Return the share of texts without a letter or digit, in %: no tokenizer of ROUGE keeps
    anything of them."""
    filled = [text for text in texts if text.strip()]
    symbols = sum(not tokenize_characters(text) for text in filled)
    return 100 * symbols / max(1, len(filled))


def _describe_symbols(texts: Sequence[str], evaluation: EvaluationConfig) -> str | None:
    percent = _symbols_percent(texts)
    if percent <= SYMBOLS_PERCENT:
        return None
    if "chrf" in make_corpus_metrics(evaluation):
        remedy = "chrF compares them"
    else:
        remedy = f"evaluation.metrics=[{','.join([*evaluation.metrics, 'chrf'])}] compares them"
    return (
        f"{percent:.1f} % of the references have no letter or digit: their ROUGE is 0 with any "
        f"evaluation.tokenizer; {remedy}"
    )


def _describe_unspaced(texts: Sequence[str], evaluation: EvaluationConfig) -> str | None:
    """Return the alarm that BLEU takes sentences for words; None if it does not."""
    tokenizer = evaluation.bleu_tokenizer
    if tokenizer == "char" or "bleu" not in make_corpus_metrics(evaluation):
        return None
    letters = 0
    unspaced = 0
    for text in texts:
        letters += len(tokenize_characters(text))
        characters = _UNSPACED.findall(text)
        # The tokenizer for Chinese separates Chinese characters only.
        if tokenizer == "zh":
            characters = [character for character in characters if not _HAN.match(character)]
        unspaced += len(characters)

    percent = 100 * unspaced / max(1, letters)
    if percent <= UNSPACED_PERCENT:
        return None
    legal = "char makes" if tokenizer == "zh" else "zh, for Chinese, and char make"
    return (
        f"BLEU takes phrases for words: {percent:.1f} % of the letters and digits of the "
        "references are of scripts without blanks between words, which "
        f"evaluation.bleu_tokenizer={tokenizer} does not separate; {legal} each character a word"
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

    # That the interval contains zero proves nothing: a few examples may be too few to show it.
    if gain.low <= 0:
        are_known = np.isfinite(model.values[:, column] - shuffled.values[:, column])
        examples = count_nouns(int(are_known.sum()), "example")
        yield (
            f"no dependence of the summaries on the documents could be shown with {examples}: "
            f"ROUGE-1 is {model.mean('rouge1'):.2f}, and {shuffled.mean('rouge1'):.2f} when the "
            f"documents are shuffled, a difference of {gain.mean:+.2f} [{gain.low:+.2f}, "
            f"{gain.high:+.2f}]"
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
