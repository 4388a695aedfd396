"""The tokenizer: a byte-level BPE (Sennrich et al. 2016; bytes: Radford et al. 2019), trained on the data at hand."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from headcount.config import ConfigError

START, END = "<s>", "</s>"  # every special token there is: a summary starts from START; END closes both sides


def prepare_tokenizer(texts: Sequence[str], vocabulary_size: int, cache_dir: Path) -> Tokenizer:
    """Train a tokenizer on these texts, or find it in the cache by their content."""
    content = hashlib.sha256(f"1 {vocabulary_size}".encode())
    for text in texts:
        content.update(text.encode() + b"\0")
    path = cache_dir / f"tokenizer-{content.hexdigest()[:16]}.json"
    if not path.is_file():
        tokenizer = train_tokenizer(texts, vocabulary_size)
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
            tokenizer.save(f"{scratch}/tokenizer.json")
            os.replace(f"{scratch}/tokenizer.json", path)
    return load_tokenizer(path)


def train_tokenizer(texts: Sequence[str], vocabulary_size: int) -> Tokenizer:
    """Train a byte-level BPE; any text can be encoded with it and decoded without loss."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer that was saved with a run.

    Raises:
        ConfigError: there is no tokenizer at the path.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{path}: not a tokenizer ({error})") from None
    tokenizer.encode_special_tokens = True  # "</s>" within a text is text
    return tokenizer
