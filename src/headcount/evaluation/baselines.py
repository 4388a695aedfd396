"""Summaries that take no learning: what a model has to beat."""

import re

from headcount.config import Unit

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'`*(\[])|\n\s*\n")


def lead(document: str, unit: Unit) -> str:
    """Return the first sentence, or the first line that is not blank, of a document."""
    units = document.splitlines() if unit == "line" else SENTENCE_END.split(document)
    return next((" ".join(text.split()) for text in units if text.strip()), "")
