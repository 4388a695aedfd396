"""ROUGE between all pairs of a list of texts, for minimum Bayes risk decoding."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headcount.evaluation.tokenizers import Tokenize

Words = tuple[str, ...]  # the tokens of a text


def pairwise_rouge(
    texts: Sequence[str], tokenize: Tokenize, metrics: Sequence[str]
) -> NDArray[np.float64]:
    """Return the ROUGE F1 of each pair of texts, the mean of several metrics.

    It equals the mean of the values of ``Rouge.score`` up to rounding, and is symmetric. Each text
    is tokenized once; shared n-grams are counted by one matrix product, and a longest common
    subsequence is computed for all texts at once.

    Args:
        texts: texts of one line each; equal ones are computed once.
        tokenize: returns the tokens of a text.
        metrics: one or more of rouge1, rouge2 and rougeL.

    Returns:
        A value from 0 to 1 for each pair of texts, [n, n].
    """
    # Samples of a model are often equal.
    words_of_texts = [tuple(tokenize(text)) for text in texts]
    distinct = list(dict.fromkeys(words_of_texts))
    row_of = {words: row for row, words in enumerate(distinct)}

    f1 = np.mean([_pairwise_f1(distinct, metric) for metric in metrics], axis=0)

    rows = [row_of[words] for words in words_of_texts]
    pairs: NDArray[np.float64] = f1[np.ix_(rows, rows)]
    return pairs


def _pairwise_f1(texts: Sequence[Words], metric: str) -> NDArray[np.float64]:
    """Return one metric of each pair of texts, [n, n]."""
    lengths = np.array([len(words) for words in texts])
    if metric == "rougeL":
        return _f1(_longest_common_subsequences(texts), lengths)
    size = {"rouge1": 1, "rouge2": 2}[metric]
    return _f1(_shared_ngrams(texts, size), lengths - size + 1)


def _f1(hits: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 2 x hits / (length + other length), the harmonic mean of precision and recall.

    It is 0 without hits, also for empty texts.
    """
    totals = (lengths[:, None] + lengths).clip(min=1)
    return 2 * hits / totals


def _shared_ngrams(texts: Sequence[Words], size: int) -> NDArray[np.float64]:
    """Return the number of n-grams that each pair of texts shares, with repetitions, [n, n].

    The k-th occurrence of an n-gram is a feature of its own. Then the smaller of two counts is the
    number of shared features, and a product of binary matrices computes it for all pairs.
    """
    # Number the features, and list which text has which.
    columns: dict[Any, int] = {}
    entries = []
    for row, words in enumerate(texts):
        counts: Counter[Words] = Counter()
        for begin in range(len(words) - size + 1):
            ngram = words[begin : begin + size]
            counts[ngram] += 1
            feature = (ngram, counts[ngram])
            entries.append((row, columns.setdefault(feature, len(columns))))

    has_feature = np.zeros((len(texts), len(columns)))
    if entries:
        has_feature[tuple(np.transpose(entries))] = 1.0
    return has_feature @ has_feature.T


def _longest_common_subsequences(texts: Sequence[Words]) -> NDArray[np.float64]:
    """Return the length of the longest common subsequence of each pair of texts, [n, n].

    It is the algorithm of ``rouge.lcs_rows``, with the bits of all texts side by side in one
    integer. An unused bit after each text takes the carry of the addition, which would otherwise
    change the next text.
    """
    # The bits of each text, and the bits at which each word occurs.
    begins = []
    all_ones = 0
    positions: defaultdict[str, int] = defaultdict(int)
    begin = 0
    for words in texts:
        begins.append(begin)
        for offset, word in enumerate(words):
            positions[word] |= 1 << (begin + offset)
        all_ones |= ((1 << len(words)) - 1) << begin
        begin += len(words) + 1

    lengths = np.zeros((len(texts), len(texts)))
    for number, reference in enumerate(texts):
        row = all_ones
        for word in reference:
            matches = row & positions[word]
            row = (row + matches | row - matches) & all_ones

        # The number of zeros of each text is the length of its subsequence with the reference.
        zeros = all_ones & ~row
        for other, words in enumerate(texts):
            in_text = zeros >> begins[other] & ((1 << len(words)) - 1)
            lengths[number, other] = in_text.bit_count()
    return lengths
