"""The data of a run."""

from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from rich.console import Console
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

from headcount.config.schema import Config
from headcount.data.audit import prepare_audit, show
from headcount.data.batches import Batch, EncodedPairs, Layout, by_length
from headcount.data.loader import TrainingLoader, decoding_loader
from headcount.data.pairs import Pairs
from headcount.data.sampler import TokenBudgetSampler
from headcount.data.sources import load_splits, open_source
from headcount.data.stream import Stream, StreamLoader, read_pairs
from headcount.data.tokenizer import prepare_tokenizer
from headcount.data.tokens import fingerprint, prepare_tokens
from headcount.terminal import print_line

__all__ = ["Batch", "EncodedPairs", "SummarizationDataModule", "by_length"]


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
        roles = {
            "train": data.train_split,
            "validation": data.validation_split,
            "test": data.test_split,
        }
        if self.given_tokenizer is not None:
            roles = {"test": data.test_split}
        if data.streaming:
            roles.pop("train", None)
        pairs, self.origin = load_splits(data, roles)
        self.tokenizer = self.given_tokenizer or self._prepare_tokenizer(pairs)
        for role, split in pairs.items():
            tokens = prepare_tokens(
                split, self.origin[role]["sha256"], self.tokenizer, data.cache_dir
            )
            limits = data.max_document_tokens, data.max_summary_tokens
            encoded = EncodedPairs(split, self.tokenizer, *limits, tokens)
            self.splits[role] = encoded
            self.origin[role] |= {
                "cut_documents": encoded.cut_documents,
                "cut_summaries": encoded.cut_summaries,
            }
            print_line(
                f"{role}: {len(encoded):,} pairs; cut to length: {encoded.cut_documents:,} "
                "documents, "
                f"{encoded.cut_summaries:,} summaries"
            )

    def audit(self, console: Console, *, always: bool = False) -> Path:
        """Print what is in the data, at its first use or always.

        Return the folder of audit.json and lengths.png.
        """
        data = self.config.data
        key = [fingerprint(self.tokenizer), data.max_document_tokens, data.max_summary_tokens]
        folder, figures, made = prepare_audit(self.splits, self.origin, data.cache_dir, key)
        if made or always:
            show(figures, console)
        return folder

    def _prepare_tokenizer(self, pairs: dict[str, Pairs]) -> Tokenizer:
        config, cache_dir = self.config.tokenizer, self.config.data.cache_dir
        if self.config.data.streaming:
            self.streamed = open_source(
                self.config.data, self.config.data.train_split, streaming=True
            )
            self.origin["train"] = {
                "split": self.streamed.split,
                "sha256": self.streamed.sha256,
                "streamed": True,
            }
            examples = ((document, summary) for _, document, summary in read_pairs(self.streamed))
        else:
            train = pairs["train"]
            examples = ((d, r[0]) for d, r in zip(train.documents, train.references, strict=True))
        texts = chain.from_iterable(islice(examples, config.training_pairs))
        return prepare_tokenizer(texts, self.origin["train"]["sha256"], config, cache_dir)

    def train_dataloader(self) -> TrainingLoader | StreamLoader:
        """Return this process's share of full batches in random order."""
        data, (process, processes) = self.config.data, self._place()
        made_of: dict[str, Any] = {
            "training data": self.origin["train"]["sha256"],
            "tokenizer": fingerprint(self.tokenizer),
            "data.max_document_tokens": data.max_document_tokens,
            "data.max_summary_tokens": data.max_summary_tokens,
            "data.batch_tokens": data.batch_tokens,
            "seed": self.config.seed,
        }
        if data.streaming:
            stream = Stream(
                source=self.streamed,
                tokenizer=self.tokenizer,
                layout=Layout.of(
                    self.tokenizer, data.max_document_tokens, data.max_summary_tokens
                ),
                budget=data.batch_tokens,
                buffer=data.shuffle_buffer,
                seed=self.config.seed,
                process=process,
                processes=processes,
            )
            made_of["data.shuffle_buffer"] = data.shuffle_buffer
            return StreamLoader(stream, made_of=made_of, num_workers=data.num_workers)
        split = self.splits["train"]
        sampler = TokenBudgetSampler(
            split.lengths,
            budget=data.batch_tokens,
            seed=self.config.seed,
            pools=data.length_pools,
            processes=processes,
        )
        made_of["data.length_pools"] = data.length_pools
        return TrainingLoader(
            split,
            sampler,
            made_of=made_of,
            num_workers=data.num_workers,
            process=process,
            processes=processes,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return this process's share of the fixed validation sample."""
        order = np.random.default_rng(0).permutation(len(self.splits["validation"]))
        return self._decoding(
            "validation", order[: self.config.evaluation.validation_examples].tolist()
        )

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return this process's share of the test split."""
        return self._decoding("test", list(range(len(self.splits["test"]))))

    def _decoding(self, role: str, examples: list[int]) -> DataLoader[Any]:
        process, processes = self._place()
        return decoding_loader(
            self.splits[role],
            examples,
            self.config.generation.batch_size,
            num_workers=self.config.data.num_workers,
            process=process,
            processes=processes,
        )

    def _place(self) -> tuple[int, int]:
        """Return which process this is, of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
