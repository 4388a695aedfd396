import math

import pytest
import torch

from headcount.model.attention import MultiHeadAttention, QueryKeyNormAttention
from headcount.model.attention_kernels import attention_formula
from headcount.model.positions import alibi, alibi_slopes, rotate
from headcount.model.ragged import BatchLayout

LENGTHS, MEMORY_LENGTHS = [5, 1, 7, 3], [4, 9, 1, 6]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def ours_and_torchs(
    num_heads: int, dtype: torch.dtype
) -> tuple[MultiHeadAttention, torch.nn.MultiheadAttention]:
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
    """Output, weights and every gradient are those of torch.nn.MultiheadAttention, example by
    example."""
    ours, torchs = ours_and_torchs(num_heads, dtype)
    x = torch.randn(sum(LENGTHS), 16, dtype=dtype, requires_grad=True)
    lengths = MEMORY_LENGTHS if kind == "cross" else LENGTHS
    memory = (
        torch.randn(sum(lengths), 16, dtype=dtype, requires_grad=True) if kind == "cross" else x
    )
    outside = (memory, BatchLayout.from_lengths(lengths)) if kind == "cross" else None
    output, weights = ours(
        x,
        BatchLayout.from_lengths(LENGTHS),
        outside,
        causal=kind == "causal",
        return_weights=return_weights,
    )
    expected, expected_weights = [], []
    for query, key in zip(x.split(LENGTHS), memory.split(lengths), strict=True):
        future = (
            torch.ones(len(query), len(key), dtype=torch.bool).triu(1)
            if kind == "causal"
            else None
        )
        one, one_weights = torchs(
            query[None], key[None], key[None], attn_mask=future, average_attn_weights=False
        )
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
    pairs = [
        torchs.in_proj_weight,
        torchs.in_proj_bias,
        torchs.out_proj.weight,
        torchs.out_proj.bias,
    ]
    torchs_grads = torch.autograd.grad(torch.cat(expected), [*inputs, *pairs], seed)
    for one, other in zip(ours_grads, torchs_grads, strict=True):
        torch.testing.assert_close(
            one, other, rtol=0.0, atol=10 * TOLERANCE[dtype] if dtype == torch.float32 else 1e-10
        )


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_grouped_queries_equal_repeated_keys(
    dtype: torch.dtype, causal: bool, num_kv_heads: int
) -> None:
    """Output and gradients are those of ordinary heads with repeated key and value weights
    (Ainslie et al. 2023)."""
    torch.manual_seed(0)
    grouped = MultiHeadAttention(embedding_size=16, num_heads=4, num_kv_heads=num_kv_heads).to(
        dtype
    )
    repeated = MultiHeadAttention(embedding_size=16, num_heads=4).to(dtype)
    query, key, value = grouped.input_projection.weight.detach().split(grouped.sizes)
    times = 4 // num_kv_heads
    wide = [
        part.unflatten(0, (num_kv_heads, 4)).repeat_interleave(times, 0).flatten(0, 1)
        for part in (key, value)
    ]
    with torch.no_grad():
        repeated.input_projection.weight.copy_(torch.cat([query, *wide]))
        repeated.output_projection.load_state_dict(grouped.output_projection.state_dict())
    x, layout = (
        torch.randn(sum(LENGTHS), 16, dtype=dtype, requires_grad=True),
        BatchLayout.from_lengths(LENGTHS),
    )
    for return_weights in (False, True):
        found, weights = grouped(x, layout, causal=causal, return_weights=return_weights)
        expected, expected_weights = repeated(
            x, layout, causal=causal, return_weights=return_weights
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype])
        for one, other in zip(weights or [], expected_weights or [], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[dtype])
    seed = torch.randn_like(found)
    weight_grad, x_grad = torch.autograd.grad(found, [grouped.input_projection.weight, x], seed)
    expected_grad, expected_x_grad = torch.autograd.grad(
        expected, [repeated.input_projection.weight, x], seed
    )
    torch.testing.assert_close(x_grad, expected_x_grad, rtol=0, atol=10 * TOLERANCE[dtype])
    parts = expected_grad.split(16)
    summed = [
        part.unflatten(0, (num_kv_heads, times, 4)).sum(1).flatten(0, 1) for part in parts[1:]
    ]
    torch.testing.assert_close(
        weight_grad, torch.cat([parts[0], *summed]), rtol=0, atol=50 * TOLERANCE[dtype]
    )


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_places_are_told_by_the_attention(dtype: torch.dtype, positions: str) -> None:
    """Output and gradients equal the formula with queries and keys turned, or scores biased, by
    hand."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(
        embedding_size=16, num_heads=4, positions=positions, max_positions=9
    ).to(dtype)
    x = torch.randn(7, 16, dtype=dtype, requires_grad=True)
    found, _ = attention(x, BatchLayout.from_lengths([7]), causal=True)
    query, key, value = (
        p.unflatten(-1, (4, 4)) for p in attention.input_projection(x).chunk(3, -1)
    )
    mask = torch.full((7, 7), -math.inf, dtype=dtype).triu(1).expand(4, 7, 7)
    if positions == "rotary":
        query, key = (rotate(part, attention.rotations, torch.arange(7)) for part in (query, key))
    else:
        mask = mask + alibi(alibi_slopes(4).to(dtype), torch.arange(7), torch.arange(7))
    expected = attention.output_projection(
        attention_formula(query, key, value, bias_HTS=mask)[0].flatten(1)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype])
    seed = torch.randn_like(found)
    for one, other in zip(
        *(torch.autograd.grad(y, [x], seed) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=10 * TOLERANCE[dtype])


def test_query_key_norm_bounds_the_scores() -> None:
    """However large its input and weights, no query matches a key better than by sqrt(head_dim)."""
    attention = QueryKeyNormAttention(embedding_size=16, num_heads=4).double()
    x = 100 * torch.randn(7, 16, dtype=torch.float64)
    _, [weights] = attention(x, BatchLayout.from_lengths([7]), return_weights=True)
    query, key, _ = (p.unflatten(-1, (4, 4)) for p in attention.input_projection(x).chunk(3, -1))
    cosines = torch.einsum(
        "thk,shk->hts", *(part / part.norm(dim=-1, keepdim=True) for part in (query, key))
    )
    torch.testing.assert_close(weights, (2 * cosines).softmax(-1))


def test_attention_dropout_acts_in_training_alone() -> None:
    attention = MultiHeadAttention(embedding_size=8, num_heads=2, dropout=0.5)
    x, layout = torch.randn(6, 8), BatchLayout.from_lengths([4, 2])
    assert not torch.equal(attention(x, layout)[0], attention(x, layout)[0])
    attention.eval()
    assert torch.equal(attention(x, layout)[0], attention(x, layout)[0])


def test_head_width_is_a_setting_of_its_own() -> None:
    attention = MultiHeadAttention(embedding_size=16, num_heads=3, head_dim=10, num_kv_heads=1)
    assert attention.input_projection.weight.shape == ((3 + 1 + 1) * 10, 16)
    assert attention.output_projection.weight.shape == (16, 30)
    output, weights = attention(
        torch.randn(5, 16), BatchLayout.from_lengths([3, 2]), return_weights=True
    )
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
    assert "num_heads=4, num_kv_heads=4, head_dim=4" in repr(
        MultiHeadAttention(embedding_size=16, num_heads=4)
    )
