import torch

from headcount.data.batches import EncodedPairs
from headcount.data.pairs import Pairs
from headcount.data.tokenizer import train_tokenizer

TEXTS = ["", "a", "ab" * 9, "the cat sat on the mat " * 20]
SPLIT = EncodedPairs(
    Pairs(ids=TEXTS, documents=TEXTS, references=[["a summary"]] * 4),
    train_tokenizer(TEXTS, "bpe", 260),
    16,
    8,
)


def test_windows_hold_the_whole_document_in_equal_parts() -> None:
    batch = SPLIT.batch(range(4), in_windows=True)
    cut = SPLIT.batch(range(4))
    assert SPLIT.is_long.tolist() == [False, False, True, True] and SPLIT.cut_documents == 2
    assert cut.indices == [0, 1, 2, 3] and max(cut.document_lengths) == 16
    windows = batch.document_ids.split(batch.document_lengths)
    for index in range(4):
        mine = [window for window, i in zip(windows, batch.indices, strict=True) if i == index]
        assert all(window[-1] == SPLIT.layout.end_id and len(window) <= 16 for window in mine)
        assert (
            torch.cat([window[:-1] for window in mine]).tolist() == SPLIT.documents[index].tolist()
        )
        lengths = [len(window) for window in mine]
        assert max(lengths) - min(lengths) <= 1
        assert len(mine) == max(1, -(-len(SPLIT.documents[index]) // 15))
    assert len(batch.summary_lengths) == len(windows) > 5


def test_pieces_of_a_batch() -> None:
    batch = SPLIT.batch(range(4))
    pieces = list(batch.pieces(3))
    assert [piece.indices for piece in pieces] == [[0, 1, 2], [3]]
    for piece in pieces:
        alone = SPLIT.batch(piece.indices)
        assert torch.equal(piece.document_ids, alone.document_ids) and torch.equal(
            piece.summary_ids, alone.summary_ids
        )
        assert (piece.document_lengths, piece.summary_lengths) == (
            alone.document_lengths,
            alone.summary_lengths,
        )
