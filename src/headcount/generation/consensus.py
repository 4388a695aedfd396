"""Minimum Bayes risk: choose the candidate that agrees best with the others (Kumar and Byrne 2004;
for summarization Suzgun et al. 2023)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from headcount.generation.hypothesis import Hypothesis

# Returns the utility [W, X] of hypothesis W if hypothesis X is the reference. The caller provides
# it: a metric compares texts, and generation has only tokens.
PairwiseUtility = Callable[[Sequence[Hypothesis]], Tensor]


def rank_by_expected_utility(
    candidates: Sequence[Hypothesis], utility: PairwiseUtility
) -> list[Hypothesis]:
    """Rank the candidates of one document by their expected utility, the highest first.

    The reference that a candidate would be judged by is unknown. The other candidates stand in for
    it, each with equal weight: they are draws from what the model believes. The expected utility
    of a candidate is its mean utility against the others, and the candidate that maximizes it
    minimizes the Bayes risk.

    A text that occurs several times among the candidates counts as often as a reference, and is
    returned once. Ties keep the order of the candidates. The cost is that of the utility,
    quadratic in the number of candidates.

    Args:
        candidates: of one document, at least one.
        utility: the utility to maximize.

    Returns:
        The distinct candidates. Scores are expected utilities; 0 for a single candidate.
    """
    utility_WX = utility(candidates)
    others = max(1, len(candidates) - 1)
    expected_W = (utility_WX.sum(1) - utility_WX.diagonal()) / others

    ranked: dict[tuple[int, ...], Hypothesis] = {}
    for index in expected_W.argsort(descending=True, stable=True).tolist():
        candidate = candidates[index]
        scored = replace(candidate, score=float(expected_W[index]))
        ranked.setdefault(tuple(candidate.tokens), scored)
    return list(ranked.values())
