"""Extractive baselines, which a model should beat, and an oracle that knows the references."""

from collections.abc import Sequence
from random import Random

import regex

from headcount.config.sections.evaluation import Unit
from headcount.evaluation.rouge import F1, Rouge, Text
from headcount.evaluation.sentences import split_paragraphs
from headcount.evaluation.tokenizers import UNSPACED_CHARACTER

RANDOM_SEED = 0  # of random-K: a baseline is the same for all trainings on a data set

_UNSPACED = regex.compile(UNSPACED_CHARACTER, regex.V1)


def units_of(document: str, unit: Unit) -> list[str]:
    """Return the sentences, or the lines, of a document that are not blank, with single blanks
    between words."""
    return [" ".join(text.split()) for text in split_units(document, unit) if text.strip()]


def split_units(document: str, unit: Unit) -> list[str]:
    """Return the sentences, or the lines, of a document with their blanks."""
    return document.splitlines() if unit == "line" else split_paragraphs(document)


def extract(
    baseline: str, document: str, references: Sequence[str], *, unit: Unit, rouge: Rouge
) -> str:
    """Return the summary of a baseline: units of the document in its order, joined by blanks.

    Args:
        baseline: ``lead-K``, the first K units; ``longest-K``, the K units with the most words (of
            equal ones the first); ``random-K``, whose choice depends on the text of the document
            alone; or ``oracle-K``, see ``choose_oracle``.
        document: the document.
        references: the references, which the oracle knows.
        unit: sentence or line.
        rouge: the score that the oracle maximizes.
    """
    kind, number = baseline.split("-")
    units = units_of(document, unit)
    ranked: Sequence[int] = range(len(units))
    if kind == "longest":
        ranked = sorted(ranked, key=lambda index: -count_words(units[index]))
    elif kind == "random":
        ranked = Random(f"{RANDOM_SEED} {document}").sample(ranked, len(ranked))
    elif kind == "oracle":
        ranked = choose_oracle(units, references, int(number), rouge)

    chosen = sorted(ranked[: int(number)])
    return " ".join(units[index] for index in chosen)


def count_words(text: str) -> int:
    """Return the number of words. In scripts without blanks each character counts as a word."""
    if text.isascii():
        return len(text.split())
    return len(_UNSPACED.sub(r" \g<0> ", text).split())


def choose_oracle(
    units: Sequence[str], references: Sequence[str], k: int, rouge: Rouge
) -> list[int]:
    """Choose up to k units greedily, like the labels of Nallapati et al. 2017 ("Extractive
    Training").

    Each step adds the unit that increases ROUGE-1 F1 + ROUGE-2 F1 of the chosen units, in the
    order of the document, the most (of equal ones the first). It stops when no unit increases it.

    Returns:
        The indices of the units in the order of choice.
    """
    reference_texts = [rouge.parse(reference) for reference in references]
    tokens_of_units = [rouge.tokenize(unit) for unit in units]

    def value(indices: list[int]) -> float:
        tokens: list[str] = []
        for index in sorted(indices):
            tokens.extend(tokens_of_units[index])
        return float(rouge.score_ngrams(Text([tokens]), reference_texts)[:, F1].sum())

    chosen: list[int] = []
    best = 0.0
    for _ in range(k):
        candidates = [index for index in range(len(units)) if index not in chosen]
        values = [value([*chosen, index]) for index in candidates]
        if max(values, default=0.0) <= best:
            break
        best = max(values)
        chosen.append(candidates[values.index(best)])
    return chosen
