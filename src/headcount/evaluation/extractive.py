"""Extractive baselines: what a model has to beat, and what no extract of a document can."""

from collections.abc import Sequence
from random import Random

import regex

from headcount.config.sections.evaluation import Unit
from headcount.evaluation.rouge import F1, Rouge, Text
from headcount.evaluation.sentences import split_paragraphs
from headcount.evaluation.tokenizers import UNSPACED_CHARACTER

_UNSPACED = regex.compile(UNSPACED_CHARACTER, regex.V1)


def units_of(document: str, unit: Unit) -> list[str]:
    """Return the sentences, or the lines, of a document that are not blank.

    Blanks within one are single.
    """
    return [" ".join(text.split()) for text in split_units(document, unit) if text.strip()]


def split_units(document: str, unit: Unit) -> list[str]:
    """Return the sentences, or the lines, of a document as they are in it."""
    return document.splitlines() if unit == "line" else split_paragraphs(document)


def extract(
    baseline: str, document: str, references: Sequence[str], *, unit: Unit, rouge: Rouge, seed: int
) -> str:
    """Return some units of a document, in its order, joined by a blank.

    Args:
        baseline: ``lead-K``, the first K units; ``longest-K``, those of the most words, of equals
            the first; ``random-K``; or ``oracle-K``, see ``choose_oracle``.
        document: to take from.
        references: for the oracle.
        unit: what to take.
        rouge: the score that the oracle maximizes.
        seed: of ``random-K``, with the document, so that neither order nor number of the documents
            changes it.
    """
    kind, number = baseline.split("-")
    units = units_of(document, unit)
    ranked: Sequence[int] = range(len(units))
    if kind == "longest":
        ranked = sorted(ranked, key=lambda index: -count_words(units[index]))
    elif kind == "random":
        ranked = Random(f"{seed} {document}").sample(ranked, len(ranked))
    elif kind == "oracle":
        ranked = choose_oracle(units, references, int(number), rouge)

    chosen = sorted(ranked[: int(number)])
    return " ".join(units[index] for index in chosen)


def count_words(text: str) -> int:
    """Return the number of words; of scripts without blanks each character is one."""
    if text.isascii():
        return len(text.split())
    return len(_UNSPACED.sub(r" \g<0> ", text).split())


def choose_oracle(
    units: Sequence[str], references: Sequence[str], k: int, rouge: Rouge
) -> list[int]:
    """Choose up to k units greedily, as Nallapati et al. 2017 ("Extractive Training") make their
    labels.

    Each is the one that adds most to ROUGE-1 F1 + ROUGE-2 F1 of the units chosen, read in the
    document's order, of equals the first. Choosing ends when none adds anything.

    Returns:
        The indices of the units in the order of choice.
    """
    reference_texts = [rouge.read(reference) for reference in references]
    tokens_of_units = [rouge.tokenize(unit) for unit in units]

    def value(indices: list[int]) -> float:
        tokens: list[str] = []
        for index in sorted(indices):
            tokens.extend(tokens_of_units[index])
        return float(rouge.score_ngrams(Text([tokens]), reference_texts)[:, F1].sum())

    chosen: list[int] = []
    best = 0.0
    for _ in range(k):
        left = [index for index in range(len(units)) if index not in chosen]
        values = [value([*chosen, index]) for index in left]
        if max(values, default=0.0) <= best:
            break
        best = max(values)
        chosen.append(left[values.index(best)])
    return chosen
