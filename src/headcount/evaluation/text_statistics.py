"""Statistics of a summary that ROUGE does not measure: length, novelty, repetition, copying.

Words are lower-cased runs of word characters; in scripts without blanks between words each
character is a word. A statistic that is not defined for a summary, such as the share of novel
trigrams in two words, is NaN.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import nan

import regex

from headcount.evaluation.tokenizers import UNSPACED, UNSPACED_CHARACTER

SIZES = (1, 2, 3, 4)  # of n-grams
TEXT_STATISTICS = (
    "words",
    "compression",
    *(f"novel_{n}grams" for n in SIZES),
    *(f"repeated_{n}grams" for n in SIZES),
    "coverage",
    "density",
    "empty",
)
_WORD = regex.compile(rf"{UNSPACED_CHARACTER}|[[\p{{L}}\p{{N}}\p{{M}}_]--[{UNSPACED}]]+", regex.V1)


def describe(summary: str, document: str) -> list[float]:
    """Return the statistics of one summary.

    Returns:
        In the order of ``TEXT_STATISTICS``:
        ``words``: its length in words.
        ``compression``: words of the document per word of the summary.
        ``novel``: % of its distinct n-grams that are not in the document (See et al. 2017,
        figure 6).
        ``repeated``: % of its n-grams that are repetitions of an earlier one (figure 4).
        ``coverage``: % of its words that are in fragments copied from the document.
        ``density``: mean over its words of the length, in words, of the fragment that the word is
        in; 0 for a word in no fragment (both Grusky et al. 2018).
        ``empty``: 100 for a summary without words, else 0.
    """
    words = words_of(summary)
    document_words = words_of(document)

    # Novel and repeated n-grams.
    novel = []
    repeated = []
    for n in SIZES:
        ngrams = ngrams_of(words, n)
        distinct = set(ngrams)
        new = distinct.difference(ngrams_of(document_words, n))
        novel.append(_percent(len(new), len(distinct)))
        repeated.append(_percent(len(ngrams) - len(distinct), len(ngrams)))

    # Fragments that the summary has in common with the document.
    lengths = fragment_lengths(words, document_words)
    coverage = _percent(sum(lengths), len(words))
    compression = nan
    density = nan
    if words:
        compression = len(document_words) / len(words)
        density = sum(length**2 for length in lengths) / len(words)
    empty = 0.0 if words else 100.0
    return [len(words), compression, *novel, *repeated, coverage, density, empty]


def fragment_lengths(summary: Sequence[str], document: Sequence[str]) -> list[int]:
    """Return the lengths of the extractive fragments of a summary (Grusky et al. 2018, figure 3).

    The summary is read from left to right; each fragment is the longest one at its position that
    the paper's greedy procedure finds. After a match that procedure continues behind it in the
    document, so it may miss a longer one that overlaps.
    """
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, word in enumerate(document):
        positions[word].append(position)

    lengths = []
    begin = 0
    while begin < len(summary):
        longest = 0
        resume = 0
        for position in positions[summary[begin]]:
            if position >= resume:
                length = _common_prefix(summary, begin, document, position)
                longest = max(longest, length)
                resume = position + length
        if longest:
            lengths.append(longest)
        begin += max(longest, 1)
    return lengths


def _common_prefix(
    summary: Sequence[str], begin: int, document: Sequence[str], position: int
) -> int:
    """Return the number of equal words from ``begin`` of the summary and ``position`` of the
    document."""
    limit = min(len(summary) - begin, len(document) - position)
    length = 0
    while length < limit and summary[begin + length] == document[position + length]:
        length += 1
    return length


def words_of(text: str) -> list[str]:
    """Return the words of a text."""
    words: list[str] = _WORD.findall(text.lower())
    return words


def ngrams_of(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Return the n-grams of a sequence of words, in its order."""
    return list(zip(*(words[skip:] for skip in range(n)), strict=False))


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else nan
