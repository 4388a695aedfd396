"""Summaries that take no learning.

What a model has to beat, and what no extract of a document can.
"""

import re
from collections.abc import Sequence
from random import Random

from headcount.config.schema import ReferenceRule, Unit
from headcount.evaluation.rouge import F1, Rouge, Text, stems

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'`*(\[])|\n\s*\n")


def units_of(document: str, unit: Unit) -> list[str]:
    """Return the sentences, or the lines, of a document that are not blank.

    Blanks within one are single.
    """
    units = document.splitlines() if unit == "line" else SENTENCE_END.split(document)
    return [" ".join(text.split()) for text in units if text.strip()]


def extract(
    baseline: str,
    document: str,
    references: Sequence[str],
    *,
    unit: Unit,
    rule: ReferenceRule,
    seed: int,
) -> str:
    """Return some units of a document, in its order, joined by a blank.

    Args:
        baseline: ``lead-K``, the first K units; ``longest-K``, those of the most words, the first
            of equals; ``random-K``; or ``oracle-K``, see ``choose_oracle``.
        document: to take from.
        references: for the oracle.
        unit: what to take.
        rule: what several references make of the oracle's score.
        seed: of ``random-K``, with the document, so that neither order nor number of the documents
            changes it.
    """
    kind, number = baseline.split("-")
    units, k = units_of(document, unit), int(number)
    places: Sequence[int] = range(len(units))
    if kind == "longest":
        places = sorted(places, key=lambda place: -len(units[place].split()))
    elif kind == "random":
        places = Random(f"{seed} {document}").sample(places, len(places))
    elif kind == "oracle":
        places = choose_oracle(units, references, k, rule)
    return " ".join(units[place] for place in sorted(places[:k]))


def choose_oracle(
    units: Sequence[str], references: Sequence[str], k: int, rule: ReferenceRule
) -> list[int]:
    """Choose up to k units greedily (as Nallapati et al. 2017, "Extractive Training", make their
    labels).

    Each is the one that adds most to ROUGE-1 F1 + ROUGE-2 F1 of the units chosen, read in the
    document's order, the first of equals; when none adds, that is all.
    """
    rouge, texts, words = (
        Rouge(rule),
        [Text.of(reference) for reference in references],
        [stems(u) for u in units],
    )

    def value(places: list[int]) -> float:
        summary = Text([[word for place in sorted(places) for word in words[place]]])
        return float(rouge.score_ngrams(summary, texts)[:, F1].sum())

    chosen: list[int] = []
    best = 0.0
    for _ in range(k):
        left = [place for place in range(len(units)) if place not in chosen]
        values = [value([*chosen, place]) for place in left]
        if max(values, default=0.0) <= best:
            break
        best = max(values)
        chosen.append(left[values.index(best)])
    return chosen
