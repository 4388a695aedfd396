import math

import numpy as np
import pytest

from headcount.heads.attention_maps import AttentionMap
from headcount.heads.attention_statistics import attention_statistics


def causal_map(weights: list[list[float]], *, cross: bool = False) -> AttentionMap:
    size = len(weights)
    return AttentionMap(
        block="cross.0" if cross else "decoder.0",
        weights=np.array([weights]),
        allowed=np.tril(np.ones((size, size), dtype=bool)),
        query_ids=np.arange(size),
        key_ids=np.arange(size),
        positions=None if cross else np.arange(size),
        next_ids=None,
    )


def test_statistics_by_hand() -> None:
    found = attention_statistics(causal_map([[1, 0, 0], [0.5, 0.5, 0], [0, 0.25, 0.75]]))
    assert found.confidence[0] == pytest.approx((0.5 + 0.75) / 2)  # the first query has no choice
    entropies = [math.log(2), -0.25 * math.log(0.25) - 0.75 * math.log(0.75)]
    assert found.entropy[0] == pytest.approx(sum(entropies) / 2)
    assert found.distance[0] == pytest.approx((0.5 * 1 + 0.25 * 1) / 2)


def test_cross_attention_has_no_distance() -> None:
    found = attention_statistics(causal_map([[1, 0], [0.5, 0.5]], cross=True))
    assert math.isnan(found.distance[0]) and found.confidence[0] == 0.5


def test_one_token_says_nothing() -> None:
    found = attention_statistics(causal_map([[1.0]]))
    assert math.isnan(found.confidence[0]) and math.isnan(found.entropy[0])
