import math

import pytest
import torch
from torch import Tensor

from headcount.model.attention import MultiHeadAttention, Projected, attend_each, attend_padded, attention_formula
from headcount.model.positions import alibi, alibi_slopes, rotate
from headcount.model.ragged import Rows

LENGTHS, MEMORY_LENGTHS = [5, 1, 7, 3], [4, 9, 1, 6]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def ours_and_torchs(num_heads: int, dtype: torch.dtype) -> tuple[MultiHeadAttention, torch.nn.MultiheadAttention]:
    torch.manual_seed(num_heads)
    ours = MultiHeadAttention(embedding_size=16, num_heads=num_heads).to(dtype)
    torchs = torch.nn.MultiheadAttention(16, num_heads, batch_first=True).to(dtype)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.uniform_(-0.5, 0.5)
        torchs.in_proj_weight.copy_(ours.input_projection.weight)
        torchs.in_proj_bias.copy_(ours.input_projection.bias)
        torchs.out_proj.weight.copy_(ours.output_projection.weight)
        torchs.out_proj.bias.copy_(ours.output_projection.bias)
    return ours, torchs


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize("kind", ["self", "causal", "cross"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("num_heads", [1, 2, 4, 8])
def test_equals_torch(num_heads: int, dtype: torch.dtype, kind: str, return_weights: bool) -> None:
    """Output, weights and every gradient are those of torch.nn.MultiheadAttention, example by example."""
    ours, torchs = ours_and_torchs(num_heads, dtype)
    x = torch.randn(sum(LENGTHS), 16, dtype=dtype, requires_grad=True)
    lengths = MEMORY_LENGTHS if kind == "cross" else LENGTHS
    memory = torch.randn(sum(lengths), 16, dtype=dtype, requires_grad=True) if kind == "cross" else x
    outside = (memory, Rows.of(lengths)) if kind == "cross" else None
    output, weights = ours(x, Rows.of(LENGTHS), outside, causal=kind == "causal", return_weights=return_weights)
    expected, expected_weights = [], []
    for query, key in zip(x.split(LENGTHS), memory.split(lengths), strict=True):
        future = torch.ones(len(query), len(key), dtype=torch.bool).triu(1) if kind == "causal" else None
        one, one_weights = torchs(query[None], key[None], key[None], attn_mask=future, average_attn_weights=False)
        expected.append(one[0])
        expected_weights.append(one_weights[0])
    close = {"rtol": 0.0, "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(output, torch.cat(expected), **close)
    if return_weights:
        for one, other in zip(weights, expected_weights, strict=True):
            torch.testing.assert_close(one, other, **close)
    else:
        assert weights is None

    seed = torch.randn_like(output)
    inputs = [x, memory] if kind == "cross" else [x]
    ours_grads = torch.autograd.grad(output, [*inputs, *ours.parameters()], seed)
    pairs = [torchs.in_proj_weight, torchs.in_proj_bias, torchs.out_proj.weight, torchs.out_proj.bias]
    torchs_grads = torch.autograd.grad(torch.cat(expected), [*inputs, *pairs], seed)
    for one, other in zip(ours_grads, torchs_grads, strict=True):
        torch.testing.assert_close(
            one, other, rtol=0.0, atol=10 * TOLERANCE[dtype] if dtype == torch.float32 else 1e-10
        )


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("alibi_too", [False, True])
@pytest.mark.parametrize("kind", ["all", "causal", "causal ends"])
@pytest.mark.parametrize("way", [attend_each, attend_padded])
def test_every_fast_way_equals_the_formula(way: object, kind: str, alibi_too: bool, kv_heads: int) -> None:
    """Written out with a mask made by hand; causal queries that are fewer than the keys are the last ones."""
    torch.manual_seed(0)
    causal = kind != "all"
    lengths = {"all": LENGTHS if alibi_too else MEMORY_LENGTHS, "causal": LENGTHS, "causal ends": [8, 4, 10, 6]}[kind]
    query = torch.randn(sum(LENGTHS), 4, 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(sum(lengths), kv_heads, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    x = Projected(query, key, value, Rows.of(LENGTHS), Rows.of(lengths))
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
        expected.append(attention_formula(q, k, v, mask_HTS=mask)[0])
    mixed = way(x, causal=causal, slopes_H=slopes)  # type: ignore[operator]
    torch.testing.assert_close(mixed, torch.cat(expected), rtol=0, atol=1e-12)
    seed = torch.randn_like(mixed)
    both = (torch.autograd.grad(y, [query, key, value], seed) for y in (mixed, torch.cat(expected)))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_grouped_queries_equal_repeated_keys(dtype: torch.dtype, causal: bool, num_kv_heads: int) -> None:
    """Output and gradients are those of ordinary heads with repeated key and value weights (Ainslie et al. 2023)."""
    torch.manual_seed(0)
    grouped = MultiHeadAttention(embedding_size=16, num_heads=4, num_kv_heads=num_kv_heads).to(dtype)
    repeated = MultiHeadAttention(embedding_size=16, num_heads=4).to(dtype)
    query, key, value = grouped.input_projection.weight.detach().split(grouped.sizes)
    times = 4 // num_kv_heads
    wide = [part.unflatten(0, (num_kv_heads, 4)).repeat_interleave(times, 0).flatten(0, 1) for part in (key, value)]
    with torch.no_grad():
        repeated.input_projection.weight.copy_(torch.cat([query, *wide]))
        repeated.output_projection.load_state_dict(grouped.output_projection.state_dict())
    x, rows = torch.randn(sum(LENGTHS), 16, dtype=dtype, requires_grad=True), Rows.of(LENGTHS)
    for return_weights in (False, True):
        found, weights = grouped(x, rows, causal=causal, return_weights=return_weights)
        expected, expected_weights = repeated(x, rows, causal=causal, return_weights=return_weights)
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype])
        for one, other in zip(weights or [], expected_weights or [], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[dtype])
    seed = torch.randn_like(found)
    weight_grad, x_grad = torch.autograd.grad(found, [grouped.input_projection.weight, x], seed)
    expected_grad, expected_x_grad = torch.autograd.grad(expected, [repeated.input_projection.weight, x], seed)
    torch.testing.assert_close(x_grad, expected_x_grad, rtol=0, atol=10 * TOLERANCE[dtype])
    parts = expected_grad.split(16)
    summed = [part.unflatten(0, (num_kv_heads, times, 4)).sum(1).flatten(0, 1) for part in parts[1:]]
    torch.testing.assert_close(weight_grad, torch.cat([parts[0], *summed]), rtol=0, atol=50 * TOLERANCE[dtype])


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_places_are_told_by_the_attention(dtype: torch.dtype, positions: str) -> None:
    """Output and gradients equal the formula with queries and keys turned, or scores biased, by hand."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(embedding_size=16, num_heads=4, positions=positions, max_positions=9).to(dtype)  # type: ignore[arg-type]
    x = torch.randn(7, 16, dtype=dtype, requires_grad=True)
    found, _ = attention(x, Rows.of([7]), causal=True)
    query, key, value = (p.unflatten(-1, (4, 4)) for p in attention.input_projection(x).chunk(3, -1))
    mask = torch.full((7, 7), -math.inf, dtype=dtype).triu(1).expand(4, 7, 7)
    if positions == "rotary":
        query, key = (rotate(part, attention.rotations, torch.arange(7)) for part in (query, key))
    else:
        mask = mask + alibi(alibi_slopes(4).to(dtype), torch.arange(7), torch.arange(7))
    expected = attention.output_projection(attention_formula(query, key, value, mask_HTS=mask)[0].flatten(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype])
    seed = torch.randn_like(found)
    for one, other in zip(*(torch.autograd.grad(y, [x], seed) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=10 * TOLERANCE[dtype])


def test_formula_with_a_loop() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4), torch.randn(5, 1, 4), torch.randn(5, 1, 4)
    mixed, weights = attention_formula(query, key, value)
    for t in range(3):
        scores = [math.exp(float(query[t, 0] @ key[s, 0]) / 2) for s in range(5)]
        for s in range(5):
            assert weights[0, t, s].item() == pytest.approx(scores[s] / sum(scores), rel=1e-5)
        by_hand: Tensor = sum(scores[s] / sum(scores) * value[s, 0] for s in range(5))  # type: ignore[assignment]
        torch.testing.assert_close(mixed[t, 0], by_hand)


def test_attention_dropout_acts_in_training_alone() -> None:
    attention = MultiHeadAttention(embedding_size=8, num_heads=2, dropout=0.5)
    x, rows = torch.randn(6, 8), Rows.of([4, 2])
    assert not torch.equal(attention(x, rows)[0], attention(x, rows)[0])
    attention.eval()
    assert torch.equal(attention(x, rows)[0], attention(x, rows)[0])


def test_bf16_on_a_cpu_attends_in_fp32() -> None:
    """Close to fp32 by rounding what goes in and out alone."""
    torch.manual_seed(0)
    parts = (torch.randn(sum(LENGTHS), 4, 8).bfloat16() for _ in range(3))
    x = Projected(*parts, Rows.of(LENGTHS), Rows.of(LENGTHS))
    wide = Projected(x.query_NHK.float(), x.key_MJK.float(), x.value_MJK.float(), x.rows, x.memory_rows)
    with torch.autocast("cpu", torch.bfloat16):
        found = attend_each(x, causal=True)
    assert torch.equal(found, attend_each(wide, causal=True).bfloat16())


def test_dropout_of_weights_keeps_their_mean() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(6, 2, 8) for _ in range(3))
    x = Projected(query, key, value, Rows.of([6]), Rows.of([6]))
    draws = torch.stack([attend_each(x, causal=True, dropout_share=0.3) for _ in range(3000)])
    torch.testing.assert_close(draws.mean(0), attend_each(x, causal=True), rtol=0, atol=0.12)
    assert draws.std(0).max() > 0.1


def test_head_width_is_a_knob_of_its_own() -> None:
    attention = MultiHeadAttention(embedding_size=16, num_heads=3, head_dim=10, num_kv_heads=1)
    assert attention.input_projection.weight.shape == ((3 + 1 + 1) * 10, 16)
    assert attention.output_projection.weight.shape == (16, 30)
    output, weights = attention(torch.randn(5, 16), Rows.of([3, 2]), return_weights=True)
    assert output.shape == (5, 16) and [w.shape for w in weights] == [(3, 3, 3), (3, 2, 2)]


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"num_heads=3 .* embedding_size=16"):
        MultiHeadAttention(embedding_size=16, num_heads=3)


def test_what_does_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"num_kv_heads=3 does not divide num_heads=4"):
        MultiHeadAttention(embedding_size=16, num_heads=4, num_kv_heads=3)
    with pytest.raises(ValueError, match=r"positions=rotary .* head_dim=3"):
        MultiHeadAttention(embedding_size=12, num_heads=4, positions="rotary", max_positions=5)


def test_repr_states_the_heads() -> None:
    assert "num_heads=4, num_kv_heads=4, head_dim=4" in repr(MultiHeadAttention(embedding_size=16, num_heads=4))
