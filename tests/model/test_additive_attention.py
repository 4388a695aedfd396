import math

import pytest
import torch

from headcount.model.additive_attention import AdditiveAttention, additive_formula
from headcount.model.decoder_cache import additive_bias


def test_formula_with_a_loop() -> None:
    """Bahdanau et al. 2015: e_ts = v^T tanh(W s_t + U h_s), a = softmax(e), c_t = sum_s a_ts h_s."""
    torch.manual_seed(0)
    attention = AdditiveAttention(embedding_size=6, num_heads=1).double()
    states, memory = (
        torch.randn(1, 3, 6, dtype=torch.float64),
        torch.randn(1, 5, 6, dtype=torch.float64),
    )
    context, weights = attention.step(states, *attention.project_memory(memory))
    w, u = attention.query_projection.weight.detach(), attention.key_projection.weight.detach()
    bias, v = attention.key_projection.bias.detach(), attention.score_HK.detach()[0]
    for t in range(3):
        energies = []
        for s in range(5):
            inner = w @ states[0, t] + u @ memory[0, s] + bias
            energies.append(math.exp(sum(v[k].item() * math.tanh(inner[k]) for k in range(6))))
        for s in range(5):
            assert weights[0, 0, t, s].item() == pytest.approx(
                energies[s] / sum(energies), rel=1e-10
            )
        expected = sum(energies[s] / sum(energies) * memory[0, s] for s in range(5))
        torch.testing.assert_close(context[0, t], expected, rtol=0, atol=1e-10)


def test_heads_work_on_their_own_dimensions() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 4) for n in (2, 5, 5))
    score = torch.randn(3, 4)
    mixed, weights = additive_formula(query, key, value, score)
    for head in range(3):
        alone = (x[:, head : head + 1] for x in (query, key, value))
        one, one_weights = additive_formula(*alone, score[head : head + 1])
        torch.testing.assert_close(mixed[:, head : head + 1], one)
        torch.testing.assert_close(weights[:, head : head + 1], one_weights)


def test_masked_tokens_are_not_attended_to() -> None:
    attention = AdditiveAttention(embedding_size=8, num_heads=2)
    allowed = torch.tensor([[True, True, False], [True, False, False]])
    memory, states = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    mask = additive_bias(allowed, torch.float32)[:, None, None]
    context, weights = attention.step(states, *attention.project_memory(memory), mask)
    assert (weights[0, ..., 2] == 0).all() and (weights[1, ..., 1:] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 4))
    changed = memory.masked_fill(~allowed[..., None], 9.0)
    again, _ = attention.step(states, *attention.project_memory(changed), mask)
    torch.testing.assert_close(again, context)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"num_heads=3 .* embedding_size=16"):
        AdditiveAttention(embedding_size=16, num_heads=3)
