"""The section ``tokenizer`` of a config."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from headcount.config.section import Section, key
from headcount.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Section):
    """A byte-level tokenizer, trained on the training split, or a pretrained one."""

    algorithm: Literal["bpe", "unigram"] = key(
        "bpe", "byte-pair encoding or unigram language model"
    )
    vocabulary_size: int = key(8000, "number of tokens, including the 256 bytes", at_least=260)
    training_pairs: int = key(
        200_000, "number of training pairs that the tokenizer is trained on", at_least=1
    )
    words: str | None = key(
        None, "regular expression of texts that are one word, for example #Person\\d+#"
    )
    path: str | None = key(None, "tokenizer.json of a pretrained model, instead of training one")

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.words or "")
        except re.error as error:
            raise ConfigError(
                f"tokenizer.words={self.words} is not a regular expression: {error}"
            ) from None
