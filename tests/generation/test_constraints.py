import math

import pytest
import torch

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.constraints import (
    Constraint,
    MinimumLength,
    NoRepeatNgram,
    RepetitionPenalty,
    Words,
    build_constraints,
)
from headcount.generation.generate import filter_logits

WRITTEN = torch.tensor([[[1, 2, 3, 1, 2], [4, 4, 4, 4, 4], [1, 2, 3, 4, 5]]])


def constrain(
    constraint: Constraint, logits: torch.Tensor, written: torch.Tensor = WRITTEN
) -> torch.Tensor:
    constraint.apply(logits, written)
    return logits


def banned(logits: torch.Tensor) -> list[set[int]]:
    return [set((row == -math.inf).nonzero()[:, 0].tolist()) for row in logits[0]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [{1, 2, 3}, {4}, {1, 2, 3, 4, 5}]),
        (2, [{3}, {4}, set()]),
        (3, [{3}, {4}, set()]),
        (4, [set(), {4}, set()]),
        (6, [set(), set(), set()]),
    ],
)
def test_no_ngram_of_tokens_occurs_twice(size: int, expected: list[set[int]]) -> None:
    found = constrain(NoRepeatNgram(size=size), torch.zeros(1, 3, 8))
    assert banned(found) == expected


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("a b _a", 1, {"_a"}),  # the words "ab" and "a"; no word may begin like "a"
        ("a b _c _a b", 2, {"_c"}),  # "ab c" exists
        ("a b _c _a", 2, set()),  # nothing follows "a"; that it may become "ab" does not matter
        ("a b _c _a b a", 2, set()),
        ("d _b _c d _d _b", 2, {"_c"}),  # "cd" is not begun; within a word every token is allowed
        ("d _b _c d _d _b", 3, {"_c"}),
        ("d _b _c d _d _c d", 3, set()),
        ("d _b _c _b _c _b", 3, {"_c"}),  # n-grams may overlap
        ("e _b _c _e _b", 3, set()),  # there is no "_e", so the first word is another one
        ("d", 2, set()),
    ],
)
def test_no_ngram_of_words_occurs_twice(text: str, size: int, expected: set[str]) -> None:
    tokens = ["</s>", *"abcde", "_a", "_b", "_c", "_d"] + ["_e"] * text.count("_e")
    within = list(range(len(tokens)))
    for letter in "abcd":
        within[tokens.index(letter)] = tokens.index(f"_{letter}")
    words = Words(
        begins_V=torch.tensor([token[0] == "_" for token in tokens]), within_V=torch.tensor(within)
    )
    written = torch.tensor([[[tokens.index(token) for token in text.split()]]])
    blocked = constrain(
        NoRepeatNgram(size=size, words=words), torch.zeros(1, 1, len(tokens)), written
    )
    [found] = banned(blocked)
    assert {tokens[token] for token in found} == expected


@pytest.mark.parametrize("written", range(6))
def test_minimum_length(written: int) -> None:
    found = constrain(
        MinimumLength(min_tokens=4, end_id=0), torch.zeros(1, 3, 8), WRITTEN[:, :, :written]
    )
    # The end token is the fourth at the earliest.
    assert banned(found) == [{0} if written < 3 else set()] * 3


def test_repetition_costs_log_probability() -> None:
    logits = torch.randn(1, 3, 8)
    before = logits.log_softmax(-1)
    penalized = constrain(RepetitionPenalty(penalty=1.5), logits.clone())
    after = penalized - logits.logsumexp(-1, True)
    for row in range(3):
        for token in range(8):
            times = 1.5 if token in WRITTEN[0, row] else 1.0
            assert after[0, row, token].item() == pytest.approx(
                times * before[0, row, token].item(), rel=1e-4
            )


def test_no_constraints_by_default() -> None:
    assert build_constraints(GenerationConfig(max_tokens=9), end_id=0) == []


def test_constraints_of_a_config() -> None:
    config = GenerationConfig(
        max_tokens=9, min_tokens=3, no_repeat_ngram_size=2, repetition_penalty=1.5
    )
    assert build_constraints(config, end_id=7) == [
        RepetitionPenalty(penalty=1.5),
        NoRepeatNgram(size=2),
        MinimumLength(min_tokens=3, end_id=7),
    ]


def test_filtered_distributions() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1], [0.1, 0.2, 0.3, 0.4]]).log()

    def kept(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> list[list[float]]:
        found = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p).softmax(
            -1
        )
        return [[round(p, 4) for p in row] for row in found.tolist()]

    assert kept() == [[0.5, 0.25, 0.15, 0.1], [0.1, 0.2, 0.3, 0.4]]
    assert kept(top_k=1) == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert kept(top_p=0.5) == [[1, 0, 0, 0], [0, 0, 0.4286, 0.5714]]
    assert kept(top_p=0.0) == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert kept(top_p=0.7) == [[0.6667, 0.3333, 0, 0], [0, 0, 0.4286, 0.5714]]
    assert kept(temperature=0.5)[0] == [round(p**2 / 0.345, 4) for p in (0.5, 0.25, 0.15, 0.1)]
