"""The section ``data`` of a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headcount.config.section import Section, key
from headcount.errors import ConfigError

Objective = Literal["summarize", "gap_sentences", "infill"]


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """The data set, and how its examples are batched."""

    path: str = key("docstrings", "docstrings, a Hugging Face hub id, or a local file or folder")
    name: str | None = key(None, "configuration of the hub data set")
    revision: str | None = key(None, "commit or branch of the hub data set")
    document_columns: list[str] = key(
        ["document"],
        "column names; the first that exists holds the document; a.b is column b within column a",
    )
    summary_columns: list[str] = key(
        ["summary"],
        "column names; the first that exists holds the summary; a list is several references",
    )
    reference_columns: list[str] = key(
        [], "columns with further references; those that exist are used"
    )
    group_by: str | None = key(
        None,
        "column; rows with the same value are one validation or test example with several "
        "references; document: rows with the same document",
    )
    train_split: str = key("train", "name of the training split")
    validation_split: str | None = key(
        "validation",
        "name of the validation split; null: carved out of the training split",
        legal="the name of a split, or null to carve one out of the training split",
    )
    test_split: str | None = key(
        "test",
        "name of the test split; null: carved out of the training split",
        legal="the name of a split, or null to carve one out of the training split",
    )
    carved_examples: int = key(1000, "number of examples in a carved split", at_least=1)
    carving_seed: int = key(0, "seed that chooses the examples of carved splits", at_least=0)
    streaming: bool = key(
        False, "read training pairs as they are needed, for a set larger than memory or disk"
    )
    shuffle_buffer: int = key(
        10_000, "number of streamed pairs among which the next one is drawn", at_least=1
    )
    max_document_tokens: int = key(
        512, "maximum number of document tokens; longer ones are truncated", at_least=2
    )
    max_summary_tokens: int = key(64, "maximum number of tokens of training summaries", at_least=2)
    batch_tokens: int = key(
        4096, "maximum number of document plus summary tokens in a training batch", at_least=1
    )
    objective: Objective = key(
        "summarize",
        "what is learned: to summarize, or from the documents alone to write sentences that were "
        "left out (gap_sentences) or spans of tokens (infill)",
    )
    teacher_summaries: str | None = key(
        None,
        "distillation: file with summaries of the training documents by other models, as evaluate "
        "and summarize --out write it",
    )
    teacher_share: float = key(
        0.5,
        "probability that an example has that summary in an epoch instead of its reference",
        at_least=0,
        below=1.0001,
    )
    bpe_dropout: float = key(
        0.0,
        "BPE-dropout of summarize: probability that a merge of the tokenizer is left out in "
        "training; 0.1 is usual; data.batch_tokens counts the tokens without it",
        at_least=0,
        below=1,
    )
    length_pools: int = key(
        0,
        "sort by length within pools of this many batches, for models that pad; 0 turns it off",
        at_least=0,
    )
    num_workers: int = key(0, "processes that prepare batches ahead; 0: none", at_least=0)
    cache_dir: str = key(
        "~/.cache/headcount", "folder of prepared data and tokenizers, reused by content"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_batch_tokens()
        if self.streaming:
            self._check_stream()

    def _check_batch_tokens(self) -> None:
        """Check that the longest pair fits a batch."""
        longest = self.max_document_tokens + self.max_summary_tokens
        if longest > self.batch_tokens:
            raise ConfigError(
                f"data.batch_tokens={self.batch_tokens} is too small for one pair of "
                f"data.max_document_tokens={self.max_document_tokens} and "
                f"data.max_summary_tokens={self.max_summary_tokens}; legal: at least {longest}"
            )

    def _check_stream(self) -> None:
        """Check that nothing needs the whole training split, of which a stream only holds a
        part."""
        if self.teacher_summaries is not None:
            raise ConfigError(
                f"data.teacher_summaries={self.teacher_summaries} needs the whole split; "
                "legal: data.streaming=False"
            )
        for name in ("validation_split", "test_split"):
            if getattr(self, name) is None:
                raise ConfigError(
                    f"data.{name}=None needs the whole split; legal: data.streaming=False"
                )
        if self.length_pools:
            raise ConfigError(
                f"data.length_pools={self.length_pools} needs the whole split; legal: "
                "data.streaming=False"
            )
