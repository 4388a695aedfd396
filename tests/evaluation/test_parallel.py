import os

import pytest

from headcount.evaluation import parallel
from headcount.evaluation.parallel import map_examples
from headcount.evaluation.rouge import Rouge


def where(number: int, text: str) -> tuple[int, str, int]:
    return number, text, os.getpid()


@pytest.mark.parametrize(("share", "shared_out"), [(100, False), (5, True)])
def test_results_are_in_order_wherever_they_are_made(
    share: int, shared_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "CHUNK", share)
    numbers = list(range(20))
    results = map_examples(where, numbers, [str(number) for number in numbers])
    assert [result[:2] for result in results] == [(number, str(number)) for number in numbers]
    assert ({os.getpid()} != {result[2] for result in results}) == shared_out


def test_scores_are_the_same_wherever_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    summaries, references = (
        ["a cat sat", "", "running"] * 4,
        [["the cat sat"], ["x", "y"], ["runs"]] * 4,
    )
    here = map_examples(
        Rouge(rule="max", tokenizer="rouge-score", sentences="split").score, summaries, references
    )
    monkeypatch.setattr(parallel, "CHUNK", 2)
    assert (
        map_examples(
            Rouge(rule="max", tokenizer="rouge-score", sentences="split").score,
            summaries,
            references,
        )
        == here
    )
