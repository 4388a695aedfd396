"""The choice by expected utility, worked out by hand."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.rouge import Rouge
from headcount.generation.consensus import rank_by_expected_utility
from headcount.generation.hypothesis import Hypothesis

TEXTS = {
    1: "the cat sat on the mat",
    2: "the cat sat on a mat",
    3: "a dog ran away",
    4: "the cat sat",
}


def candidates(*numbers: int) -> list[Hypothesis]:
    """Hypotheses of one token, which stands for a text; scores are not used."""
    return [Hypothesis([number], score=-float(number), finished=True) for number in numbers]


def rouge(hypotheses: Sequence[Hypothesis]) -> Tensor:
    """The mean of ROUGE-1, ROUGE-2 and ROUGE-L of each text against each."""
    texts = [TEXTS[each.tokens[0]] for each in hypotheses]
    rows = [
        [sum(Rouge.from_config(EvaluationConfig()).score(one, [other])[:3]) / 3 for other in texts]
        for one in texts
    ]
    return torch.tensor(rows, dtype=torch.float64)


def test_expected_rouge_by_hand() -> None:
    """Of the first text: with the second ROUGE-1 and ROUGE-L are 5/6 and ROUGE-2 3/5, with the
    third all are 0, with the fourth 6/9, 4/7 and 6/9."""
    with_second = (5 / 6 + 3 / 5 + 5 / 6) / 3
    with_fourth = (6 / 9 + 4 / 7 + 6 / 9) / 3
    ranked = rank_by_expected_utility(candidates(1, 2, 3, 4), rouge)
    score_of = {each.tokens[0]: each.score for each in ranked}
    assert score_of[1] == pytest.approx((with_second + 0 + with_fourth) / 3)
    assert [each.tokens[0] for each in ranked] == [2, 1, 4, 3]
    assert all(each.finished for each in ranked)


def test_a_repeated_candidate_has_more_weight_and_is_returned_once() -> None:
    ranked = rank_by_expected_utility(candidates(1, 3, 2, 3, 3), rouge)
    assert [each.tokens[0] for each in ranked][0] == 3
    assert sorted(each.tokens[0] for each in ranked) == [1, 2, 3]
    assert ranked[0].score > 2 / 4  # it agrees fully with two of the four others


def test_ties_keep_the_order_of_the_candidates() -> None:
    def alike(hypotheses: Sequence[Hypothesis]) -> Tensor:
        return torch.eye(len(hypotheses))

    ranked = rank_by_expected_utility(candidates(*range(40)), alike)
    assert [each.tokens[0] for each in ranked] == list(range(40))
    assert {each.score for each in ranked} == {0.0}


def test_an_only_candidate_is_chosen() -> None:
    [only] = rank_by_expected_utility(candidates(1), rouge)
    assert only.tokens == [1] and only.score == 0
