"""Where the sentences of documents begin, among their tokens."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from headcount.data.arrow_table import CHUNK, read_table, write_table
from headcount.data.cache import cached
from headcount.data.pairs import Pairs
from headcount.data.tokenizer import encode_texts
from headcount.data.tokens import Ids, TokenColumn, fingerprint

CACHE_VERSION = 2  # raise it when the positions of sentences that the code below finds change
SENTENCES_SCHEMA = pa.schema({"sentences": pa.list_(pa.int32())})

SplitUnits = Callable[[str], list[str]]  # the sentences or lines of a text, as they are in it


def prepare_sentences(
    pairs: Pairs,
    sha256: str,
    tokenizer: Tokenizer,
    *,
    unit: str,
    split_units: SplitUnits,
    cache_dir: str,
) -> TokenColumn:
    """Return the first token of each sentence of each document, from the cache if it is there.

    Args:
        pairs: the split.
        sha256: digest of its texts.
        tokenizer: from ``headcount.data.tokenizer``.
        unit: the name of what ``split_units`` finds.
        split_units: finds sentences, or lines.
        cache_dir: the ``data.cache_dir`` of the config.

    Raises:
        ConfigError: the tokenizer cannot encode one of the documents.
    """

    def build(folder: Path) -> None:
        write_table(folder / "sentences.arrow", SENTENCES_SCHEMA, chunks())

    def chunks() -> Iterator[pa.RecordBatch]:
        for begin in range(0, len(pairs), CHUNK):
            documents = pairs.documents[begin : begin + CHUNK]
            rows = find_sentences(documents, tokenizer, split_units)
            yield pa.record_batch([pa.array(rows, pa.list_(pa.int32()))], SENTENCES_SCHEMA)

    key = [CACHE_VERSION, sha256, fingerprint(tokenizer), unit]
    folder = cached(cache_dir, "sentences", key, build)
    return TokenColumn(read_table(folder / "sentences.arrow")["sentences"])


def find_sentences(
    documents: Sequence[str], tokenizer: Tokenizer, split_units: SplitUnits
) -> list[Ids]:
    """Return the first token of each sentence of each document.

    A sentence of which the tokenizer leaves nothing is none.
    """
    encodings = encode_texts(tokenizer, documents, with_offsets=True)
    rows = []
    for document, encoding in zip(documents, encodings, strict=True):
        ends = np.array([end for _, end in encoding.offsets], np.int64)
        begins = _begins(document, split_units(document))

        # The token that holds the first character, perhaps after a blank.
        first_tokens = np.unique(np.searchsorted(ends, begins, side="right"))
        rows.append(first_tokens[first_tokens < len(ends)].astype(np.int32))
    return rows


def _begins(document: str, units: Sequence[str]) -> list[int]:
    """Return the first character of each unit that is not blank; 0 for the first one."""
    begins: list[int] = []
    position = 0
    for unit in units:
        text = unit.strip()
        if text:
            position = document.index(text, position)
            begins.append(position if begins else 0)
            position += len(text)
    return begins
