"""Attention weights as text within HTML: one byte per weight, compressed.

A weight w is stored as the nearest of (k / 255) squared, k from 0 to 255. Small weights keep more
digits than large ones: the error is at most sqrt(w) / 255 + 8e-6, which is 0.4 percentage points
for a weight of one and 0.04 for a weight of one hundredth. Where the weights of a document would
make the file too large, k is a multiple of a step of up to 15, and the error is that many times as
large.
"""

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 255
STEPS = (1, 3, 5, 15)  # divisors of LEVELS
MAX_PACKED = 200_000  # characters of the packed weights of one document
SELF_ATTENTION_BYTES = (
    2**16
)  # most bytes of one document's attention to itself, all heads together

Weights = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """The attention weights of one block on one document, or of a part of it.

    Attributes:
        site: ``encoder`` (document to document), ``decoder`` (summary to summary) or ``cross``
            (summary to document).
        layer: number of the layer within the site, from zero.
        block: name of the attention block that the heads belong to.
        weights: [heads, queries, keys].
        perplexity: of each head, see ``mean_perplexity``.
        span: number of tokens in a row and in a column; more than 1 only in a long document.
    """

    site: str
    layer: int
    block: str
    weights: Weights
    perplexity: list[float]
    span: int = 1


def mean_perplexity(weights: Weights) -> list[float]:
    """Return the mean perplexity of each head's attention, from weights [heads, queries, keys].

    The perplexity is the exponential of the entropy of a query's weights: n if they are uniform
    over n keys. It can be read as the number of keys that the query attends to.
    """
    safe = np.where(weights > 0, weights, 1.0)
    entropy = -(weights * np.log(safe)).sum(-1)
    means: list[float] = np.exp(entropy).mean(-1).round(2).tolist()
    return means


def cells_per_side(tokens: int, heads: int) -> int:
    """Return the number of rows and of columns in which attention within a document is stored.

    Args:
        tokens: number of tokens of the document.
        heads: number of heads of all layers together.
    """
    return max(1, min(tokens, math.isqrt(SELF_ATTENTION_BYTES // max(1, heads))))


def pool(weights: Weights, span: int) -> Weights:
    """Return attention between groups of ``span`` neighbouring tokens, from weights [heads, T, T].

    Keys are added and queries averaged, so that a row still sums to one.
    """
    begins = np.arange(0, weights.shape[-1], span)
    keys = np.add.reduceat(weights, begins, axis=2)
    sizes = np.diff([*begins, weights.shape[1]])
    pooled: Weights = np.add.reduceat(keys, begins, axis=1) / sizes[:, None]
    return pooled


def quantize(weights: Weights, step: int = 1) -> NDArray[np.uint8]:
    """Return weights as bytes k, the nearest of (k / 255) squared with k a multiple of a step."""
    levels = LEVELS // step
    scaled = weights.clip(0, 1) * levels**2

    # Rounding the root would not give the nearest square, so compare the squares below and above.
    floor = np.floor(np.sqrt(scaled))
    is_nearer = scaled - floor**2 > (floor + 1) ** 2 - scaled
    return ((floor + is_nearer).clip(0, levels) * step).astype(np.uint8)


def dequantize(levels: NDArray[np.uint8]) -> Weights:
    """Return the weights that the bytes of ``quantize`` represent."""
    weights: Weights = (levels.astype(np.float64) / LEVELS) ** 2
    return weights


def pack(maps: Sequence[AttentionMap], step: int = 1) -> str:
    """Return the concatenated weights of maps as base64 of raw DEFLATE, which browsers unpack."""
    content = b"".join(quantize(each.weights, step).tobytes() for each in maps)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode("ascii")


def pack_small(maps: Sequence[AttentionMap]) -> tuple[str, int]:
    """Return packed weights, and the smallest step with which they fit into ``MAX_PACKED``; the
    largest step if they do not fit with any."""
    for step in STEPS:
        packed = pack(maps, step)
        if len(packed) <= MAX_PACKED:
            break
    return packed, step


def unpack(text: str) -> NDArray[np.uint8]:
    """Return the bytes that ``pack`` has stored."""
    content = zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS)
    return np.frombuffer(content, dtype=np.uint8)
