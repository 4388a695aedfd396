"""Phrases of the sentences that reports are made of: enumerations and counts."""

from collections.abc import Sequence


def join_words(words: Sequence[str], conjunction: str = "and") -> str:
    """Return an enumeration: ``a``, ``a and b``, ``a, b and c``; nothing without words."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def count_nouns(number: int, noun: str) -> str:
    """Return a number with its noun, whose plural ends with an s: ``1 head``, ``1,200 heads``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
