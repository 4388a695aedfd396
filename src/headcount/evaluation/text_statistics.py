"""What ROUGE does not see: length, novelty, repetition, copying.

Words are lower-cased runs of word characters. A figure that a summary cannot have, such as the
novel trigrams of two words, is NaN.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from math import nan

SIZES = (1, 2, 3, 4)  # of n-grams
BEYOND_ROUGE = (
    "words",
    "compression",
    *(f"novel_{n}grams" for n in SIZES),
    *(f"repeated_{n}grams" for n in SIZES),
    "coverage",
    "density",
    "empty",
)


def describe(summary: str, document: str) -> list[float]:
    """Return the figures of one summary, in the order of BEYOND_ROUGE.

    Returns:
        ``words``: the length in words. ``compression``: words of the document for each of the
            summary. ``novel``: % of
        the distinct n-grams that are nowhere in the document (See et al. 2017, figure 6).
        ``repeated``: % of the n-grams that stand in the summary before (figure 4). ``coverage``: %
        of the words that are in fragments of the document. ``density``: length in words of the
        fragment that a word is in, on average; 0 for one in none (both Grusky et al. 2018).
        ``empty``: 100 for a summary without words, else 0.
    """
    words, source = _words(summary), _words(document)
    novel, repeated = [], []
    for n in SIZES:
        ngrams = _ngrams(words, n)
        distinct = set(ngrams)
        novel.append(_percent(len(distinct.difference(_ngrams(source, n))), len(distinct)))
        repeated.append(_percent(len(ngrams) - len(distinct), len(ngrams)))
    lengths = fragment_lengths(words, source)
    compression, density = nan, nan
    if words:
        compression = len(source) / len(words)
        density = sum(length**2 for length in lengths) / len(words)
    coverage = _percent(sum(lengths), len(words))
    return [len(words), compression, *novel, *repeated, coverage, density, 0.0 if words else 100.0]


def fragment_lengths(summary: Sequence[str], document: Sequence[str]) -> list[int]:
    """Return the lengths of the fragments that a summary shares with its document (Grusky et al.
    2018).

    From left to right each is the longest that the paper's procedure meets: after a match it looks
    on where that ends.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(document):
        places[word].append(place)
    lengths, begin = [], 0
    while begin < len(summary):
        longest, resume = 0, 0
        for place in places[summary[begin]]:
            if place >= resume:
                length = _common_prefix(summary, begin, document, place)
                longest, resume = max(longest, length), place + length
        if longest:
            lengths.append(longest)
        begin += max(longest, 1)
    return lengths


def _common_prefix(summary: Sequence[str], begin: int, document: Sequence[str], place: int) -> int:
    most = min(len(summary) - begin, len(document) - place)
    return next(
        (length for length in range(most) if summary[begin + length] != document[place + length]),
        most,
    )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[skip:] for skip in range(n)), strict=False))


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else nan
