import numpy as np
import pytest

from headcount.page import maps
from headcount.page.maps import (
    STEPS,
    AttentionMap,
    cells_per_side,
    dequantize,
    mean_perplexity,
    pack,
    pack_small,
    pool,
    quantize,
    unpack,
)


@pytest.mark.parametrize("step", STEPS)
def test_rounding_is_to_the_nearest_level_and_its_error_is_as_stated(step: int) -> None:
    weights = np.random.default_rng(0).random(20_000) ** 4
    weights[:3] = 0, 1, 1 + 1e-9
    levels = quantize(weights, step)
    errors = abs(dequantize(levels) - weights.clip(0, 1))
    assert (errors <= step * np.sqrt(weights) / 255 + step**2 * 8e-6).all()
    assert errors.max() < 0.004 * step
    every = (np.arange(0, 256, step) / 255) ** 2
    assert np.allclose(errors, abs(every[:, None] - weights.clip(0, 1)).min(0), rtol=0, atol=1e-15)
    assert levels[:2].tolist() == [0, 255]


def test_large_maps_are_rounded_further_and_small_ones_are_not(monkeypatch) -> None:
    monkeypatch.setattr(maps, "MAX_PACKED", 8_000)
    draw = np.random.default_rng(0)
    weights = draw.dirichlet(np.ones(500), (4, 20))
    large = AttentionMap(site="cross", layer=0, block="cross.0", weights=weights, perplexity=[])
    packed, step = pack_small([large])
    assert step > 1 and len(packed) < len(pack([large])) / 2
    assert np.array_equal(unpack(packed), quantize(weights, step).ravel())
    small = AttentionMap(
        site="cross", layer=0, block="cross.0", weights=weights[:2, :5], perplexity=[]
    )
    assert pack_small([small]) == (pack([small]), 1)


def test_spread_is_one_for_a_single_token_and_all_for_uniform_attention() -> None:
    weights = np.zeros((2, 3, 8))
    weights[0, :, 2] = 1
    weights[1] = 1 / 8
    assert mean_perplexity(weights) == [1.0, 8.0]


@pytest.mark.parametrize(("tokens", "span"), [(10, 3), (9, 3), (7, 10), (4, 1)])
def test_pooled_rows_still_sum_to_one(tokens: int, span: int) -> None:
    weights = np.random.default_rng(0).random((2, tokens, tokens))
    weights /= weights.sum(-1, keepdims=True)
    pooled = pool(weights, span)
    cells = -(-tokens // span)
    assert pooled.shape == (2, cells, cells) and np.allclose(pooled.sum(-1), 1)
    assert np.allclose(pooled[0, 0, 0], weights[0, :span, :span].sum(-1).mean())


def test_short_documents_are_not_pooled_and_long_ones_fit() -> None:
    assert cells_per_side(100, 4) == 100 and cells_per_side(0, 4) == 1
    assert cells_per_side(512, 32) ** 2 * 32 <= 2**16


def test_packed_maps_come_back_in_order() -> None:
    draw = np.random.default_rng(0)
    maps = [
        AttentionMap(
            site="cross", layer=0, block="cross.0", weights=draw.random(shape), perplexity=[]
        )
        for shape in ((2, 3, 5), (1, 4, 4))
    ]
    expected = np.concatenate([quantize(each.weights).ravel() for each in maps])
    assert np.array_equal(unpack(pack(maps)), expected)
