"""Token ids of pairs: made once, uncut, into Arrow, and read through a memory map."""

import hashlib
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

FORMAT = 1  # raise it when the token ids that the code below makes change
Ids = NDArray[np.int32]
SCHEMA = pa.schema({"document": pa.list_(pa.int32()), "summary": pa.list_(pa.int32())})


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> pa.ListArray:
    """Return the token ids of some texts, encoded in parallel, without special tokens."""
    return _ids_of(tokenizer.encode_batch_fast(texts, add_special_tokens=False))


def _ids_of(encodings: Sequence[Encoding]) -> pa.ListArray:
    ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32)
    bounds = np.cumsum([0, *map(len, encodings)], dtype=np.int32)
    return pa.ListArray.from_arrays(bounds, ids)


def tokenize(pairs: Pairs, tokenizer: Tokenizer) -> Iterator[pa.RecordBatch]:
    """Yield the token ids of the documents and first references, a chunk of pairs at a time."""
    for begin in range(0, len(pairs), CHUNK):
        documents = pairs.documents[begin : begin + CHUNK]
        references = pairs.references[begin : begin + CHUNK]
        summaries = [texts[0] if texts else "" for texts in references]
        both = tokenizer.encode_batch_fast([*documents, *summaries], add_special_tokens=False)
        yield pa.record_batch(
            [_ids_of(both[: len(documents)]), _ids_of(both[len(documents) :])], schema=SCHEMA
        )


def prepare_tokens(pairs: Pairs, sha256: str, tokenizer: Tokenizer, cache_dir: str) -> pa.Table:
    """Return the token ids of pairs, from the cache where the same texts met the same tokenizer
    before.

    Args:
        pairs: the split.
        sha256: of its texts.
        tokenizer: from ``headcount.data.tokenizer``.
        cache_dir: the ``data.cache_dir`` of the config.
    """

    def build(folder: Path) -> None:
        write_table(folder / "tokens.arrow", SCHEMA, tokenize(pairs, tokenizer))

    key = [FORMAT, sha256, fingerprint(tokenizer)]
    return read_table(cached(cache_dir, "tokens", key, build) / "tokens.arrow")


def fingerprint(tokenizer: Tokenizer) -> str:
    """Return the sha256 of a tokenizer."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def views(cells: pa.ListArray) -> list[Ids]:
    """Return the token ids of each text, as views."""
    return np.split(cells.values.to_numpy(zero_copy_only=True), cells.offsets.to_numpy()[1:-1])


class TokenColumn:
    """A column of token ids.

    Each example's are a view of the mapped file, and their numbers are in memory.
    """

    def __init__(self, cells: pa.ChunkedArray) -> None:
        """Take a column of chunks of ``CHUNK`` rows, the last one perhaps shorter."""
        self.chunks = [
            (c.offsets.to_numpy(), c.values.to_numpy(zero_copy_only=True)) for c in cells.chunks
        ]
        self.lengths = np.concatenate(
            [np.array([], np.int32), *(np.diff(bounds) for bounds, _ in self.chunks)]
        )

    def __getitem__(self, example: int) -> Ids:
        """Return the token ids of an example."""
        bounds, ids = self.chunks[example // CHUNK]
        row = example % CHUNK
        return ids[bounds[row] : bounds[row + 1]]
