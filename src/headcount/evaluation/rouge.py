"""ROUGE (Lin 2004) with the figures of the ``rouge-score`` package, to the last digit, several
times as fast.

Tokens, stems and arithmetic are the package's own. Two things make the difference: a word is
stemmed once, and the table of a longest common subsequence is kept as one integer a row.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from nltk.stem.porter import PorterStemmer
from numpy.typing import NDArray
from rouge_score.scoring import fmeasure
from rouge_score.tokenize import tokenize

from headcount.config.schema import ReferenceRule
from headcount.evaluation.bootstrap import RESAMPLES, SEED

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
MEASURES = ("precision", "recall", "f1")
F1 = MEASURES.index("f1")

Score = tuple[float, float, float]  # MEASURES of one type, fractions of 1
Scores = NDArray[np.float64]  # the same for several types: (types, MEASURES)


def signature(references: Sequence[Sequence[str]], rule: ReferenceRule) -> str:
    """Say how scores are made, so that they can be compared, in the form of sacrebleu's signatures
    (Post 2018)."""
    counts = {len(texts) for texts in references}
    number = min(counts) if len(counts) == 1 else "var"
    return (
        f"rouge-score:{version('rouge-score')}|nrefs:{number}|references:{rule}|stemmer:porter|sentences:newline"
        f"|bootstrap:{RESAMPLES}|seed:{SEED}"
    )


class _Stemmer:
    """Porter's stemmer, which remembers."""

    stem = staticmethod(lru_cache(2**18)(PorterStemmer().stem))


def stems(text: str) -> list[str]:
    """Return the stems of a text.

    Whatever stands between words parts them, be it a blank or a line break.
    """
    words: list[str] = tokenize(text, _Stemmer)
    return words


class Text:
    """A text as ROUGE sees it.

    Attributes:
        lines: the stems of each line that has any; ``rouge-score`` takes a line for a sentence.
        words: all of them.
        ngrams: the counts of the words, and of the pairs of neighbours.
    """

    def __init__(self, lines: list[list[str]]) -> None:
        """Count what stands on some lines."""
        self.lines = lines
        self.words = [word for line in lines for word in line]
        self.ngrams: tuple[Counter[str], Counter[tuple[str, str]]] = (
            Counter(self.words),
            Counter(zip(self.words, self.words[1:], strict=False)),
        )

    @classmethod
    def of(cls, text: str) -> "Text":
        """Read a text."""
        return cls([line for line in map(stems, text.split("\n")) if line])


class Rouge:
    """Scores summaries against one or more references."""

    def __init__(self, rule: ReferenceRule = "mean") -> None:
        """Take the rule.

        Args:
            rule: what several references make of a score: ``mean`` over them; ``max``, for each
                ROUGE type that of the reference with the highest F1, as
                ``RougeScorer.score_multi`` has it; ``best-by-rouge1``, for all types that of the
                reference with the highest ROUGE-1 F1, as in SciTLDR (Cachola et al. 2020).
        """
        self.rule = rule

    def score(self, summary: str, references: Sequence[str]) -> list[float]:
        """Return the F1 of each of ROUGE_TYPES, as a fraction of 1."""
        return [
            float(f1)
            for f1 in self.score_texts(Text.of(summary), list(map(Text.of, references)))[:, F1]
        ]

    def score_texts(self, summary: Text, references: Sequence[Text]) -> Scores:
        """Return precision, recall and F1 of each of ROUGE_TYPES."""
        return self._combine(
            [_ngram_scores(summary, r) + _subsequence_scores(summary, r) for r in references]
        )

    def score_ngrams(self, summary: Text, references: Sequence[Text]) -> Scores:
        """Return precision, recall and F1 of ROUGE-1 and ROUGE-2, which are the quick ones."""
        return self._combine([_ngram_scores(summary, r) for r in references])

    def _combine(self, of_references: list[list[Score]]) -> Scores:
        scores = np.array(of_references)  # (references, types, MEASURES)
        if self.rule == "mean":
            return scores.mean(0)
        best = scores[..., F1].argmax(0)  # for each type the first of the best references
        if self.rule == "best-by-rouge1":
            best[:] = best[0]
        return scores[best, range(len(best))]


def _ngram_scores(summary: Text, reference: Text) -> list[Score]:
    (words, pairs), (other_words, other_pairs) = summary.ngrams, reference.ngrams
    lengths = len(summary.words), len(reference.words)
    return [
        _rates(_overlap(words, other_words), *lengths),
        _rates(_overlap(pairs, other_pairs), *(length - 1 for length in lengths)),
    ]


def _overlap(counts: Counter[Any], others: Counter[Any]) -> int:
    return sum(min(count, others[ngram]) for ngram, count in counts.items() if ngram in others)


def _subsequence_scores(summary: Text, reference: Text) -> list[Score]:
    lengths = len(summary.words), len(reference.words)
    [last_row] = deque(lcs_rows(reference.words, summary.words), maxlen=1)
    longest = _entry(last_row, len(summary.words))
    one_line = len(summary.lines) <= 1 and len(reference.lines) <= 1
    return [
        _rates(hits, *lengths)
        for hits in (longest, longest if one_line else _union_hits(summary, reference))
    ]


def _rates(hits: int, summary_length: int, reference_length: int) -> Score:
    precision, recall = hits / max(summary_length, 1), hits / max(reference_length, 1)
    return precision, recall, fmeasure(precision, recall)


def lcs_rows(reference: Sequence[str], summary: Sequence[str]) -> Iterator[int]:
    """Yield the rows of the table whose entry (i, j) is the longest common subsequence of the
    first i and j words.

    A row is one integer, so that an addition and bitwise operations fill it at once (Hyyrö 2004,
    "Bit-Parallel LCS-Length Computation Revisited"): bit j of row i is 0 where entry (i, j + 1)
    exceeds entry (i, j).
    """
    places: defaultdict[str, int] = defaultdict(int)
    for place, word in enumerate(summary):
        places[word] |= 1 << place
    row = every = (1 << len(summary)) - 1
    yield row
    for word in reference:
        met = row & places[word]
        row = (row + met | row - met) & every
        yield row


def _entry(row: int, j: int) -> int:
    return j - (row & ((1 << j) - 1)).bit_count()


def _union_hits(summary: Text, reference: Text) -> int:
    """Count the hits of ROUGE-Lsum (Lin 2004, section 3.2).

    A word counts no more often than each text has it.
    """
    left = reference.ngrams[0] & summary.ngrams[0]
    hits = 0
    for line in reference.lines:
        union = {place for other in summary.lines for place in _lcs(line, other)}
        for word in (line[place] for place in union):
            hits += left[word] > 0
            left[word] -= 1
    return hits


def _lcs(reference: Sequence[str], summary: Sequence[str]) -> list[int]:
    """Return where in the reference the longest common subsequence is.

    Of several that which ``rouge-score`` takes.
    """
    table = list(lcs_rows(reference, summary))
    i, j = len(reference), len(summary)
    places = []
    while i and j:
        if reference[i - 1] == summary[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif _entry(table[i], j - 1) > _entry(table[i - 1], j):
            j -= 1
        else:
            i -= 1
    return places
