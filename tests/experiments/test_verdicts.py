from typing import get_args

import pytest

from headcount.experiments.report.statistics import CellComparison, StudyEstimate
from headcount.experiments.verdicts import COLORS, SYMBOLS, WORDS, Verdict


def comparison(mean: float, p: float, equivalence_p: float | None, seeds: int | None = None):
    estimate = StudyEstimate(mean=mean, low=mean - 1, high=mean + 1, sd=1, seeds=3, examples=10)
    return CellComparison(
        difference=estimate,
        p=p,
        corrected_p=p,
        detectable=1,
        margin=0.5,
        equivalence_p=equivalence_p,
        corrected_equivalence_p=equivalence_p,
        seeds_to_decide=seeds,
    )


@pytest.mark.parametrize(
    ("mean", "p", "equivalence_p", "verdict"),
    [
        (2, 0.049, None, "better"),
        (-2, 0.049, 0.9, "worse"),
        (2, 0.05, 0.05, "undecided"),
        (0.1, 0.9, 0.049, "equal within the margin"),
        (0.1, 0.001, 0.049, "equal within the margin"),
        (0.1, 0.9, None, "undecided"),
    ],
)
def test_verdicts(mean: float, p: float, equivalence_p: float | None, verdict: str) -> None:
    assert comparison(mean, p, equivalence_p).verdict == verdict


def test_every_verdict_has_a_word_a_symbol_and_a_colour() -> None:
    verdicts = get_args(Verdict)
    for shown in (WORDS, SYMBOLS, COLORS):
        assert set(shown) == set(verdicts) and len(set(shown.values())) == len(verdicts)
