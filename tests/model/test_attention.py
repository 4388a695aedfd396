import math

import pytest
import torch
from torch import Tensor

from headcount.model.attention import MultiHeadAttention, Projected, Rows, attend_each, attend_padded, attention_formula

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


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("way", [attend_each, attend_padded])
def test_every_fast_way_equals_the_formula(way: object, causal: bool) -> None:
    torch.manual_seed(0)
    lengths = LENGTHS if causal else MEMORY_LENGTHS
    query = torch.randn(sum(LENGTHS), 2, 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(sum(lengths), 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    x = Projected(query, key, value, Rows.of(LENGTHS), Rows.of(lengths))
    expected = torch.cat([attention_formula(*example, causal=causal)[0] for example in x.examples()])
    mixed = way(x, causal=causal)  # type: ignore[operator]
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-12)
    seed = torch.randn_like(mixed)
    for one, other in zip(*(torch.autograd.grad(y, [query, key, value], seed) for y in (mixed, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_formula_with_a_loop() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4), torch.randn(5, 1, 4), torch.randn(5, 1, 4)
    mixed, weights = attention_formula(query, key, value, causal=False)
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


def test_rows() -> None:
    rows = Rows.of([2, 1, 3])
    assert rows.bounds.tolist() == [0, 2, 3, 6]
    assert rows.positions().tolist() == [0, 1, 0, 0, 1, 2]
    padded, real = rows.pad(torch.arange(1, 7))
    assert padded.tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
    assert real.tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"num_heads=3 .* embedding_size=16"):
        MultiHeadAttention(embedding_size=16, num_heads=3)


def test_repr_states_the_heads() -> None:
    assert "num_heads=4, head_dim=4" in repr(MultiHeadAttention(embedding_size=16, num_heads=4))
