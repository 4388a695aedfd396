import torch

from headcount.model.ragged import BatchLayout, interleave


def test_rows() -> None:
    layout = BatchLayout.from_lengths([2, 1, 3])
    assert layout.offsets.tolist() == [0, 2, 3, 6] and layout.max_length == 3
    assert layout.positions.tolist() == [0, 1, 0, 0, 1, 2]
    assert layout.repeat_per_example(torch.tensor([7, 8, 9])).tolist() == [7, 7, 8, 9, 9, 9]
    padded, real = layout.pad(torch.arange(1, 7))
    assert padded.tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
    assert real.tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_places_of_tokens_that_end_longer_examples() -> None:
    ends, whole = BatchLayout.from_lengths([2, 1]), BatchLayout.from_lengths([5, 3])
    assert ends.positions_at_end_of(whole).tolist() == [3, 4, 2]
    assert whole.positions_at_end_of(whole).tolist() == whole.positions.tolist()


def test_interleave() -> None:
    documents, summaries = (
        (torch.tensor([1, 2, 3]), BatchLayout.from_lengths([1, 2])),
        (torch.tensor([7, 8, 9]), BatchLayout.from_lengths([2, 1])),
    )
    joined, layout = interleave([documents, summaries])
    assert joined.tolist() == [1, 7, 8, 2, 3, 9] and layout.lengths == [3, 3]
