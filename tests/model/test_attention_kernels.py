import math

import pytest
import torch
from torch import Tensor

from headcount.model.attention_kernels import (
    QKV,
    attend,
    attend_by_formula,
    attend_padded,
    attend_per_example,
    attention_formula,
    flash_supports,
)
from headcount.model.positions import alibi_slopes
from headcount.model.ragged import BatchLayout

LENGTHS, MEMORY_LENGTHS = [5, 1, 7, 3], [4, 9, 1, 6]


def test_formula_with_a_loop() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4), torch.randn(5, 1, 4), torch.randn(5, 1, 4)
    mixed, weights = attention_formula(query, key, value)
    for t in range(3):
        scores = [math.exp(float(query[t, 0] @ key[s, 0]) / 2) for s in range(5)]
        for s in range(5):
            assert weights[0, t, s].item() == pytest.approx(scores[s] / sum(scores), rel=1e-5)
        by_hand: Tensor = sum(scores[s] / sum(scores) * value[s, 0] for s in range(5))
        torch.testing.assert_close(mixed[t, 0], by_hand)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("alibi_too", [False, True])
@pytest.mark.parametrize("kind", ["all", "causal", "causal ends"])
@pytest.mark.parametrize("way", [attend_per_example, attend_padded])
def test_every_fast_way_equals_the_formula(
    way: object, kind: str, alibi_too: bool, kv_heads: int
) -> None:
    """Written out with a mask made by hand.

    Causal queries that are fewer than the keys are the last ones.
    """
    torch.manual_seed(0)
    causal = kind != "all"
    lengths = {
        "all": LENGTHS if alibi_too else MEMORY_LENGTHS,
        "causal": LENGTHS,
        "causal ends": [8, 4, 10, 6],
    }[kind]
    query = torch.randn(sum(LENGTHS), 4, 8, dtype=torch.float64, requires_grad=True)
    key, value = (
        torch.randn(sum(lengths), kv_heads, 8, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    x = QKV(
        query, key, value, BatchLayout.from_lengths(LENGTHS), BatchLayout.from_lengths(lengths)
    )
    slopes = alibi_slopes(4).double() if alibi_too else None
    expected = []
    for q, k, v in x.examples():
        ahead = len(k) - len(q)
        mask = torch.zeros(4, len(q), len(k), dtype=torch.float64)
        for t in range(len(q)):
            for s in range(len(k)):
                if slopes is not None:
                    mask[:, t, s] = -slopes * abs(t + ahead - s)
                if causal and s > t + ahead:
                    mask[:, t, s] = -math.inf
        expected.append(attention_formula(q, k, v, bias_HTS=mask)[0])
    mixed = way(x, causal=causal, slopes_H=slopes)
    torch.testing.assert_close(mixed, torch.cat(expected), rtol=0, atol=1e-12)
    seed = torch.randn_like(mixed)
    both = (
        torch.autograd.grad(y, [query, key, value], seed) for y in (mixed, torch.cat(expected))
    )
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "head_dim", "capability", "taken"),
    [
        (torch.bfloat16, 64, (9, 0), True),
        (torch.float16, 256, (8, 0), True),
        (torch.float32, 64, (9, 0), False),
        (torch.bfloat16, 4, (9, 0), False),  # 64 heads of 256
        (torch.bfloat16, 12, (9, 0), False),
        (torch.bfloat16, 512, (9, 0), False),  # one head of 512
        (torch.float16, 64, (7, 5), False),
    ],
)
def test_what_flash_attention_supports(
    dtype: torch.dtype, head_dim: int, capability: tuple[int, int], taken: bool
) -> None:
    assert flash_supports(dtype, head_dim, capability) == taken


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("head_dim", [4, 8, 64])
@pytest.mark.parametrize("causal", [False, True])
def test_on_a_gpu_it_is_the_formula_too(causal: bool, head_dim: int) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(sum(LENGTHS), 4, head_dim, device="cuda").bfloat16() for _ in range(3)]
    x = QKV(
        *parts,
        BatchLayout.from_lengths(LENGTHS, "cuda"),
        BatchLayout.from_lengths(LENGTHS, "cuda"),
    )
    wide = QKV(
        *(part.float().cpu() for part in parts),
        BatchLayout.from_lengths(LENGTHS),
        BatchLayout.from_lengths(LENGTHS),
    )
    torch.testing.assert_close(
        attend(x, causal=causal).float().cpu(),
        attend_per_example(wide, causal=causal),
        rtol=0,
        atol=3e-2,
    )


def test_padded_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(6, 2, 8) for _ in range(3))
    x = QKV(query, key, value, BatchLayout.from_lengths([4, 2]), BatchLayout.from_lengths([4, 2]))
    draws = torch.stack([attend_padded(x, causal=True, dropout_p=0.3) for _ in range(2000)])
    torch.testing.assert_close(draws.mean(0), attend_padded(x, causal=True), rtol=0, atol=0.15)
    assert draws.std(0).max() > 0.1


def test_bf16_on_a_cpu_attends_in_fp32() -> None:
    """Close to fp32 by rounding what goes in and out alone."""
    torch.manual_seed(0)
    parts = (torch.randn(sum(LENGTHS), 4, 8).bfloat16() for _ in range(3))
    x = QKV(*parts, BatchLayout.from_lengths(LENGTHS), BatchLayout.from_lengths(LENGTHS))
    wide = QKV(
        x.query_NHK.float(), x.key_MJK.float(), x.value_MJK.float(), x.layout, x.memory_layout
    )
    with torch.autocast("cpu", torch.bfloat16):
        found = attend_per_example(x, causal=True)
    assert torch.equal(found, attend_per_example(wide, causal=True).bfloat16())


def test_weights_of_bf16_on_a_cpu_are_fp32() -> None:
    torch.manual_seed(0)
    parts = (torch.randn(sum(LENGTHS), 4, 8).bfloat16() for _ in range(3))
    x = QKV(*parts, BatchLayout.from_lengths(LENGTHS), BatchLayout.from_lengths(LENGTHS))
    with torch.autocast("cpu", torch.bfloat16):
        found, weights = attend_by_formula(x, causal=True)
    expected, expected_weights = attend_by_formula(x.upcast_on_cpu(), causal=True)
    assert torch.equal(found, expected.bfloat16())
    for example, expected_example in zip(weights, expected_weights, strict=True):
        assert example.dtype == torch.float32
        assert torch.equal(example, expected_example)


def test_dropout_of_weights_keeps_their_mean() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(6, 2, 8) for _ in range(3))
    x = QKV(query, key, value, BatchLayout.from_lengths([6]), BatchLayout.from_lengths([6]))
    draws = torch.stack([attend_per_example(x, causal=True, dropout_p=0.3) for _ in range(3000)])
    torch.testing.assert_close(
        draws.mean(0), attend_per_example(x, causal=True), rtol=0, atol=0.12
    )
    assert draws.std(0).max() > 0.1
