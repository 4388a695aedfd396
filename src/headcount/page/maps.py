"""Attention weights as bytes: one byte a weight, compressed, and as text within HTML.

A weight w is stored as the nearest of (k / 255) squared, k from 0 to 255. Small weights keep more
digits than large ones: the error is at most sqrt(w) / 255 + 8e-6, which is 0.4 percentage points
for a weight of one and 0.04 for a weight of one hundredth. Where the weights of a document would
take too much of the file, k is a multiple of a step of up to 15, and the error that many times as
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
MAX_PACKED = 200_000  # characters of one document
SELF_ATTENTION_BYTES = 2**16  # of one document's maps of document tokens to document tokens

Weights = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """The attention weights of one block on one document, or of a part of it.

    Attributes:
        site: what attends to what: ``encoder`` document to document, ``decoder`` summary to
            summary, ``cross`` summary to document.
        layer: of the site, from zero.
        block: name of the attention block, whose heads these are.
        weights: [heads, queries, keys].
        entropy: of each head, the mean over its queries of the exponential of the entropy: on how
            many tokens the attention is spread.
        span: tokens that a row and a column stand for; 1 unless the document is long.
    """

    site: str
    layer: int
    block: str
    weights: Weights
    entropy: list[float]
    span: int = 1


def spread(weights: Weights) -> list[float]:
    """Return the mean perplexity of each head's attention, from weights [heads, queries, keys]."""
    safe = np.where(weights > 0, weights, 1.0)
    entropy = -(weights * np.log(safe)).sum(-1)
    means: list[float] = np.exp(entropy).mean(-1).round(2).tolist()
    return means


def cells_of(tokens: int, heads: int) -> int:
    """Return on how many cells a side the attention within a document is stored.

    Args:
        tokens: of the document.
        heads: of all layers.
    """
    return max(1, min(tokens, math.isqrt(SELF_ATTENTION_BYTES // max(1, heads))))


def pool(weights: Weights, span: int) -> Weights:
    """Return attention between groups of neighbouring tokens, from weights [heads, T, T].

    The groups of a row still sum to one: keys are added, queries averaged.
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
    floor = np.floor(np.sqrt(scaled))
    # The nearest of two squares, not of two roots.
    is_nearer = scaled - floor**2 > (floor + 1) ** 2 - scaled
    return ((floor + is_nearer).clip(0, levels) * step).astype(np.uint8)


def dequantize(levels: NDArray[np.uint8]) -> Weights:
    """Return the weights that bytes stand for."""
    weights: Weights = (levels.astype(np.float64) / LEVELS) ** 2
    return weights


def pack(maps: Sequence[AttentionMap], step: int = 1) -> str:
    """Return the weights of maps, one after the other, as base64 of raw DEFLATE."""
    content = b"".join(quantize(each.weights, step).tobytes() for each in maps)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode("ascii")


def pack_small(maps: Sequence[AttentionMap]) -> tuple[str, int]:
    """Return packed weights, and the step of STEPS that their rounding needed to fit into
    MAX_PACKED; the last one if none did."""
    for step in STEPS:
        packed = pack(maps, step)
        if len(packed) <= MAX_PACKED:
            break
    return packed, step


def unpack(text: str) -> NDArray[np.uint8]:
    """Return the bytes that ``pack`` has stored."""
    content = zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS)
    return np.frombuffer(content, dtype=np.uint8)
