"""Ensembles against single models, and against every text scored by the definition."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, combinations_with_replacement
from typing import Any

import pytest
import torch
from torch import Tensor

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.consensus import rank_by_expected_utility
from headcount.generation.constraints import build_constraints
from headcount.generation.ensemble import Ensemble
from headcount.generation.generate import generate
from headcount.generation.hypothesis import Hypothesis
from headcount.model.base import NextTokenModel, SummaryModel
from headcount.model.ragged import BatchLayout
from tests.generation.brute_force import (
    RULES,
    SEARCH,
    brute_force,
    search_by,
    shared_tokens,
    text_of,
    tiny,
)
from tests.generation.brute_force import VOCABULARY as TINY_VOCABULARY
from tests.generation.test_generate import SEEDS
from tests.model.builds import ARCHITECTURES, DOCUMENTS, OUTPUTS, VOCABULARY, batch, ids, make

STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"num_beams": 4, "num_return_sequences": 4, "coverage_penalty": 0.2},
    "diverse": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "sample": {"num_return_sequences": 5, "top_p": 0.9},
    "mbr": {"mbr_num_beams": 3, "mbr_num_samples": 5, "num_return_sequences": 4},
}


def write(model: NextTokenModel[Any], strategy: str) -> list[list[Hypothesis]]:
    """Generate for the batch of ``builds`` by a strategy."""
    documents, layout, _, _ = batch()
    name = {"diverse": "beam"}.get(strategy, strategy)
    config = GenerationConfig(max_tokens=9, strategy=name, **STRATEGIES[strategy])
    return generate(
        model,
        documents,
        layout,
        config,
        start_id=0,
        end_id=7,
        constraints=build_constraints(replace(config, no_repeat_ngram_size=2), end_id=7),
        seeds=SEEDS,
        utility=shared_tokens,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_ensemble_of_one_is_the_model(
    architecture: str, output: list[str], strategy: str
) -> None:
    """Bit for bit, the scores too."""
    for dtype in (torch.float32, torch.bfloat16):
        model = make(architecture, *output, dtype=dtype).eval()
        assert write(Ensemble([model]), strategy) == write(model, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_ensemble_of_equal_models_is_one(
    architecture: str, output: list[str], strategy: str
) -> None:
    model = make(architecture, *output).eval()
    several = write(Ensemble([model, model, model]), strategy)
    for expected, found in zip(write(model, strategy), several, strict=True):
        assert [h.tokens for h in found] == [h.tokens for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected])


@pytest.mark.parametrize("members", list(combinations_with_replacement(ARCHITECTURES, 2)))
def test_probabilities_are_averaged_at_each_step(members: tuple[str, str]) -> None:
    """Also when documents have left the batch and hypotheses have been reordered."""
    models = different(members)
    documents, layout, _, _ = batch()
    ensemble = Ensemble(models)
    state = ensemble.start(documents, layout, capacity=6, width=3)
    state.track_attention = True
    own = [model.start(documents, layout, capacity=6, width=3) for model in models]
    for each in own:
        each.track_attention = True

    kept = len(DOCUMENTS)
    draw = torch.Generator().manual_seed(3)
    for step in range(6):
        token_BW = torch.randint(VOCABULARY, (kept, 3), generator=draw)
        logits_BWV = ensemble.step(token_BW, state)
        probabilities = [
            model.step(token_BW, each).softmax(-1) for model, each in zip(models, own, strict=True)
        ]
        torch.testing.assert_close(logits_BWV.exp(), sum(probabilities) / 2)
        assert state.attention_BWS is not None
        torch.testing.assert_close(
            state.attention_BWS, sum(each.attention_BWS for each in own) / 2
        )

        if step == 2:
            kept -= 1
            for each in (state, *own):
                each.select(torch.tensor([0, 1, 3]))
        assert len(state.document_ids_BS) == len(state.document_bias_B11S) == kept
        parents_BW = torch.randint(3, (kept, 3), generator=draw)
        for each in (state, *own):
            each.reorder(parents_BW)


def different(architectures: Sequence[str]) -> list[SummaryModel]:
    """Models of other sizes and weights, and of other outputs."""
    changes = [OUTPUTS[0], [*OUTPUTS[-1], "embedding_size=24", "decoder_layers=1"]]
    models = []
    for seed, (architecture, change) in enumerate(zip(architectures, changes, strict=True)):
        model = make(architecture, *change).eval()
        torch.manual_seed(seed)
        for parameter in model.parameters():
            torch.nn.init.uniform_(parameter, -0.4, 0.4)
        models.append(model)
    return models


@pytest.mark.parametrize("members", list(combinations(ARCHITECTURES, 2)))
@pytest.mark.parametrize("rule", ["none", "average", "no bigram twice", "coverage", "all"])
def test_a_wide_beam_is_exhaustive(rule: str, members: tuple[str, str]) -> None:
    """Its best ten are the best ten of all texts by the mean probabilities of two models."""
    models = [tiny(members[0]), tiny(members[1], *OUTPUTS[-1], "num_heads=2")]
    search = replace(SEARCH, num_beams=130, **RULES[rule])
    lengths = [7, 3]
    documents = ids(lengths) % TINY_VOCABULARY
    found = search_by(Ensemble(models), documents, BatchLayout.from_lengths(lengths), search)
    for document, hypotheses in zip(documents.split(lengths), found, strict=True):
        expected = brute_force(models, document, search)
        assert [h.score for h in hypotheses[:10]] == pytest.approx(
            [score for score, _ in expected[:10]], rel=1e-4
        )
        assert [text_of(h) for h in hypotheses[:10]] == [text for _, text in expected[:10]]
        assert len(hypotheses) == len(expected)

        # One of the models alone ranks other texts.
        scores = [score for score, _ in brute_force(models[0], document, search)[:10]]
        assert scores != pytest.approx([h.score for h in hypotheses[:10]], rel=1e-4)


@pytest.mark.parametrize("members", list(combinations_with_replacement(ARCHITECTURES, 2)))
def test_greedy_takes_the_token_with_the_highest_mean_probability(
    members: tuple[str, str],
) -> None:
    models = different(members)
    documents, layout, _, _ = batch()
    config = GenerationConfig(max_tokens=5)
    found = generate(Ensemble(models), documents, layout, config, start_id=0, end_id=7)
    for document, [hypothesis] in zip(documents.split(DOCUMENTS), found, strict=True):
        read = [0]
        score = 0.0
        while len(read) <= 5 and (len(read) == 1 or read[-1] != 7):
            log_V = mean_probability(models, document, read).log()
            read.append(int(log_V.argmax()))
            score += log_V.amax().item()
        assert hypothesis.tokens == [token for token in read[1:] if token != 7]
        assert hypothesis.score == pytest.approx(score, rel=1e-5)


def mean_probability(models: Sequence[SummaryModel], document: Tensor, read: list[int]) -> Tensor:
    """The mean distribution of the token after those that were read, each model by its own
    forward pass."""
    layout = BatchLayout.from_lengths([len(document)])
    total_V = torch.zeros(VOCABULARY, dtype=torch.float64)
    for model in models:
        output = model(document, layout, torch.tensor(read), BatchLayout.from_lengths([len(read)]))
        total_V += output.log_probabilities()[-1].exp() / len(models)
    return total_V


def test_candidates_of_each_model_are_ranked_together() -> None:
    """By the definition: beams and samples of every model alone, each judged by all others."""
    models = []
    for seed, output in enumerate((OUTPUTS[0], OUTPUTS[-1])):
        torch.manual_seed(seed)
        models.append(make("transformer", *output).eval())
    documents, layout, _, _ = batch()
    where = {"start_id": 0, "end_id": 7, "utility": shared_tokens}
    temperature = 0.7

    pooled: list[list[Hypothesis]] = [[] for _ in layout.lengths]
    for number, model in enumerate(models):
        beams = GenerationConfig(
            max_tokens=9, strategy="beam", num_beams=3, num_return_sequences=3
        )
        samples = GenerationConfig(
            max_tokens=9, strategy="sample", num_return_sequences=5, temperature=temperature
        )
        seeds = [seed + number for seed in SEEDS]
        for config in (beams, samples):
            found = generate(model, documents, layout, config, seeds=seeds, **where)
            for of_document, more in zip(pooled, found, strict=True):
                of_document.extend(more)

    mbr = GenerationConfig(
        max_tokens=9,
        strategy="mbr",
        mbr_candidates="each",
        mbr_num_beams=3,
        mbr_num_samples=5,
        mbr_temperature=temperature,
        num_return_sequences=8,
    )
    found = generate(Ensemble(models), documents, layout, mbr, seeds=SEEDS, **where)
    expected = [rank_by_expected_utility(each, shared_tokens)[:8] for each in pooled]
    assert found == expected
    together = replace(mbr, mbr_candidates="ensemble")
    assert generate(Ensemble(models), documents, layout, together, seeds=SEEDS, **where) != found
    assert generate(models[0], documents, layout, mbr, seeds=SEEDS, **where) == generate(
        models[0], documents, layout, together, seeds=SEEDS, **where
    )
