"""Sampling, minimum Bayes risk and what all strategies have in common."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.constraints import build_constraints
from headcount.generation.generate import generate
from headcount.generation.hypothesis import Hypothesis
from headcount.model.decoder_cache import group_by_length
from headcount.model.ragged import BatchLayout
from tests.generation.brute_force import (
    END,
    SEARCH,
    START,
    VOCABULARY,
    brute_force,
    search_by,
    shared_tokens,
    text_of,
    tiny,
)
from tests.model.builds import ARCHITECTURES, DOCUMENTS, OUTPUTS, batch, ids, make

SEEDS = [5, 3, 8, 1]  # one for each of DOCUMENTS


def test_documents_of_similar_length_are_padded_together() -> None:
    """Whichever documents leave the batch, the others keep what is their own."""
    assert group_by_length([12, 9, 8, 7, 7, 1]) == [slice(0, 3), slice(3, 5), slice(5, 6)]
    assert group_by_length([3]) == [slice(0, 1)]
    assert group_by_length([4, 5]) == [slice(0, 1), slice(1, 2)]

    model = make("transformer").eval()
    lengths = [12, 9, 8, 7, 7, 1]
    documents = ids(lengths)
    layout = BatchLayout.from_lengths(lengths)
    first_layer = model.start(documents, layout, capacity=2).cross_keys[0]
    assert [key.shape[::2] for key in first_layer] == [(3, 12), (2, 7), (1, 1)]

    tokens = torch.arange(6)[:, None]
    whole = model.step(tokens, model.start(documents, layout, capacity=2))
    for size in range(1, 7):
        for kept in itertools.combinations(range(6), size):
            rows = torch.tensor(kept)
            state = model.start(documents, layout, capacity=2)
            state.select(rows)
            torch.testing.assert_close(model.step(tokens[rows], state), whole[rows])


def draw(seed: int, number: int, top_k: int = 0) -> list[Hypothesis]:
    """Sample summaries of one document from ``tiny``."""
    config = replace(SEARCH, strategy="sample", num_return_sequences=number, top_k=top_k)
    layout = BatchLayout.from_lengths([6])
    [samples] = generate(
        tiny(), ids([6]) % VOCABULARY, layout, config, start_id=START, end_id=END, seeds=[seed]
    )
    return samples


def test_sampling_is_seeded() -> None:
    first, again, other = ([h.tokens for h in draw(seed, 20)] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_samples_follow_the_distribution_of_the_model() -> None:
    """How often each text comes, against its probability."""
    number = 1000
    samples = draw(0, number)
    frequency = Counter(text_of(hypothesis) for hypothesis in samples)
    scored = brute_force(tiny(), ids([6]) % VOCABULARY, replace(SEARCH, length_penalty="none"))
    log_probability = {text: score for score, text in scored}
    for text, value in log_probability.items():
        expected = math.exp(value)
        deviation = math.sqrt(expected * (1 - expected) / number)
        assert frequency[text] / number == pytest.approx(expected, abs=5 * deviation)

    # The score of a sample is its log-probability, and the best sample is the first.
    for hypothesis in samples[:20]:
        assert hypothesis.score == pytest.approx(log_probability[text_of(hypothesis)], rel=1e-4)
    assert [h.score for h in samples] == sorted((h.score for h in samples), reverse=True)


def test_the_most_probable_token_alone_is_greedy_search() -> None:
    layout = BatchLayout.from_lengths([6])
    [[greedy]] = generate(
        tiny(), ids([6]) % VOCABULARY, layout, SEARCH, start_id=START, end_id=END
    )
    assert {tuple(h.tokens) for h in draw(3, 5, top_k=1)} == {tuple(greedy.tokens)}


@pytest.mark.parametrize("strategy", ["sample", "mbr"])
def test_samples_of_a_document_do_not_depend_on_its_neighbours(strategy: str) -> None:
    model = make("transformer").eval()
    documents, layout, _, _ = batch()
    config = GenerationConfig(max_tokens=9, strategy=strategy, num_return_sequences=6)

    def write(document: Tensor, layout: BatchLayout, seeds: list[int]) -> list[list[Hypothesis]]:
        return generate(
            model,
            document,
            layout,
            config,
            start_id=0,
            end_id=7,
            seeds=seeds,
            utility=shared_tokens,
        )

    together = write(documents, layout, SEEDS)
    for document, seed, found in zip(documents.split(DOCUMENTS), SEEDS, together, strict=True):
        [alone] = write(document, BatchLayout.from_lengths([len(document)]), [seed])
        assert [h.tokens for h in alone] == [h.tokens for h in found]
    again = write(documents, layout, [seed + 1 for seed in SEEDS])
    assert [h.tokens for h in again[0]] != [h.tokens for h in together[0]]


def best_by_definition(candidates: Sequence[Hypothesis]) -> tuple[float, list[list[int]]]:
    """The highest mean utility of a candidate against the others, and the candidates that have
    it."""
    utility = shared_tokens(candidates).tolist()
    expected = []
    for number in range(len(candidates)):
        others = [row for row in range(len(candidates)) if row != number]
        expected.append(sum(utility[number][other] for other in others) / len(others))
    highest = max(expected)
    best = [n for n, value in enumerate(expected) if value > highest - 1e-9]
    return highest, [candidates[number].tokens for number in best]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("beams", "samples"), [(130, 0), (0, 20), (8, 16)])
def test_minimum_bayes_risk_is_its_definition(
    beams: int, samples: int, output: list[str], architecture: str
) -> None:
    """Over the candidates that beam search and sampling find; 130 beams find every text."""
    model = tiny(architecture, *output)
    lengths = [7, 3]
    documents, layout, seeds = ids(lengths) % VOCABULARY, BatchLayout.from_lengths(lengths), [4, 9]
    mbr = replace(
        SEARCH, strategy="mbr", mbr_num_beams=beams, mbr_num_samples=samples, min_tokens=2
    )
    constraints = build_constraints(mbr, end_id=END)

    def write(config: GenerationConfig) -> list[list[Hypothesis]]:
        return generate(
            model,
            documents,
            layout,
            config,
            start_id=START,
            end_id=END,
            constraints=constraints,
            seeds=seeds,
            utility=shared_tokens,
        )

    candidates: list[list[Hypothesis]] = [[], []]
    if beams:
        searched = write(
            replace(mbr, strategy="beam", num_beams=beams, num_return_sequences=beams)
        )
        candidates = [[*a, *b] for a, b in zip(candidates, searched, strict=True)]
    if samples:
        drawn = write(
            replace(mbr, strategy="sample", temperature=0.7, num_return_sequences=samples)
        )
        candidates = [[*a, *b] for a, b in zip(candidates, drawn, strict=True)]
    if beams == 130:
        every = [text for _, text in brute_force(model, documents[:7], mbr)]
        assert sorted(map(text_of, candidates[0])) == sorted(every)

    found = write(mbr)
    several = write(replace(mbr, num_return_sequences=5))
    for of_document, [best], ranked in zip(candidates, found, several, strict=True):
        expected, tokens = best_by_definition(of_document)
        assert best.tokens in tokens and best.score == pytest.approx(expected)
        assert ranked[0] == best
        assert [h.score for h in ranked] == sorted((h.score for h in ranked), reverse=True)
        assert len({tuple(h.tokens) for h in ranked}) == len(ranked) <= 5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("changes", [*OUTPUTS, ["positions"], ["cell=lstm"]], ids=" ".join)
def test_weights_in_bf16(architecture: str, changes: list[str]) -> None:
    """Each strategy runs, and a summary's score is what the same model in fp32 gives to it,
    nearly."""
    if changes == ["positions"]:
        changes = ["positions=none" if architecture == "recurrent" else "positions=alibi"]
    model, half = (
        make(architecture, *changes, dtype=dtype).eval()
        for dtype in (torch.float32, torch.bfloat16)
    )
    documents, layout, _, _ = batch()
    config = GenerationConfig(
        max_tokens=9, num_beams=4, length_penalty="none", no_repeat_ngram_size=2
    )
    beamed = search_by(half, documents, layout, replace(config, coverage_penalty=0.1), end_id=7)
    sample = replace(config, strategy="sample", num_return_sequences=4, top_p=0.9)
    drawn = generate(half, documents, layout, sample, start_id=0, end_id=7, seeds=SEEDS)
    assert all(math.isfinite(h.score) for found in (*beamed, *drawn) for h in found)
    greedy = generate(half, documents, layout, config, start_id=0, end_id=7)
    for document, [found] in zip(documents.split(DOCUMENTS), greedy, strict=True):
        text = (*found.tokens, 7) if found.finished else tuple(found.tokens)
        read = torch.tensor([0, *text[:-1]])
        log_TV = model(
            document,
            BatchLayout.from_lengths([len(document)]),
            read,
            BatchLayout.from_lengths([len(read)]),
        ).log_probabilities()
        expected = log_TV.gather(1, torch.tensor(text)[:, None]).sum().item()
        assert found.score == pytest.approx(expected, rel=0.05)
