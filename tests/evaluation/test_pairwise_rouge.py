"""ROUGE of all pairs against ROUGE of each pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.config.sections.generation import PAIRWISE_METRICS
from headcount.evaluation.pairwise_rouge import pairwise_rouge
from headcount.evaluation.rouge import Rouge

# Few words, so that n-grams repeat; with stems, punctuation, case and texts without words.
WORDS = st.sampled_from(["run", "running", "Runs", "the", "cat,", "cats", "dog", "a", "é", "-"])
ROUGE = Rouge.from_config(EvaluationConfig())
TEXTS = st.lists(st.lists(WORDS, max_size=25).map(" ".join), min_size=1, max_size=6)


@given(TEXTS)
def test_all_pairs_are_scored_like_each_pair(texts: list[str]) -> None:
    found = pairwise_rouge(texts, ROUGE.tokenize, PAIRWISE_METRICS)
    assert found.shape == (len(texts), len(texts))
    for row, summary in enumerate(texts):
        for column, reference in enumerate(texts):
            expected = sum(ROUGE.score(summary, [reference])[:3]) / 3
            assert found[row, column] == pytest.approx(expected, abs=1e-12)


@given(TEXTS)
def test_metrics_are_chosen_and_averaged(texts: list[str]) -> None:
    """Each metric alone, and two of them."""
    of_pairs = np.array([[ROUGE.score(a, [b])[:3] for b in texts] for a in texts])
    rouge1, rouge2, rouge_l = np.moveaxis(of_pairs, -1, 0)
    expected = {
        ("rouge1",): rouge1,
        ("rouge2",): rouge2,
        ("rougeL",): rouge_l,
        ("rougeL", "rouge1"): (rouge1 + rouge_l) / 2,
    }
    for metrics, values in expected.items():
        found = pairwise_rouge(texts, ROUGE.tokenize, metrics)
        np.testing.assert_allclose(found, values, atol=1e-12)


def test_long_texts_do_not_reach_into_each_other() -> None:
    """Texts are side by side in one integer, of hundreds of bits here."""
    draw = np.random.default_rng(0)
    vocabulary = ["red", "green", "blue", "black"]
    texts = [" ".join(draw.choice(vocabulary, size)) for size in (200, 1, 150, 77, 200)]
    found = pairwise_rouge([*texts, texts[0]], ROUGE.tokenize, PAIRWISE_METRICS)
    for row, summary in enumerate(texts):
        for column, reference in enumerate(texts):
            expected = sum(ROUGE.score(summary, [reference])[:3]) / 3
            assert found[row, column] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(found[5], found[0])
    assert found[0, 5] == 1
