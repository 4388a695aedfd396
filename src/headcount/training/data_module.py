"""The data of a run as a LightningDataModule.

``setup`` loads the splits, the tokenizer and the tokens; the three loaders make batches of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from rich.console import Console
from tokenizers import Tokenizer

from headcount.config.schema import Config
from headcount.config.sections.data import DataConfig
from headcount.data.audit import prepare_audit, show
from headcount.data.batches import Batch, EncodedPairs, Layout, by_length
from headcount.data.bpe_dropout import BpeDropout
from headcount.data.loader import DecodingLoader, TrainingLoader, decoding_loader
from headcount.data.pairs import Pairs
from headcount.data.sampler import TokenBudgetSampler
from headcount.data.sentences import prepare_sentences
from headcount.data.sources import Datasets, carved_roles, load_splits, open_source
from headcount.data.stream import Stream, StreamLoader, read_pairs
from headcount.data.teacher import TeacherSummaries, read_teacher_summaries
from headcount.data.tokenizer import prepare_tokenizer
from headcount.data.tokens import fingerprint, prepare_tokens
from headcount.data.training_examples import ExampleMaker, Plan, TrainingExamples
from headcount.errors import ConfigError
from headcount.evaluation.extractive import split_units
from headcount.terminal import print_line

__all__ = ["Batch", "EncodedPairs", "SummarizationDataModule", "by_length"]

CHECKED_TEXTS = 20  # on which BPE-dropout is compared with the tokenizer
LIMITS = {"validation": "limit_val_batches", "test": "limit_predict_batches"}


class SummarizationDataModule(pl.LightningDataModule):
    """Loads the pairs, trains or loads the tokenizer, and makes the batches.

    Args:
        config: of the run.
        tokenizer: that of a finished run; None: train one on the training split.
        split: validation or test, the only one that is loaded with a given tokenizer.
        trained: the ``data`` section of that run, without the changes of the config.
        datasets: data sets of ``datasets`` by the names of their splits, instead of ``data.path``.

    Attributes:
        splits: the encoded pairs of each role: train (unless streamed), validation and test.
        origin: for each role where its pairs come from, with their SHA-256.
        kept_tokenizer: that of a run that is resumed, if it must not be prepared again.
    """

    def __init__(
        self,
        config: Config,
        tokenizer: Tokenizer | None = None,
        *,
        split: str = "test",
        trained: DataConfig | None = None,
        datasets: Datasets | None = None,
    ) -> None:
        super().__init__()
        self.datasets = datasets
        self.config = config
        self.given_tokenizer = tokenizer
        self.only_split = split
        self.trained = trained
        self.kept_tokenizer: Tokenizer | None = None
        self.splits: dict[str, EncodedPairs] = {}
        self.teacher: TeacherSummaries | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load and encode the splits, once; with a given tokenizer only one split."""
        if self.splits:
            return

        # Which splits: a command with a tokenizer needs one, and a stream is not held as a whole.
        data = self.config.data
        roles = {
            "train": data.train_split,
            "validation": data.validation_split,
            "test": data.test_split,
        }
        if self.given_tokenizer is not None:
            roles = {self.only_split: roles[self.only_split]}
        if data.streaming:
            roles.pop("train", None)

        pairs, self.origin = load_splits(data, roles, self.datasets, trained=self.trained)
        self.tokenizer = self.given_tokenizer or self._prepare_tokenizer(pairs)
        for role, split in pairs.items():
            self._encode(role, split)
        if "train" in pairs and data.teacher_summaries is not None:
            self.teacher = self._read_teacher(pairs, data.teacher_summaries)

    def _encode(self, role: str, pairs: Pairs) -> None:
        """Tokenize a split, and print its size and what is cut of it."""
        data = self.config.data
        tokens = prepare_tokens(pairs, self.origin[role]["sha256"], self.tokenizer, data.cache_dir)
        split = EncodedPairs.from_config(pairs, self.tokenizer, data, tokens)
        self._check_not_empty(role, split)

        self.splits[role] = split
        self.origin[role] |= {
            "cut_documents": split.cut_documents,
            "cut_summaries": split.cut_summaries,
        }
        print_line(
            f"{role}: {len(split):,} pairs; cut to length: {split.cut_documents:,} documents, "
            f"{split.cut_summaries:,} summaries"
        )

        # A part of it, if the trainer's limits say so.
        key, limit = self._limit(role)
        if limit is not None:
            print_line(
                f"{role}: a fixed random sample of {len(self.decoded_examples(role)):,} examples "
                f"is decoded (trainer.{key}={limit})"
            )

    def _read_teacher(self, pairs: dict[str, Pairs], path: str) -> TeacherSummaries:
        """Read the summaries of a teacher; record and print how many are used."""
        # Splits that are carved out of the training split are in its file, too.
        held_out: set[str] = set()
        for role in carved_roles(self.config.data):
            held_out.update(pairs[role].ids)
        train = pairs["train"]
        teacher = read_teacher_summaries(path, train, self.tokenizer, held_out=held_out)

        # What is used of them, and what is not.
        self.origin["train"]["teacher_summaries"] = {
            "sha256": teacher.sha256,
            "number": teacher.number,
        }
        print_line(
            f"train: {teacher.number:,} of {len(train):,} examples have a summary by other "
            f"models, used with probability {self.config.data.teacher_share} (data.teacher_share)"
        )
        if teacher.number_held_out:
            print_line(
                f"train: {teacher.number_held_out:,} summaries of data.teacher_summaries are of "
                "validation and test examples, and are not used"
            )
        return teacher

    def _check_not_empty(self, role: str, split: EncodedPairs) -> None:
        """Report texts that are empty once they are tokens: a normalizer may drop whole scripts.

        Raises:
            ConfigError: all documents or all summaries of a split are empty.
        """
        documents = int((split.documents.lengths == 0).sum())
        summaries = int((split.summaries.lengths == 0).sum())
        for number, texts in ((documents, "documents"), (summaries, "summaries")):
            if number == len(split):
                raise ConfigError(
                    f"tokenizer.path={self.config.tokenizer.path}: leaves nothing of all "
                    f"{number:,} {texts} of {role}; legal: a tokenizer that knows their characters"
                )
        if documents or summaries:
            print_line(
                f"{role}: the tokenizer leaves nothing of {documents:,} documents and "
                f"{summaries:,} summaries"
            )

    def audit(self, console: Console, *, always: bool = False) -> Path:
        """Return the folder of ``audit.json`` and ``lengths.png``.

        Args:
            console: on which the figures are printed when they are new.
            always: print them in any case.
        """
        data = self.config.data
        key = [fingerprint(self.tokenizer), data.max_document_tokens, data.max_summary_tokens]
        folder, figures, is_new = prepare_audit(self.splits, self.origin, data.cache_dir, key)
        if is_new or always:
            show(figures, console)
        return folder

    def _prepare_tokenizer(self, pairs: dict[str, Pairs]) -> Tokenizer:
        """Return the tokenizer of the first training pairs, from the cache if it is there."""
        data = self.config.data
        if data.streaming:
            self.streamed = open_source(
                data, data.train_split, self.datasets, remember_digest=True
            )
            self.origin["train"] = {
                "split": self.streamed.split,
                "sha256": self.streamed.sha256,
                "streamed": True,
            }
        if self.kept_tokenizer is not None:
            return self.kept_tokenizer
        texts = self._training_texts(pairs, self.config.tokenizer.training_pairs)
        sha256 = self.origin["train"]["sha256"]
        return prepare_tokenizer(texts, sha256, self.config.tokenizer, data.cache_dir)

    def _training_texts(self, pairs: dict[str, Pairs], limit: int) -> Iterator[str]:
        """Yield document and summary of each of the first training pairs."""
        if self.config.data.streaming:
            for _, document, summary in islice(read_pairs(self.streamed), limit):
                yield document
                yield summary
            return
        train = pairs["train"]
        examples = zip(train.documents, train.references, strict=True)
        for document, references in islice(examples, limit):
            yield document
            yield references[0]

    # Loaders

    def train_dataloader(self) -> TrainingLoader | StreamLoader:
        """Return the training batches of this rank: of about equal size, in random order."""
        data = self.config.data
        rank, world_size = self._rank_and_world_size()

        # A position in the data is only meaningful in the order that these decide.
        order_settings: dict[str, Any] = {
            "training data": self.origin["train"]["sha256"],
            "tokenizer": fingerprint(self.tokenizer),
            "data.max_document_tokens": data.max_document_tokens,
            "data.max_summary_tokens": data.max_summary_tokens,
            "data.batch_tokens": data.batch_tokens,
            "seed": self.config.seed,
        }
        objectives = [(begin, stage.objective) for begin, stage in self.config.stage_plan]
        order_settings["stages"] = objectives
        order_settings["data.bpe_dropout"] = data.bpe_dropout

        # A stream has neither a length nor a teacher.
        accumulate = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        plan = Plan(objectives=objectives, batches_per_step=accumulate)
        if data.streaming:
            order_settings["data.shuffle_buffer"] = data.shuffle_buffer
            return StreamLoader(
                self._stream(plan, rank, world_size),
                order_settings=order_settings,
                num_workers=data.num_workers,
            )

        order_settings["data.length_pools"] = data.length_pools
        examples = self._training_examples(plan)
        if examples.teacher is not None:
            order_settings["data.teacher_summaries"] = examples.teacher.sha256
            order_settings["data.teacher_share"] = data.teacher_share

        # Batches of about equal numbers of tokens.
        sampler = TokenBudgetSampler(
            examples.lengths,
            budget=data.batch_tokens,
            seed=self.config.seed,
            pools=data.length_pools,
            processes=world_size,
        )
        batches = len(sampler) // world_size
        if self.trainer is not None:
            batches = batches_of_epoch(self.trainer, batches)
        examples.plan = replace(plan, batches_per_epoch=batches)

        return TrainingLoader(
            examples,
            sampler,
            order_settings=order_settings,
            num_workers=data.num_workers,
            process=rank,
            processes=world_size,
            same_order=bool(self._trainer_argument("overfit_batches")),
        )

    def _training_examples(self, plan: Plan) -> TrainingExamples:
        """Return the training examples of all stages."""
        # Where sentences begin is prepared once, for the stages that take some out.
        split = self.splits["train"]
        sentences = None
        if plan.uses("gap_sentences"):
            unit = self.config.evaluation.unit
            sentences = prepare_sentences(
                split.pairs,
                self.origin["train"]["sha256"],
                self.tokenizer,
                unit=unit,
                split_units=partial(split_units, unit=unit),
                cache_dir=self.config.data.cache_dir,
            )

        return TrainingExamples(
            split,
            plan,
            self._example_maker(split.pairs.documents[:CHECKED_TEXTS]),
            sentences=sentences,
            teacher=self.teacher,
            teacher_share=self.config.data.teacher_share,
        )

    def _example_maker(self, texts: Sequence[str]) -> ExampleMaker:
        """Return what makes training examples.

        Args:
            texts: on which BPE-dropout checks that it knows the tokenizer.
        """
        data = self.config.data
        return ExampleMaker(
            layout=Layout.from_tokenizer(
                self.tokenizer, data.max_document_tokens, data.max_summary_tokens
            ),
            seed=self.config.seed,
            dropout=BpeDropout(self.tokenizer, data.bpe_dropout, texts)
            if data.bpe_dropout
            else None,
        )

    def _stream(self, plan: Plan, rank: int, world_size: int) -> Stream:
        data = self.config.data
        texts = [document for _, document, _ in islice(read_pairs(self.streamed), CHECKED_TEXTS)]
        return Stream(
            source=self.streamed,
            tokenizer=self.tokenizer,
            maker=self._example_maker(texts),
            budget=data.batch_tokens,
            buffer=data.shuffle_buffer,
            plan=plan,
            split_units=partial(split_units, unit=self.config.evaluation.unit),
            process=rank,
            processes=world_size,
        )

    def val_dataloader(self) -> DecodingLoader:
        """Return this rank's share of the fixed validation sample."""
        return self._decoding_loader("validation", "limit_val_batches")

    def test_dataloader(self) -> DecodingLoader:
        """Return this rank's share of the test split, with references to score it by."""
        return self._decoding_loader("test", "limit_test_batches")

    def predict_dataloader(self) -> DecodingLoader:
        """Return this rank's share of the test split."""
        return self._decoding_loader("test", "limit_predict_batches")

    def decoded_examples(self, role: str) -> list[int]:
        """Return which examples of the validation or test split are decoded.

        All of the test split and ``evaluation.validation_examples`` of the other, unless
        ``trainer.limit_val_batches`` or ``trainer.limit_predict_batches`` say less. What is left
        is a random sample that is the same in all runs on the same data.
        """
        split = self.splits[role]
        number = len(split)
        if role == "validation":
            number = min(number, self.config.evaluation.validation_examples)

        # As in Lightning, an integer is a number of batches on each rank.
        _, limit = self._limit(role)
        _, world_size = self._rank_and_world_size()
        if isinstance(limit, int):
            number = min(number, limit * self.config.generation.batch_size * world_size)
        elif limit is not None:
            number = min(number, max(world_size, int(limit * number)))

        if role == "test" and limit is None:
            return list(range(number))
        order = np.random.default_rng(0).permutation(len(split))
        return order[:number].tolist()

    def _limit(self, role: str) -> tuple[str, int | float | None]:
        """Return the Trainer's argument that limits a split, and its value; None: no limit."""
        trainer = self.config.trainer
        key = LIMITS.get(role, "")
        if role == "validation" and trainer.get("overfit_batches"):
            key = "overfit_batches"
        limit = trainer.get(key)
        # Zero turns validation off; Lightning does not ask for a loader then.
        return key, None if not limit or is_unlimited(limit) else limit

    def _decoding_loader(self, role: str, limit: str) -> DecodingLoader:
        rank, world_size = self._rank_and_world_size()
        # Validation reads each document once, cut: its loss is that of a whole example.
        is_split = self.config.generation.long_documents == "split"
        # Of a plain Trainer with a limit Lightning takes the first batches. The longest documents
        # would be no fair sample.
        is_limited = self.trainer is not None and not is_unlimited(getattr(self.trainer, limit))
        is_dry = bool(getattr(self.trainer, "fast_dev_run", False))  # untyped in Lightning
        return decoding_loader(
            self.splits[role],
            self.decoded_examples(role),
            self.config.generation.batch_size,
            num_workers=self.config.data.num_workers,
            process=rank,
            processes=world_size,
            in_windows=is_split and role == "test",
            shuffled=is_limited and not is_dry,
        )

    def _trainer_argument(self, name: str) -> Any:
        """Return an argument of the Trainer that uses this data, or of the config without one."""
        if self.trainer is not None:
            return getattr(self.trainer, name)
        return self.config.trainer.get(name)

    def _rank_and_world_size(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


def batches_of_epoch(trainer: pl.Trainer, batches: int) -> int:
    """Return how many of the batches of an epoch a trainer takes."""
    limit = trainer.limit_train_batches
    if isinstance(limit, int):
        return min(batches, limit)
    return batches if limit is None else int(limit * batches)


def is_unlimited(limit: int | float | None) -> bool:
    """Return whether a limit of batches is none: 1.0 is all of them, 1 is a single one."""
    return limit is None or (isinstance(limit, float) and limit == 1.0)
