"""Searches against brute force: every text there is, scored by the full forward pass."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from headcount.config.load import load
from headcount.config.schema import GenerationConfig
from headcount.generation import beam_search as module
from headcount.generation.beam_search import beam_search, length_divisor
from headcount.generation.constraints import Words, build_constraints
from headcount.generation.generate import generate, generate_tokens
from headcount.generation.hypothesis import Hypothesis, log_normalizer
from headcount.model.base import SummaryModel
from headcount.model.build import build_model
from headcount.model.decoder_cache import group_by_length
from headcount.model.ragged import BatchLayout
from tests.model.builds import ARCHITECTURES, DOCUMENTS, SMALL, batch, ids, make

START, END, WORDS, LONGEST = 0, 1, 4, 4
MADE = Words(
    begins_V=torch.tensor([True, False, False, True]), within_V=torch.tensor([0, 1, 3, 3])
)
SEARCH = GenerationConfig(max_tokens=LONGEST, num_beams=1)
SEEDS = [5, 3, 8, 1]  # one for each of DOCUMENTS


def search_by(
    model: SummaryModel,
    documents: Tensor,
    layout: BatchLayout,
    config: GenerationConfig,
    *,
    end_id: int = END,
    words: Words | None = None,
) -> list[list[Hypothesis]]:
    """Beam search with the constraints of a config."""
    constraints = build_constraints(config, end_id=end_id, words=words)
    return beam_search(
        model, documents, layout, config, start_id=START, end_id=end_id, constraints=constraints
    )


def tiny(architecture: str = "transformer", *changes: str) -> SummaryModel:
    """A model of four words, START and END among them."""
    torch.manual_seed(1)
    overrides = [*SMALL, *ARCHITECTURES[architecture], *(f"model.{change}" for change in changes)]
    model = (
        build_model(load([], overrides).model, vocabulary_size=WORDS, max_positions=20)
        .double()
        .eval()
    )
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return model


def all_texts() -> list[tuple[int, ...]]:
    """Every text of up to LONGEST tokens: ended by END, or cut off without it."""
    others = [token for token in range(WORDS) if token != END]
    ended = [
        (*text, END)
        for length in range(LONGEST)
        for text in itertools.product(others, repeat=length)
    ]
    return ended + list(itertools.product(others, repeat=LONGEST))


def allowed(text: tuple[int, ...], config: GenerationConfig, made: Words | None) -> bool:
    size = config.no_repeat_ngram_size
    words: list[tuple[int, ...]] = [()] if made else [(token,) for token in text]
    for place, token in enumerate(text if made else ()):
        token = token if place else int(made.within_V[token])
        if place and made.begins_V[token]:
            words.append(())
        words[-1] += (token,)
    runs = (
        [(*words[i : i + size - 1], words[i + size - 1][0]) for i in range(len(words) - size + 1)]
        if size
        else []
    )
    return len(runs) == len(set(runs)) and not (text[-1] == END and len(text) < config.min_tokens)


def brute_force(
    models: SummaryModel | Sequence[SummaryModel],
    document: Tensor,
    search: GenerationConfig,
    words: Words | None = None,
) -> list[tuple[float, tuple[int, ...]]]:
    """Score every text by its own full forward pass, the definitions written out.

    Several models are an ensemble. The best first.
    """
    models = [models] if isinstance(models, SummaryModel) else models
    texts = [text for text in all_texts() if allowed(text, search, words)]
    read = torch.tensor([token for text in texts for token in (START, *text[:-1])])
    layout = BatchLayout.from_lengths([len(text) for text in texts])
    document_layout = BatchLayout.from_lengths([len(document)] * len(texts))

    # The mean over the models of their probabilities and of their attention to the document.
    probabilities = []
    attention = []
    for model in models:
        output = model(
            document.repeat(len(texts)), document_layout, read, layout, return_weights=True
        )
        probabilities.append(output.log_probabilities().double().exp())
        attention.append([weights_HTS.mean(0) for weights_HTS in output.weights[-1]])
    log_TV_of_texts = torch.stack(probabilities).mean(0).log().split(layout.lengths)

    scored = []
    for number, (text, log_TV) in enumerate(zip(texts, log_TV_of_texts, strict=True)):
        total = 0.0
        for t, token in enumerate(text):
            times = search.repetition_penalty if token in text[:t] else 1.0
            total += times * log_TV[t, token].item()
        score = total / length_divisor(len(text), search)
        coverage_S = torch.stack([of_model[number] for of_model in attention]).mean(0).sum(0)
        bonus = search.coverage_penalty * coverage_S.clamp(max=1.0).log().sum().item()
        scored.append((score + bonus, text))
    return sorted(scored, reverse=True)


def text_of(hypothesis: Hypothesis) -> tuple[int, ...]:
    return (*hypothesis.tokens, END) if hypothesis.finished else tuple(hypothesis.tokens)


RULES: dict[str, dict[str, Any]] = {
    "none": {},
    "wu": {"length_penalty": "wu", "length_penalty_alpha": 0.8},
    "average": {"length_penalty": "average"},
    "average beyond": {"length_penalty": "average", "length_penalty_alpha": 2.0},
    "no penalty": {"length_penalty": "none"},
    "min_tokens": {"min_tokens": 3},
    "no bigram twice": {"no_repeat_ngram_size": 2},
    "no token twice": {"no_repeat_ngram_size": 1},
    "no word twice": {"no_repeat_ngram_size": 1},
    "no two words twice": {"no_repeat_ngram_size": 2},
    "repetition": {"repetition_penalty": 1.7},
    "coverage": {"coverage_penalty": 0.3},
    "all": {
        "min_tokens": 2,
        "no_repeat_ngram_size": 2,
        "repetition_penalty": 1.2,
        "length_penalty_alpha": 1.3,
        "coverage_penalty": 0.2,
    },
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("copying", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_a_wide_beam_is_exhaustive(rule: str, copying: bool, architecture: str) -> None:
    """Its best ten are the best ten of all texts, for each document of a batch."""
    model = tiny(architecture, f"copying={copying}")
    search = replace(SEARCH, num_beams=130, **RULES[rule])
    words = MADE if "word" in rule else None
    lengths = [7, 3]
    documents = ids(lengths) % WORDS
    found = search_by(model, documents, BatchLayout.from_lengths(lengths), search, words=words)
    for document, hypotheses in zip(documents.split(lengths), found, strict=True):
        expected = brute_force(model, document, search, words)
        assert [h.score for h in hypotheses[:10]] == pytest.approx(
            [score for score, _ in expected[:10]], rel=1e-4
        )
        assert [text_of(h) for h in hypotheses[:10]] == [text for _, text in expected[:10]]
        assert len(hypotheses) == len(expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("copying", [False, True])
def test_width_one_is_greedy(architecture: str, copying: bool) -> None:
    model = make(architecture, f"copying={copying}", "tie_embeddings=none").eval()
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
    """The same hypotheses are found when no search is ended before the last step.

    And some do end.
    """
    steps = []
    for seed in range(8):
        torch.manual_seed(seed)
        model = tiny()
        torch.nn.init.normal_(model.output.weight)
        for kind, alpha in (("wu", 1.0), ("average", 1.0), ("none", 1.0), ("average", 0.0)):
            search = replace(
                SEARCH, max_tokens=12, num_beams=3, length_penalty=kind, length_penalty_alpha=alpha
            )
            with monkeypatch.context() as patch:
                real = model.step
                patch.setattr(
                    model, "step", lambda *args, real=real: (steps.append(1), real(*args))[1]
                )
                found = search_by(model, ids([6]) % WORDS, BatchLayout.from_lengths([6]), search)

            def last(beams: Any, config: GenerationConfig, time: int) -> Tensor:
                return torch.full_like(beams.score_BW[:, 0] == 0, time == config.max_tokens)

            with monkeypatch.context() as patch:
                patch.setattr(module, "_cannot_improve", last)
                patient = search_by(model, ids([6]) % WORDS, BatchLayout.from_lengths([6]), search)
            assert [h.tokens for h in found[0]] == [h.tokens for h in patient[0]]
    assert len(steps) < 8 * 4 * 12


def test_documents_do_not_change_each_other() -> None:
    model = make("transformer", "copying=true").eval()
    documents, layout, _, _ = batch()
    search = GenerationConfig(max_tokens=9, num_beams=4, no_repeat_ngram_size=3)
    together = search_by(model, documents, layout, search, end_id=7)
    for document, found in zip(documents.split(DOCUMENTS), together, strict=True):
        [alone] = search_by(
            model, document, BatchLayout.from_lengths([len(document)]), search, end_id=7
        )
        assert [h.tokens for h in alone] == [h.tokens for h in found]


def test_documents_of_similar_length_are_padded_together() -> None:
    """Wherever one of a group or a whole group ends, the rest goes on with what is its own."""
    assert group_by_length([12, 9, 8, 7, 7, 1]) == [slice(0, 3), slice(3, 5), slice(5, 6)]
    assert group_by_length([3]) == [slice(0, 1)] and group_by_length([4, 5]) == [
        slice(0, 1),
        slice(1, 2),
    ]
    model, lengths = make("transformer").eval(), [12, 9, 8, 7, 7, 1]
    documents, layout = ids(lengths), BatchLayout.from_lengths(lengths)
    assert [
        key.shape[::2] for key in model.start(documents, layout, capacity=2).cross_keys[0]
    ] == [(3, 12), (2, 7), (1, 1)]
    tokens = torch.arange(6)[:, None]
    whole = model.step(tokens, model.start(documents, layout, capacity=2))
    for size in range(1, 7):
        for kept in map(list, itertools.combinations(range(6), size)):
            state = model.start(documents, layout, capacity=2)
            state.select(torch.tensor(kept))
            torch.testing.assert_close(model.step(tokens[kept], state), whole[kept])


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


def test_sampling_is_seeded_and_follows_the_distribution() -> None:
    model = tiny()
    document, layout = ids([6]) % WORDS, BatchLayout.from_lengths([6])
    first_log = model(
        document, layout, torch.tensor([START]), BatchLayout.from_lengths([1])
    ).log_probabilities()[0]

    def draw(seed: int, width: int, top_k: int = 0) -> list[Hypothesis]:
        config = replace(SEARCH, strategy="sample", num_return_sequences=width, top_k=top_k)
        return generate(model, document, layout, config, start_id=START, end_id=END, seeds=[seed])[
            0
        ]

    assert (
        [h.tokens for h in draw(1, 20)]
        == [h.tokens for h in draw(1, 20)]
        != [h.tokens for h in draw(2, 20)]
    )
    many = draw(0, 1000)
    for token in range(WORDS):
        share = sum(text_of(h)[0] == token for h in many) / 1000
        assert share == pytest.approx(first_log[token].exp().item(), abs=0.05)
    assert [h.score for h in many] == sorted((h.score for h in many), reverse=True)
    greedy = generate(model, document, layout, SEARCH, start_id=START, end_id=END)[0][0]
    assert {tuple(h.tokens) for h in draw(3, 5, top_k=1)} == {tuple(greedy.tokens)}
    scores = {
        text: score
        for score, text in brute_force(model, document, replace(SEARCH, length_penalty="none"))
    }
    for hypothesis in many[:20]:
        assert hypothesis.score == pytest.approx(scores[text_of(hypothesis)], rel=1e-4)


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


def shared_tokens(hypotheses: Sequence[Hypothesis]) -> Tensor:
    """A utility: the share of tokens that two summaries have in common."""
    sets = [set(each.tokens) for each in hypotheses]
    rows = [[len(a & b) / max(1, len(a | b)) for b in sets] for a in sets]
    return torch.tensor(rows, dtype=torch.float64)


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
@pytest.mark.parametrize("copying", [False, True])
@pytest.mark.parametrize(("beams", "samples"), [(130, 0), (0, 20), (8, 16)])
def test_minimum_bayes_risk_is_its_definition(
    beams: int, samples: int, copying: bool, architecture: str
) -> None:
    """Over the candidates that beam search and sampling find; 130 beams find every text."""
    model = tiny(architecture, f"copying={copying}")
    lengths = [7, 3]
    documents, layout, seeds = ids(lengths) % WORDS, BatchLayout.from_lengths(lengths), [4, 9]
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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("change", ["copying=true", "copying=false", "positions", "cell=lstm"])
def test_weights_in_bf16(architecture: str, change: str) -> None:
    """Each strategy runs, and a summary's score is what the same model in fp32 gives to it,
    nearly."""
    if change == "positions":
        change = "positions=none" if architecture == "recurrent" else "positions=alibi"
    model, half = (
        make(architecture, change, dtype=dtype).eval() for dtype in (torch.float32, torch.bfloat16)
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


def test_log_total() -> None:
    logits = torch.randn(2, 3, 50) * 10
    torch.testing.assert_close(log_normalizer(logits), logits.logsumexp(-1))
