"""Beam search against brute force: every text there is, scored by the full forward pass."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from headcount.config.sections.generation import GenerationConfig
from headcount.generation import beam_search as module
from headcount.generation.beam_search import Beams, length_divisor
from headcount.generation.constraints import build_constraints
from headcount.generation.generate import generate_tokens
from headcount.model.base import SummaryModel
from headcount.model.ragged import BatchLayout
from tests.generation.brute_force import (
    RULES,
    SEARCH,
    VOCABULARY,
    WORDS,
    brute_force,
    search_by,
    text_of,
    tiny,
)
from tests.model.builds import ARCHITECTURES, DOCUMENTS, OUTPUTS, batch, ids, make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("rule", RULES)
def test_a_wide_beam_is_exhaustive(rule: str, output: list[str], architecture: str) -> None:
    """Its best ten are the best ten of all texts, for each document of a batch."""
    model = tiny(architecture, *output)
    search = replace(SEARCH, num_beams=130, **RULES[rule])
    words = WORDS if "word" in rule else None
    lengths = [7, 3]
    documents = ids(lengths) % VOCABULARY
    found = search_by(model, documents, BatchLayout.from_lengths(lengths), search, words=words)
    for document, hypotheses in zip(documents.split(lengths), found, strict=True):
        expected = brute_force(model, document, search, words)
        assert [h.score for h in hypotheses[:10]] == pytest.approx(
            [score for score, _ in expected[:10]], rel=1e-4
        )
        assert [text_of(h) for h in hypotheses[:10]] == [text for _, text in expected[:10]]
        assert len(hypotheses) == len(expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_width_one_is_greedy(architecture: str, output: list[str]) -> None:
    model = make(architecture, *output, "tie_embeddings=none").eval()
    documents, layout, _, _ = batch()
    for rule in ({}, {"no_repeat_ngram_size": 2}, {"min_tokens": 5}):
        config = GenerationConfig(max_tokens=9, num_beams=1, length_penalty="none", **rule)
        constraints = build_constraints(config, end_id=7)
        greedy = generate_tokens(
            model, documents, layout, max_tokens=9, start_id=0, end_id=7, constraints=constraints
        )
        beam = search_by(model, documents, layout, config, end_id=7)
        for one, other in zip(greedy, beam, strict=True):
            assert one[0].tokens == other[0].tokens and one[0].finished == other[0].finished
            assert one[0].score == pytest.approx(other[0].score, rel=1e-5)


def test_stopping_early_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same hypotheses are found when no search ends before the last step; and some do end."""

    def only_at_the_end(beams: Beams, config: GenerationConfig, time: int) -> Tensor:
        return torch.full((len(beams.score_BW),), time == config.max_tokens)

    penalties = [("wu", 1.0), ("average", 1.0), ("none", 1.0), ("average", 0.0)]
    steps = 0
    for seed in range(8):
        torch.manual_seed(seed)
        model = tiny()
        torch.nn.init.normal_(model.output.weight)
        counted = Counted(model)
        document = ids([6]) % VOCABULARY
        layout = BatchLayout.from_lengths([6])
        for kind, alpha in penalties:
            search = replace(
                SEARCH, max_tokens=12, num_beams=3, length_penalty=kind, length_penalty_alpha=alpha
            )
            [found] = search_by(counted, document, layout, search)
            with monkeypatch.context() as patch:
                patch.setattr(module, "_cannot_improve", only_at_the_end)
                [patient] = search_by(model, document, layout, search)
            assert [h.tokens for h in found] == [h.tokens for h in patient]
        steps += counted.steps
    assert steps < 8 * len(penalties) * 12


class Counted:
    """A model whose steps are counted."""

    def __init__(self, model: SummaryModel) -> None:
        self.model = model
        self.start = model.start
        self.steps = 0

    def step(self, token_ids_BW: Tensor, state: Any) -> Tensor:
        self.steps += 1
        return self.model.step(token_ids_BW, state)


@pytest.mark.parametrize("output", OUTPUTS)
def test_documents_do_not_change_each_other(output: list[str]) -> None:
    model = make("transformer", *output).eval()
    documents, layout, _, _ = batch()
    search = GenerationConfig(max_tokens=9, num_beams=4, no_repeat_ngram_size=3)
    together = search_by(model, documents, layout, search, end_id=7)
    for document, found in zip(documents.split(DOCUMENTS), together, strict=True):
        [alone] = search_by(
            model, document, BatchLayout.from_lengths([len(document)]), search, end_id=7
        )
        assert [h.tokens for h in alone] == [h.tokens for h in found]


def test_diverse_groups_differ() -> None:
    """Groups find the same without a penalty; a large one makes their first tokens differ."""
    model = make("transformer").eval()
    documents, layout, _, _ = batch()
    search = GenerationConfig(max_tokens=6, num_beams=4, num_beam_groups=4)
    for hypotheses in search_by(model, documents, layout, search, end_id=7):
        assert len({tuple(h.tokens) for h in hypotheses}) == 1
    for hypotheses in search_by(
        model, documents, layout, replace(search, diversity_penalty=100.0), end_id=7
    ):
        assert len({h.tokens[0] if h.tokens else 7 for h in hypotheses}) == 4


def test_length_penalties_by_the_paper() -> None:
    assert length_divisor(7, replace(SEARCH, length_penalty_alpha=0.6)) == pytest.approx(
        (12 / 6) ** 0.6
    )
    assert (
        length_divisor(7, replace(SEARCH, length_penalty="average", length_penalty_alpha=2.0))
        == 49
    )
    assert length_divisor(7, replace(SEARCH, length_penalty="none", length_penalty_alpha=3.0)) == 1
    assert math.isfinite(length_divisor(10**6, SEARCH))
