"""Ragged batches: the token ids of examples end to end, with their lengths. Nothing is padded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import get_worker_info

from headcount.config.sections.data import DataConfig
from headcount.data.pairs import Pairs
from headcount.data.tokenizer import END, START
from headcount.data.tokens import SCHEMA, Ids, TokenColumn, tokenize


@dataclass(kw_only=True)  # not frozen: Lightning rebuilds batches for trainer.precision=bf16-true
class Batch:
    """Examples end to end.

    Attributes:
        indices: the row of each example in its split; windows of one document share it.
        document_ids: tokens of the documents; the end token closes each.
        document_lengths: number of tokens of each document.
        summary_ids: tokens of the summaries, each from the start token to the end token.
        summary_lengths: number of tokens of each summary.
    """

    indices: list[int]
    document_ids: Tensor
    document_lengths: list[int]
    summary_ids: Tensor
    summary_lengths: list[int]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a loader worker sends to its parent: arrays, which travel through a pipe.

        Tensors would travel through /dev/shm. If that is full, the worker drops the batch with a
        message, and the training waits for it forever.
        """
        state = dict(self.__dict__)
        if get_worker_info() is not None:
            state["document_ids"] = self.document_ids.numpy()
            state["summary_ids"] = self.summary_ids.numpy()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.document_ids = torch.as_tensor(self.document_ids)
        self.summary_ids = torch.as_tensor(self.summary_ids)

    def pieces(self, size: int) -> Iterator["Batch"]:
        """Yield the examples in batches of up to ``size`` examples."""
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
    """How examples are cut and closed.

    Attributes:
        start_id: the token before a summary.
        end_id: the token after a document and after a summary.
        max_document_tokens: longer documents are cut to this, including the end token.
        max_summary_tokens: longer summaries are cut to this, including start and end token.
    """

    start_id: int
    end_id: int
    max_document_tokens: int
    max_summary_tokens: int

    @classmethod
    def from_tokenizer(
        cls, tokenizer: Tokenizer, max_document_tokens: int, max_summary_tokens: int
    ) -> "Layout":
        """Return the layout with the special tokens of a tokenizer."""
        token_ids = tokenizer.get_vocab()
        return cls(
            start_id=token_ids[START],
            end_id=token_ids[END],
            max_document_tokens=max_document_tokens,
            max_summary_tokens=max_summary_tokens,
        )

    def num_tokens(self, document: Ids, summary: Ids) -> int:
        """Return the number of tokens of an example, both sides together, after cutting."""
        document_tokens = min(len(document) + 1, self.max_document_tokens)
        summary_tokens = min(len(summary) + 2, self.max_summary_tokens)
        return document_tokens + summary_tokens

    def windows(self, document: Ids) -> list[Ids]:
        """Return the uncut token ids of a document in windows of about equal length.

        These are as few as possible without a window that would be cut.
        """
        window_tokens = self.max_document_tokens - 1
        number = max(1, -(-len(document) // window_tokens))
        return np.array_split(document, number)

    def batch(
        self, indices: Sequence[int], documents: Sequence[Ids], summaries: Sequence[Ids]
    ) -> Batch:
        """Lay examples end to end.

        Args:
            indices: the row of each example.
            documents: their uncut token ids, without special tokens.
            summaries: likewise.
        """
        start = np.array([self.start_id], np.int32)
        end = np.array([self.end_id], np.int32)

        # A document ends with the end token.
        document_parts: list[Ids] = []
        document_lengths = []
        for document in documents:
            ids = document[: self.max_document_tokens - 1]
            document_parts += [ids, end]
            document_lengths.append(len(ids) + 1)

        # A summary begins with the start token, too.
        summary_parts: list[Ids] = []
        summary_lengths = []
        for summary in summaries:
            ids = summary[: self.max_summary_tokens - 2]
            summary_parts += [start, ids, end]
            summary_lengths.append(len(ids) + 2)

        return Batch(
            indices=np.asarray(indices).tolist(),
            document_ids=torch.from_numpy(np.concatenate(document_parts)),
            document_lengths=document_lengths,
            summary_ids=torch.from_numpy(np.concatenate(summary_parts)),
            summary_lengths=summary_lengths,
        )


class EncodedPairs:
    """One split as token ids of the documents and their first references.

    Args:
        pairs: the split.
        tokenizer: from ``headcount.data.tokenizer``.
        max_document_tokens: longer documents are cut to this, including the end token.
        max_summary_tokens: longer summaries are cut to this, including start and end token.
        tokens: from ``prepare_tokens``; None: the pairs are encoded now, in memory.

    Attributes:
        lengths: number of tokens of each example, both sides together, after cutting.
        document_lengths: number of tokens of each document after cutting.
        is_long: for each example whether its document is cut.
        cut_documents, cut_summaries: how many are cut.
    """

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: Tokenizer,
        max_document_tokens: int,
        max_summary_tokens: int,
        tokens: pa.Table | None = None,
    ) -> None:
        if tokens is None:
            tokens = pa.Table.from_batches(tokenize(pairs, tokenizer), SCHEMA)
        self.pairs = pairs
        self.layout = Layout.from_tokenizer(tokenizer, max_document_tokens, max_summary_tokens)
        self.documents = TokenColumn(tokens["document"])
        self.summaries = TokenColumn(tokens["summary"])

        # With the special tokens.
        uncut_documents = self.documents.lengths + 1
        uncut_summaries = self.summaries.lengths + 2
        self.is_long = uncut_documents > max_document_tokens
        self.cut_documents = int(self.is_long.sum())
        self.cut_summaries = int((uncut_summaries > max_summary_tokens).sum())
        self.document_lengths = np.minimum(uncut_documents, max_document_tokens)
        self.lengths = self.document_lengths + np.minimum(uncut_summaries, max_summary_tokens)

    @classmethod
    def from_config(
        cls, pairs: Pairs, tokenizer: Tokenizer, config: DataConfig, tokens: pa.Table | None = None
    ) -> "EncodedPairs":
        """Return pairs as the models of a config read them."""
        return cls(pairs, tokenizer, config.max_document_tokens, config.max_summary_tokens, tokens)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.lengths)

    def batch(self, indices: Sequence[int], *, in_windows: bool = False) -> Batch:
        """Lay examples end to end.

        Args:
            indices: their rows.
            in_windows: give a long document in windows instead of cutting it.
        """
        if not in_windows:
            documents = [self.documents[index] for index in indices]
            summaries = [self.summaries[index] for index in indices]
            return self.layout.batch(indices, documents, summaries)

        # The summary is that of each window.
        index_of_window: list[int] = []
        windows: list[Ids] = []
        for index in indices:
            of_document = self.layout.windows(self.documents[index])
            windows += of_document
            index_of_window += [index] * len(of_document)
        summaries = [self.summaries[index] for index in index_of_window]
        return self.layout.batch(index_of_window, windows, summaries)

    def shortest(self) -> Batch:
        """Return the example with the shortest document, for which an attention plot has room."""
        return self.batch([int(self.document_lengths.argmin())])


def by_length(split: EncodedPairs, examples: Sequence[int], size: int) -> list[list[int]]:
    """Group examples with documents of similar length, the longest first, into batches of a size.

    For decoding, which pads.
    """
    order = longest_first(split, examples)
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def longest_first(split: EncodedPairs, examples: Sequence[int]) -> list[int]:
    """Order examples by the length of their documents, the longest first."""
    return sorted(examples, key=lambda example: -int(split.document_lengths[example]))
