"""Ragged batches of ids for the small models of ``tests.model.builds``."""

from headcount.data.batches import Batch
from tests.model.builds import DOCUMENTS, SUMMARIES, ids


def data_batch(seed: int = 1) -> Batch:
    """Four documents with summaries of random tokens."""
    summaries = [length + 1 for length in SUMMARIES]  # a start token and an end token
    return Batch(
        indices=list(range(len(DOCUMENTS))),
        document_ids=ids(DOCUMENTS, seed),
        document_lengths=list(DOCUMENTS),
        summary_ids=ids(summaries, seed + 1),
        summary_lengths=summaries,
    )
