"""Roles are found on attention that was made to have them, and nowhere else."""

import numpy as np
import pytest

from headcount.heads.attention_maps import AttentionMap
from headcount.heads.roles import (
    CROSS_ROLES,
    SELF_ROLES,
    TokenKinds,
    find_roles,
    role_targets,
    score_roles,
    token_kinds,
)

VOCABULARY = 40
DELIMITERS = {0, 1, 2}
SPEAKERS = {3, 4}
KINDS = TokenKinds(
    is_delimiter=np.isin(np.arange(VOCABULARY), list(DELIMITERS)),
    is_speaker=np.isin(np.arange(VOCABULARY), list(SPEAKERS)),
)


def random_weights(allowed: np.ndarray, heads: int, draw: np.random.Generator) -> np.ndarray:
    raw = draw.exponential(1.0, (heads, *allowed.shape)) ** 3 * allowed
    return raw / raw.sum(-1, keepdims=True)


def self_map(draw: np.random.Generator, heads: int = 4, tokens: int = 20) -> AttentionMap:
    ids = draw.integers(0, VOCABULARY // 4, tokens)  # many repeats
    allowed = np.ones((tokens, tokens), dtype=bool)
    return AttentionMap(
        block="encoder.0",
        weights=random_weights(allowed, heads, draw),
        allowed=allowed,
        query_ids=ids,
        key_ids=ids,
        positions=np.arange(tokens),
        next_ids=None,
    )


def cross_map(draw: np.random.Generator, heads: int = 4) -> AttentionMap:
    document = draw.integers(0, VOCABULARY, 30)
    written = draw.choice(document, 10)
    allowed = np.ones((10, 30), dtype=bool)
    return AttentionMap(
        block="cross.0",
        weights=random_weights(allowed, heads, draw),
        allowed=allowed,
        query_ids=np.concatenate([[0], written[:-1]]),
        key_ids=document,
        positions=None,
        next_ids=written,
    )


def attend_to(attention: AttentionMap, head: int, targets: np.ndarray) -> None:
    """Let a head put nine tenths of its attention on the targets of each query that has any."""
    for query, is_target in enumerate(targets & attention.allowed):
        if is_target.any() and not is_target.all():
            row = np.where(is_target, 0.9 / is_target.sum(), 0.0)
            others = attention.allowed[query] & ~is_target
            attention.weights[head, query] = row + np.where(others, 0.1 / others.sum(), 0.0)


def analyse(maps: list[AttentionMap]) -> dict[tuple[str, str], list]:
    draw = np.random.default_rng(0)
    scores: dict[tuple[str, str], list] = {}
    for attention in maps:
        for role, values in score_roles(attention, KINDS, draw).items():
            scores.setdefault((attention.block, role), []).append(values)
    stacked = {
        key: (np.stack([s for s, _ in values]), np.stack([e for _, e in values]))
        for key, values in scores.items()
    }
    return find_roles(stacked)


@pytest.mark.parametrize("role", [role for role in SELF_ROLES if role != "position"])
def test_a_self_attention_role_is_found_at_its_head_only(role: str) -> None:
    draw = np.random.default_rng(1)
    maps = [self_map(draw) for _ in range(30)]
    for attention in maps:
        attend_to(attention, 2, role_targets(attention, role, KINDS))
    found = analyse(maps)
    assert found["encoder.0", role][2].is_held
    assert found["encoder.0", role][2].score > 0.8
    for other, scores in found.items():
        held = [head for head, score in enumerate(scores) if score.is_held]
        assert set(held) <= {2}, other


@pytest.mark.parametrize("role", [role for role in CROSS_ROLES if role != "monotone"])
def test_a_cross_attention_role_is_found_at_its_head_only(role: str) -> None:
    draw = np.random.default_rng(2)
    maps = [cross_map(draw) for _ in range(30)]
    for attention in maps:
        attend_to(attention, 1, role_targets(attention, role, KINDS))
    found = analyse(maps)
    assert found["cross.0", role][1].is_held
    for scores in found.values():
        assert {head for head, score in enumerate(scores) if score.is_held} <= {1}


def test_positions_explain_a_head_that_attends_to_fixed_offsets() -> None:
    draw = np.random.default_rng(3)
    maps = [self_map(draw) for _ in range(30)]
    for attention in maps:
        offsets = np.arange(20) - np.arange(20)[:, None]
        weights = np.exp(-np.abs(offsets + 3))
        attention.weights[0] = weights / weights.sum(-1, keepdims=True)
    scores = analyse(maps)["encoder.0", "position"]
    assert [score.is_held for score in scores] == [True, False, False, False]
    assert scores[0].score > 0.8


def test_monotone_reading_follows_the_steps() -> None:
    draw = np.random.default_rng(4)
    maps = [cross_map(draw) for _ in range(30)]
    for attention in maps:
        for step in range(10):
            attention.weights[3, step] = 0.0
            attention.weights[3, step, 3 * step] = 1.0
    scores = analyse(maps)["cross.0", "monotone"]
    assert [score.is_held for score in scores] == [False, False, False, True]
    assert scores[3].score == pytest.approx(1.0)


def test_the_expectation_is_that_of_shuffled_weights() -> None:
    draw = np.random.default_rng(5)
    attention = self_map(draw, heads=1)
    _, [expected] = score_roles(attention, KINDS, draw, ["same"])["same"]
    shuffled = []
    for _ in range(2000):
        for query in range(20):
            attention.weights[0, query] = draw.permutation(attention.weights[0, query])
        shuffled.append(score_roles(attention, KINDS, draw, ["same"])["same"][0][0])
    assert np.mean(shuffled) == pytest.approx(expected, abs=4 * np.std(shuffled) / 2000**0.5)


def test_random_weights_have_no_role() -> None:
    """Of 1,000 analyses at most 5 % may find a significant role, whatever its size."""
    draw = np.random.default_rng(6)
    analyses = 100  # each of ten heads: 1,000 heads
    wrong = 0
    for _ in range(analyses):
        maps = [self_map(draw, heads=10, tokens=12) for _ in range(8)]
        found = analyse(maps)
        wrong += any(score.corrected_p < 0.05 for scores in found.values() for score in scores)
    assert wrong <= 10  # P(more than 10 of 100 at 5 %) is 1 %


def test_queries_without_a_choice_do_not_count() -> None:
    draw = np.random.default_rng(7)
    attention = self_map(draw, tokens=2)
    attention.allowed[:] = np.tril(attention.allowed)
    attention.key_ids[:] = [5, 6]
    scores, expected = score_roles(attention, KINDS, draw, ["same"])["same"]
    assert np.isnan(scores).all() and np.isnan(expected).all()
    assert find_roles({("encoder.0", "same"): (scores[None], expected[None])}) == {}


def test_a_role_of_another_site_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"role copying: encoder\.0 has no such role"):
        role_targets(self_map(np.random.default_rng(0)), "copying", KINDS)


def test_kinds_of_tokens() -> None:
    texts = ["<s>", " the", ".", "--", "#Person1#", "", " 7"]
    kinds = token_kinds(texts, {0}, lambda text: text.startswith("#"))
    assert kinds.is_delimiter.tolist() == [True, False, True, True, False, False, False]
    assert kinds.is_speaker.tolist() == [False, False, False, False, True, False, False]
