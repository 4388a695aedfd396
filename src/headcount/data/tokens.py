"""Token ids of pairs, as an Arrow table that is made once and read through a memory map.

Documents and summaries are not cut here: ``headcount.data.batches`` cuts them.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from headcount.data.arrow_table import CHUNK, read_table, write_table
from headcount.data.cache import cached
from headcount.data.pairs import Pairs
from headcount.data.tokenizer import encode_texts

CACHE_VERSION = 1  # raise it when the token ids that the code below makes change
Ids = NDArray[np.int32]
SCHEMA = pa.schema({"document": pa.list_(pa.int32()), "summary": pa.list_(pa.int32())})


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> pa.ListArray:
    """Return the token ids of each text, without special tokens.

    Raises:
        ConfigError: the tokenizer cannot encode one of them.
    """
    return _to_arrow(encode_texts(tokenizer, texts))


def _to_arrow(encodings: Sequence[Encoding]) -> pa.ListArray:
    ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32)
    offsets = np.cumsum([0, *map(len, encodings)], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, ids)


def tokenize(pairs: Pairs, tokenizer: Tokenizer) -> Iterator[pa.RecordBatch]:
    """Yield the token ids of documents and first references, ``CHUNK`` pairs at a time.

    Raises:
        ConfigError: the tokenizer cannot encode one of them.
    """
    for begin in range(0, len(pairs), CHUNK):
        documents = pairs.documents[begin : begin + CHUNK]
        references = pairs.references[begin : begin + CHUNK]
        # A document to summarize has no reference.
        summaries = [texts[0] if texts else "" for texts in references]
        # Together they keep more threads busy.
        encodings = encode_texts(tokenizer, [*documents, *summaries])
        columns = [_to_arrow(encodings[: len(documents)]), _to_arrow(encodings[len(documents) :])]
        yield pa.record_batch(columns, schema=SCHEMA)


def prepare_tokens(pairs: Pairs, sha256: str, tokenizer: Tokenizer, cache_dir: str) -> pa.Table:
    """Return the token ids of pairs, from the cache if the same tokenizer encoded them before.

    Args:
        pairs: the split.
        sha256: digest of its texts.
        tokenizer: from ``headcount.data.tokenizer``.
        cache_dir: the ``data.cache_dir`` of the config.

    Raises:
        ConfigError: the tokenizer cannot encode one of the texts.
    """

    def build(folder: Path) -> None:
        write_table(folder / "tokens.arrow", SCHEMA, tokenize(pairs, tokenizer))

    key = [CACHE_VERSION, sha256, fingerprint(tokenizer)]
    folder = cached(cache_dir, "tokens", key, build)
    return read_table(folder / "tokens.arrow")


def fingerprint(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of a tokenizer.

    Without its post-processor, which we never use: only that of an export closes a document.
    """
    if tokenizer.post_processor is not None:
        state = {**json.loads(tokenizer.to_str()), "post_processor": None}
        tokenizer = Tokenizer.from_str(json.dumps(state))
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def split_by_text(column: pa.ListArray) -> list[Ids]:
    """Return the token ids of each text of an encoded column, as views."""
    ids = column.values.to_numpy(zero_copy_only=True)
    return np.split(ids, column.offsets.to_numpy()[1:-1])


class TokenColumn:
    """A column of token ids: those of an example are a view of the mapped file.

    Args:
        column: in chunks of ``CHUNK`` rows, of which the last one may be shorter.

    Attributes:
        lengths: number of tokens of each example; these are in memory.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.chunks = []
        lengths = [np.array([], np.int32)]
        for chunk in column.chunks:
            offsets = chunk.offsets.to_numpy()
            self.chunks.append((offsets, chunk.values.to_numpy(zero_copy_only=True)))
            lengths.append(np.diff(offsets))
        self.lengths = np.concatenate(lengths)

    def __getitem__(self, example: int) -> Ids:
        """Return the token ids of an example."""
        offsets, ids = self.chunks[example // CHUNK]
        row = example % CHUNK
        return ids[offsets[row] : offsets[row + 1]]
