"""Batches: ragged and full for training, of similar lengths for decoding.

A ragged batch holds the token ids of its examples end to end, with their lengths; nothing is padded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from headcount.config import Config
from headcount.data.source import Pairs, load_splits
from headcount.data.tokenizer import END, START, prepare_tokenizer

Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples end to end.

    Attributes:
        indices: each example's row in its split.
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

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Return the batch on another device."""
        return replace(
            self,
            document_ids=self.document_ids.to(device, non_blocking=non_blocking),
            summary_ids=self.summary_ids.to(device, non_blocking=non_blocking),
        )


class EncodedPairs:
    """One split as token ids."""

    def __init__(self, pairs: Pairs, tokenizer: Tokenizer, max_document_tokens: int, max_summary_tokens: int) -> None:
        """Encode the documents and their first references.

        Args:
            pairs: the split.
            tokenizer: from ``headcount.data.tokenizer``.
            max_document_tokens: longer documents are cut to this, the end token included.
            max_summary_tokens: longer summaries are cut to this, start and end token included.
        """
        self.pairs = pairs
        self.documents, self.cut_documents = encode(tokenizer, pairs.documents, max_document_tokens)
        summaries = [references[0] for references in pairs.references]
        self.summaries, self.cut_summaries = encode(tokenizer, summaries, max_summary_tokens - 1)
        self.start_id = tokenizer.token_to_id(START)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.documents)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each example, both sides."""
        return [len(d) + len(s) + 1 for d, s in zip(self.documents, self.summaries, strict=True)]

    def batch(self, indices: Sequence[int]) -> Batch:
        """Lay examples end to end."""
        start = np.array([self.start_id], dtype=np.int32)
        documents = [self.documents[i] for i in indices]
        summaries = [part for i in indices for part in (start, self.summaries[i])]
        return Batch(
            indices=list(indices),
            document_ids=torch.from_numpy(np.concatenate(documents)),
            document_lengths=[len(d) for d in documents],
            summary_ids=torch.from_numpy(np.concatenate(summaries)),
            summary_lengths=[len(self.summaries[i]) + 1 for i in indices],
        )

    def shortest(self) -> Batch:
        """Return the example with the shortest document, which a picture has room for."""
        return self.batch([min(range(len(self)), key=lambda example: len(self.documents[example]))])


def by_length(split: EncodedPairs, examples: Sequence[int], size: int) -> list[list[int]]:
    """Group examples of similar documents, the longest first, into batches of a size: for decoding, which pads."""
    order = sorted(examples, key=lambda example: -len(split.documents[example]))
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def encode(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> tuple[list[Ids], int]:
    """Encode texts, each closed by the end token and cut to max_tokens; return them and how many were cut."""
    end, encoded, cut = tokenizer.token_to_id(END), [], 0
    for chunk in range(0, len(texts), 1000):
        for encoding in tokenizer.encode_batch_fast(texts[chunk : chunk + 1000]):
            cut += len(encoding.ids) >= max_tokens
            encoded.append(np.array([*encoding.ids[: max_tokens - 1], end], dtype=np.int32))
    return encoded, cut


class TokenBudgetSampler(Sampler[list[int]]):
    """Batches of up to a budget of tokens, in a random order that depends on seed and epoch alone.

    Every epoch has the same number of batches, so that the length of training is known before it begins: what the
    longest of a few epochs needs. An order that needs more is drawn again; one that needs fewer has its fullest
    batches halved.
    """

    def __init__(self, lengths: Sequence[int], *, budget: int, seed: int) -> None:
        """Find the number of batches.

        Args:
            lengths: tokens of each example.
            budget: most tokens of a batch; no example may be longer.
            seed: of the order.
        """
        self.lengths, self.budget, self.seed, self.epoch = lengths, budget, seed, 0
        self.count = max(len(self._cut(epoch, 0)) for epoch in range(8))
        self.sampler = self  # Lightning calls set_epoch on the sampler of a batch sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of any epoch."""
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of this epoch, each a list of examples."""
        draw = 0
        while len(batches := self._cut(self.epoch, draw)) > self.count:
            draw += 1
        while len(batches) < self.count:
            fullest = max(range(len(batches)), key=lambda b: len(batches[b]))
            half = len(batches[fullest]) // 2
            batches.append(batches[fullest][half:])
            batches[fullest] = batches[fullest][:half]
        return iter(batches)

    def _cut(self, epoch: int, draw: int) -> list[list[int]]:
        order = np.random.default_rng([self.seed, epoch, draw]).permutation(len(self.lengths))
        batches: list[list[int]] = [[]]
        room = self.budget
        for example in order.tolist():
            room -= self.lengths[example]
            if room < 0:
                batches.append([])
                room = self.budget - self.lengths[example]
            batches[-1].append(example)
        return batches


class SummarizationDataModule(pl.LightningDataModule):
    """The data of a run: loads the pairs, trains or takes the tokenizer, makes the batches."""

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None) -> None:
        """Remember what to load.

        Args:
            config: the run's config.
            tokenizer: that of a finished run; None: train one on the training split.
        """
        super().__init__()
        self.config = config
        self.given_tokenizer = tokenizer
        self.splits: dict[str, EncodedPairs] = {}

    def setup(self, stage: str | None = None) -> None:
        """Load and encode; with a given tokenizer the test split alone."""
        if self.splits:
            return
        data = self.config.data
        names = {"train": data.train_split, "validation": data.validation_split, "test": data.test_split}
        if self.given_tokenizer is not None:
            names = {"test": data.test_split}
        pairs, self.origin = load_splits(data, names)
        self.tokenizer = self.given_tokenizer or prepare_tokenizer(
            pairs["train"].documents + [references[0] for references in pairs["train"].references],
            self.config.tokenizer.vocabulary_size,
            Path(data.cache_dir).expanduser(),
        )
        for role, split in pairs.items():
            encoded = EncodedPairs(split, self.tokenizer, data.max_document_tokens, data.max_summary_tokens)
            self.splits[role] = encoded
            self.origin[role] |= {"cut_documents": encoded.cut_documents, "cut_summaries": encoded.cut_summaries}
            print(
                f"{role}: {len(encoded):,} pairs; cut to length: {encoded.cut_documents:,} documents, "
                f"{encoded.cut_summaries:,} summaries"
            )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return full batches in random order."""
        split = self.splits["train"]
        sampler = TokenBudgetSampler(split.lengths, budget=self.config.data.batch_tokens, seed=self.config.seed)
        return DataLoader(range(len(split)), batch_sampler=sampler, collate_fn=split.batch)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the fixed validation sample."""
        split = self.splits["validation"]
        order = np.random.default_rng(0).permutation(len(split))
        return self._by_length(split, order[: self.config.evaluation.validation_examples].tolist())

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test split."""
        split = self.splits["test"]
        return self._by_length(split, list(range(len(split))))

    def _by_length(self, split: EncodedPairs, examples: list[int]) -> DataLoader[Any]:
        batches = by_length(split, examples, self.config.decoding.batch_size)
        return DataLoader(batches, batch_size=None, collate_fn=split.batch)  # type: ignore[arg-type]
