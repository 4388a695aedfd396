"""ROUGE (Lin 2004), equal to the ``rouge-score`` package to the last digit and several times as
fast.

With the tokenizer ``rouge-score``, tokenization and arithmetic are those of the package. It is
faster because each word is stemmed once, and because a row of the table for the longest common
subsequence is one integer.

Read it in this order: ``Text`` is a tokenized text, ``Rouge`` scores a summary against its
references, the functions below compare one pair of texts.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rouge_score.scoring import fmeasure

from headcount.config.sections.evaluation import (
    EvaluationConfig,
    ReferenceRule,
    RougeTokenizer,
    SentenceRule,
)
from headcount.evaluation.sentences import split_lines
from headcount.evaluation.tokenizers import make_tokenizer

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ROUGE_TITLES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
}
MEASURES = ("precision", "recall", "f1")
F1 = MEASURES.index("f1")

Score = tuple[float, float, float]  # MEASURES of one type, from 0 to 1
Scores = NDArray[np.float64]  # those of several types: (types, MEASURES)


class Text:
    """A tokenized text and its n-grams.

    Attributes:
        sentences: the tokens of each sentence; sentences without tokens are left out.
        tokens: the tokens of all sentences.
        ngrams: the counts of unigrams and of bigrams, which may cross sentences.
    """

    def __init__(self, sentences: list[list[str]]) -> None:
        self.sentences = sentences
        self.tokens: list[str] = []
        for sentence in sentences:
            self.tokens.extend(sentence)
        self.ngrams: tuple[Counter[str], Counter[tuple[str, str]]] = (
            Counter(self.tokens),
            Counter(zip(self.tokens, self.tokens[1:], strict=False)),
        )


class Rouge:
    """Scores summaries against one or more references.

    Args:
        rule: how the scores against several references are combined. ``mean`` averages them.
            ``max`` selects for each ROUGE type the reference with the highest F1, as
            ``RougeScorer.score_multi`` does. ``best-by-rouge1`` selects for all types the
            reference with the highest ROUGE-1 F1, as for SciTLDR (Cachola et al. 2020).
        tokenizer: see ``tokenizers``.
        sentences: sentences of ROUGE-Lsum: lines (``newline``), as in ``rouge-score``, or those of
            ``split_lines`` (``split``), as in published results.
    """

    def __init__(
        self, *, rule: ReferenceRule, tokenizer: RougeTokenizer, sentences: SentenceRule
    ) -> None:
        self.rule = rule
        self.tokenizer = tokenizer
        self.sentences = sentences

    @classmethod
    def from_config(cls, evaluation: EvaluationConfig) -> "Rouge":
        """Return the scorer of a config."""
        return cls(
            rule=evaluation.references,
            tokenizer=evaluation.tokenizer,
            sentences=evaluation.sentences,
        )

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text; line breaks are treated as blanks."""
        return make_tokenizer(self.tokenizer)(text)

    def parse(self, text: str) -> Text:
        """Split a text into sentences and tokens."""
        sentences = text.split("\n") if self.sentences == "newline" else split_lines(text)
        tokens_of_sentences = map(self.tokenize, sentences)
        return Text([tokens for tokens in tokens_of_sentences if tokens])

    def score(self, summary: str, references: Sequence[str]) -> list[float]:
        """Return the F1 of each of ``ROUGE_TYPES``, from 0 to 1."""
        scores = self.score_texts(self.parse(summary), [self.parse(text) for text in references])
        return [float(f1) for f1 in scores[:, F1]]

    def score_texts(self, summary: Text, references: Sequence[Text]) -> Scores:
        """Return precision, recall and F1 of each of ``ROUGE_TYPES``, from 0 to 1."""
        return self._combine(
            [_ngram_scores(summary, r) + _subsequence_scores(summary, r) for r in references]
        )

    def score_ngrams(self, summary: Text, references: Sequence[Text]) -> Scores:
        """Return precision, recall and F1 of ROUGE-1 and ROUGE-2, which are faster to compute."""
        return self._combine([_ngram_scores(summary, r) for r in references])

    def _combine(self, of_references: list[list[Score]]) -> Scores:
        scores = np.array(of_references)  # (references, types, MEASURES)
        if self.rule == "mean":
            return scores.mean(0)

        # For each type the first of the references with the highest F1.
        best = scores[..., F1].argmax(0)
        if self.rule == "best-by-rouge1":
            best[:] = best[0]
        return scores[best, range(len(best))]


def _ngram_scores(summary: Text, reference: Text) -> list[Score]:
    """Return the scores of ROUGE-1 and ROUGE-2 (Lin 2004, section 2)."""
    length = len(summary.tokens)
    reference_length = len(reference.tokens)
    unigrams = _overlap(summary.ngrams[0], reference.ngrams[0])
    bigrams = _overlap(summary.ngrams[1], reference.ngrams[1])
    return [
        _rates(unigrams, length, reference_length),
        _rates(bigrams, length - 1, reference_length - 1),
    ]


def _overlap(counts: Counter[Any], others: Counter[Any]) -> int:
    """Return the number of n-grams in common, each as often as it occurs in both."""
    return sum(min(count, others[ngram]) for ngram, count in counts.items() if ngram in others)


def _subsequence_scores(summary: Text, reference: Text) -> list[Score]:
    """Return the scores of ROUGE-L and ROUGE-Lsum (Lin 2004, section 3)."""
    length = len(summary.tokens)
    reference_length = len(reference.tokens)
    # Only the last row of the table is needed for the length.
    [last_row] = deque(lcs_rows(reference.tokens, summary.tokens), maxlen=1)
    longest = _entry(last_row, length)

    # With one sentence on each side ROUGE-Lsum is ROUGE-L.
    union = longest
    if len(summary.sentences) > 1 or len(reference.sentences) > 1:
        union = _union_hits(summary, reference)
    return [_rates(longest, length, reference_length), _rates(union, length, reference_length)]


def _rates(hits: int, summary_length: int, reference_length: int) -> Score:
    precision = hits / max(summary_length, 1)
    recall = hits / max(reference_length, 1)
    return precision, recall, fmeasure(precision, recall)


def lcs_rows(reference: Sequence[str], summary: Sequence[str]) -> Iterator[int]:
    """Yield the rows of the table whose entry (i, j) is the length of the longest common
    subsequence of the first i and j tokens.

    A row is one integer, so that an addition and bitwise operations fill it at once (Hyyrö 2004,
    "Bit-Parallel LCS-Length Computation Revisited"): bit j of row i is 0 where entry (i, j + 1)
    exceeds entry (i, j).
    """
    # Bit j of the positions of a token is 1 if it is token j of the summary.
    positions: defaultdict[str, int] = defaultdict(int)
    for position, token in enumerate(summary):
        positions[token] |= 1 << position

    all_ones = (1 << len(summary)) - 1
    row = all_ones
    yield row
    for token in reference:
        matches = row & positions[token]
        row = (row + matches | row - matches) & all_ones
        yield row


def _entry(row: int, j: int) -> int:
    """Return entry j of a row of the table: the number of zeros in its first j bits."""
    return j - (row & ((1 << j) - 1)).bit_count()


def _union_hits(summary: Text, reference: Text) -> int:
    """Count the hits of ROUGE-Lsum (Lin 2004, section 3.2).

    The hits of a sentence of the reference are the union of its longest common subsequences with
    all sentences of the summary. A token is a hit at most as often as it occurs in either text.
    """
    remaining = reference.ngrams[0] & summary.ngrams[0]
    hits = 0
    for sentence in reference.sentences:
        union: set[int] = set()
        for other in summary.sentences:
            union.update(_lcs(sentence, other))

        for position in union:
            token = sentence[position]
            hits += remaining[token] > 0
            remaining[token] -= 1
    return hits


def _lcs(reference: Sequence[str], summary: Sequence[str]) -> list[int]:
    """Return the positions in the reference of the tokens of a longest common subsequence.

    If there are several, it is the one that ``rouge-score`` finds.
    """
    # Trace the table back from its last entry; ties are resolved as in ``rouge-score``.
    table = list(lcs_rows(reference, summary))
    i = len(reference)
    j = len(summary)
    positions = []
    while i and j:
        if reference[i - 1] == summary[j - 1]:
            i -= 1
            j -= 1
            positions.append(i)
        elif _entry(table[i], j - 1) > _entry(table[i - 1], j):
            j -= 1
        else:
            i -= 1
    return positions
