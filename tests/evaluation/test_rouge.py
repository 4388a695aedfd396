import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from headcount.evaluation.rouge import ROUGE_TYPES, Rouge, mean_and_interval, score_all, signature

SUMMARIES = ["it slept\nthe cats sat on a mat", "a dog", ""]
REFERENCES = [["a cat sits on the mat\nit sleeps", "cats"], ["dogs bark"], ["nothing"]]


def test_figures_are_the_packages_own() -> None:
    scorer = RougeScorer(ROUGE_TYPES, use_stemmer=True)
    expected = [
        [np.mean([scorer.score(r, summary)[kind].fmeasure for r in references]) for kind in ROUGE_TYPES]
        for summary, references in zip(SUMMARIES, REFERENCES, strict=True)
    ]
    rouge = Rouge()
    assert [rouge.score(s, r) for s, r in zip(SUMMARIES, REFERENCES, strict=True)] == expected
    scores = score_all(SUMMARIES, REFERENCES)
    for column, kind in enumerate(ROUGE_TYPES):
        assert scores[kind]["f1"] == pytest.approx(100 * np.mean(expected, 0)[column])
        assert scores[kind]["low"] <= scores[kind]["f1"] <= scores[kind]["high"]
    assert scores["rouge1"]["f1"] > scores["rouge2"]["f1"] and scores["rougeL"]["f1"] != scores["rougeLsum"]["f1"]


def test_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(50, 10, 400)
    mean, low, high = mean_and_interval(values)
    assert mean == values.mean()
    half = 1.96 * values.std() / np.sqrt(400)
    assert (mean - low, high - mean) == (pytest.approx(half, rel=0.15), pytest.approx(half, rel=0.15))


def test_signature_names_package_version_and_rules() -> None:
    assert signature() == "rouge-score:0.1.2|f1|stemmer:porter|sentences:newline|references:mean"
