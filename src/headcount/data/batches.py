"""Ragged batches: the token ids of examples end to end, with their lengths; nothing is padded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from torch import Tensor

from headcount.data.pairs import Pairs
from headcount.data.tokenizer import END, START
from headcount.data.tokens import SCHEMA, Ids, TokenColumn, tokenize


@dataclass(kw_only=True)  # not frozen: Lightning rebuilds batches for trainer.precision=bf16-true
class Batch:
    """Examples end to end.

    Attributes:
        indices: each example's row in its split; windows of one document have the same.
        document_ids: the documents' tokens, each document closed by the end token.
        document_lengths: tokens of each document.
        summary_ids: the summaries' tokens, each from the start token to the end token.
        summary_lengths: tokens of each summary.
    """

    indices: list[int]
    document_ids: Tensor
    document_lengths: list[int]
    summary_ids: Tensor
    summary_lengths: list[int]

    def pieces(self, size: int) -> Iterator["Batch"]:
        """Yield the examples in batches of up to a size."""
        examples = range(len(self.indices))
        for begin in examples[::size]:
            yield self.select(examples[begin : begin + size])

    def select(self, examples: Sequence[int]) -> "Batch":
        """Return some of the examples, given their positions in the batch."""
        documents = self.document_ids.split(self.document_lengths)
        summaries = self.summary_ids.split(self.summary_lengths)
        return Batch(
            indices=[self.indices[i] for i in examples],
            document_ids=torch.cat([documents[i] for i in examples]),
            document_lengths=[self.document_lengths[i] for i in examples],
            summary_ids=torch.cat([summaries[i] for i in examples]),
            summary_lengths=[self.summary_lengths[i] for i in examples],
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Return the batch on another device."""
        return replace(
            self,
            document_ids=self.document_ids.to(device, non_blocking=non_blocking),
            summary_ids=self.summary_ids.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How examples are laid end to end.

    Attributes:
        start_id: stands before a summary.
        end_id: closes a document and a summary.
        max_document_tokens: longer documents are cut to this, the end token included.
        max_summary_tokens: longer summaries are cut to this, start and end token included.
    """

    start_id: int
    end_id: int
    max_document_tokens: int
    max_summary_tokens: int

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, max_document_tokens: int, max_summary_tokens: int
    ) -> "Layout":
        """Return the layout with the special tokens of a tokenizer."""
        start_id, end_id = (tokenizer.get_vocab()[token] for token in (START, END))
        return cls(
            start_id=start_id,
            end_id=end_id,
            max_document_tokens=max_document_tokens,
            max_summary_tokens=max_summary_tokens,
        )

    def tokens(self, document: Ids, summary: Ids) -> int:
        """Return the tokens of an example's two sides once they are cut."""
        return min(len(document) + 1, self.max_document_tokens) + min(
            len(summary) + 2, self.max_summary_tokens
        )

    def windows(self, document: Ids) -> list[Ids]:
        """Return a document's uncut token ids in as few parts of equal length as are not cut."""
        return np.array_split(
            document, max(1, -(-len(document) // (self.max_document_tokens - 1)))
        )

    def batch(
        self, indices: Sequence[int], documents: Sequence[Ids], summaries: Sequence[Ids]
    ) -> Batch:
        """Lay examples end to end, given their uncut token ids."""
        start, end = np.array([self.start_id], np.int32), np.array([self.end_id], np.int32)
        documents = [ids[: self.max_document_tokens - 1] for ids in documents]
        summaries = [ids[: self.max_summary_tokens - 2] for ids in summaries]
        return Batch(
            indices=np.asarray(indices).tolist(),
            document_ids=torch.from_numpy(
                np.concatenate([part for ids in documents for part in (ids, end)])
            ),
            document_lengths=[len(ids) + 1 for ids in documents],
            summary_ids=torch.from_numpy(
                np.concatenate([part for ids in summaries for part in (start, ids, end)])
            ),
            summary_lengths=[len(ids) + 2 for ids in summaries],
        )


class EncodedPairs:
    """One split as token ids."""

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: Tokenizer,
        max_document_tokens: int,
        max_summary_tokens: int,
        tokens: pa.Table | None = None,
    ) -> None:
        """Take the token ids of the documents and their first references.

        Args:
            pairs: the split.
            tokenizer: from ``headcount.data.tokenizer``.
            max_document_tokens: longer documents are cut to this, the end token included.
            max_summary_tokens: longer summaries are cut to this, start and end token included.
            tokens: from ``prepare_tokens``; None: they are made now, in memory.
        """
        self.pairs = pairs
        self.layout = Layout.of(tokenizer, max_document_tokens, max_summary_tokens)
        tokens = (
            pa.Table.from_batches(tokenize(pairs, tokenizer), SCHEMA) if tokens is None else tokens
        )
        self.documents, self.summaries = (
            TokenColumn(tokens["document"]),
            TokenColumn(tokens["summary"]),
        )
        uncut_documents, uncut_summaries = self.documents.lengths + 1, self.summaries.lengths + 2
        self.is_long = uncut_documents > max_document_tokens
        self.cut_documents = int(self.is_long.sum())
        self.cut_summaries = int((uncut_summaries > max_summary_tokens).sum())
        self.document_lengths = np.minimum(uncut_documents, max_document_tokens)
        self.lengths = self.document_lengths + np.minimum(
            uncut_summaries, max_summary_tokens
        )  # tokens of both sides

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.lengths)

    def batch(self, indices: Sequence[int], *, in_windows: bool = False) -> Batch:
        """Lay examples end to end.

        Long documents are cut, or come in windows one after the other.
        """
        if in_windows:
            windows = [
                (i, window) for i in indices for window in self.layout.windows(self.documents[i])
            ]
            summaries = [self.summaries[i] for i, _ in windows]
            return self.layout.batch(
                [i for i, _ in windows], [window for _, window in windows], summaries
            )
        return self.layout.batch(
            indices, [self.documents[i] for i in indices], [self.summaries[i] for i in indices]
        )

    def shortest(self) -> Batch:
        """Return the example with the shortest document, which a picture has room for."""
        return self.batch([int(self.document_lengths.argmin())])


def by_length(split: EncodedPairs, examples: Sequence[int], size: int) -> list[list[int]]:
    """Group examples of similar documents, the longest first, into batches of a size.

    For decoding, which pads.
    """
    order = longest_first(split, examples)
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def longest_first(split: EncodedPairs, examples: Sequence[int]) -> list[int]:
    """Order examples by the length of their documents."""
    return sorted(examples, key=lambda example: -int(split.document_lengths[example]))
