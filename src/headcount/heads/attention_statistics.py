"""Confidence, entropy and distance of attention, for each head.

Confidence is the mean over queries of the largest weight (Voita et al. 2019, section 4.1). Queries
that can attend to one key only, such as the first of a causal block, are excluded: their weight is
one whatever the head does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headcount.heads.attention_maps import AttentionMap

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AttentionStatistics:
    """Statistics of the heads of one block on one document, each [heads].

    Attributes:
        confidence: mean over queries of the largest weight.
        entropy: mean over queries of the entropy of the weights, in nats.
        distance: mean over queries of the expected distance to the keys, in tokens; NaN for
            cross-attention.
    """

    confidence: Values
    entropy: Values
    distance: Values


def attention_statistics(attention: AttentionMap) -> AttentionStatistics:
    """Return the statistics of the heads of a block on a document.

    All are NaN if no query has more than one key.
    """
    has_choice = attention.allowed.sum(1) > 1
    weights = attention.weights[:, has_choice]
    if not has_choice.any():
        nothing = np.full(len(weights), np.nan)
        return AttentionStatistics(confidence=nothing, entropy=nothing, distance=nothing)

    # Of a weight of zero, w log w is zero.
    logarithm = np.log(weights, out=np.zeros_like(weights), where=weights > 0)

    # Queries and keys of cross-attention are different texts.
    if attention.positions is None:
        distance = np.full(len(weights), np.nan)
    else:
        offsets = np.arange(weights.shape[2]) - attention.positions[has_choice, None]
        distance = (weights * np.abs(offsets)).sum(-1).mean(-1)

    return AttentionStatistics(
        confidence=weights.max(-1).mean(-1),
        entropy=-(weights * logarithm).sum(-1).mean(-1),
        distance=distance,
    )
