import torch

from headcount.generation.hypothesis import Hypothesis, log_normalizer, sort_by_length
from headcount.model.ragged import BatchLayout


def test_a_hypothesis_ends_at_its_first_end_token() -> None:
    assert Hypothesis.from_tokens([5, 6, 1, 1], -2.0, end_id=1) == Hypothesis([5, 6], -2.0, True)
    assert Hypothesis.from_tokens([5, 6], -2.0, end_id=1) == Hypothesis([5, 6], -2.0, False)
    assert Hypothesis.from_tokens([1], -2.0, end_id=1) == Hypothesis([], -2.0, True)


def test_the_end_token_was_generated_only_where_a_summary_is_finished() -> None:
    assert Hypothesis([5, 6], -2.0, finished=True).generated(end_id=1) == [5, 6, 1]
    assert Hypothesis([5, 6], -2.0, finished=False).generated(end_id=1) == [5, 6]


def test_the_normalizer_is_the_logarithm_of_the_sum() -> None:
    logits = torch.randn(2, 3, 50) * 10
    torch.testing.assert_close(log_normalizer(logits), logits.logsumexp(-1))


def test_the_longest_document_is_the_first() -> None:
    documents = torch.tensor([7, 8, 8, 8, 9, 9])
    sorted_documents, layout, order = sort_by_length(
        documents, BatchLayout.from_lengths([1, 3, 2])
    )
    assert order == [1, 2, 0] and layout.lengths == [3, 2, 1]
    assert sorted_documents.tolist() == [8, 8, 8, 9, 9, 7]
