"""Searches against brute force: every text there is, scored by the full forward pass."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from headcount.config.load import load
from headcount.generation import generate as module
from headcount.generation.constraints import Constraints, Words
from headcount.generation.generate import Hypothesis, LengthPenalty, Sampling, Search, beam_search, log_total, write
from headcount.model.base import SummaryModel
from headcount.model.build import build_model
from headcount.model.decoder_cache import groups_of
from headcount.model.ragged import Rows
from tests.model.builds import ARCHITECTURES, DOCUMENTS, SMALL, batch, ids, make

START, END, WORDS, LONGEST = 0, 1, 4, 4
MADE = Words(begins_V=torch.tensor([True, False, False, True]), within_V=torch.tensor([0, 1, 3, 3]))
SEARCH = Search(start_id=START, end_id=END, max_tokens=LONGEST)


def tiny(architecture: str = "transformer", *changes: str) -> SummaryModel:
    """A model of four words, START and END among them."""
    torch.manual_seed(1)
    overrides = [*SMALL, *ARCHITECTURES[architecture], *(f"model.{change}" for change in changes)]
    model = build_model(load([], overrides)[0].model, vocabulary_size=WORDS, max_positions=20).double().eval()
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return model


def all_texts() -> list[tuple[int, ...]]:
    """Every text of up to LONGEST tokens: ended by END, or cut off without it."""
    others = [token for token in range(WORDS) if token != END]
    ended = [(*text, END) for length in range(LONGEST) for text in itertools.product(others, repeat=length)]
    return ended + list(itertools.product(others, repeat=LONGEST))


def allowed(text: tuple[int, ...], constraints: Constraints) -> bool:
    size, made = constraints.no_repeat_ngram, constraints.words
    words: list[tuple[int, ...]] = [()] if made else [(token,) for token in text]
    for place, token in enumerate(text if made else ()):
        token = token if place else int(made.within_V[token])
        if place and made.begins_V[token]:
            words.append(())
        words[-1] += (token,)
    runs = [(*words[i : i + size - 1], words[i + size - 1][0]) for i in range(len(words) - size + 1)] if size else []
    return len(runs) == len(set(runs)) and not (text[-1] == END and len(text) < constraints.min_tokens)


def brute_force(model: SummaryModel, document: Tensor, search: Search) -> list[tuple[float, tuple[int, ...]]]:
    """Score every text by its own full forward pass, the definitions written out; the best first."""
    texts = [text for text in all_texts() if allowed(text, search.constraints)]
    read = torch.tensor([token for text in texts for token in (START, *text[:-1])])
    rows, document_rows = Rows.of([len(text) for text in texts]), Rows.of([len(document)] * len(texts))
    prediction = model(document.repeat(len(texts)), document_rows, read, rows, return_weights=True)
    log_probabilities = prediction.log_probabilities().double().split(rows.lengths)
    scored = []
    for text, log_TV, weights_HTS in zip(texts, log_probabilities, prediction.weights[-1], strict=True):
        total = 0.0
        for t, token in enumerate(text):
            times = search.constraints.repetition_penalty if token in text[:t] else 1.0
            total += times * log_TV[t, token].item()
        looked_S = weights_HTS.mean(0).sum(0)
        score = total / search.length_penalty.of(len(text))
        scored.append((score + search.coverage_penalty * looked_S.clamp(max=1.0).log().sum().item(), text))
    return sorted(scored, reverse=True)


def text_of(hypothesis: Hypothesis) -> tuple[int, ...]:
    return (*hypothesis.tokens, END) if hypothesis.ended else tuple(hypothesis.tokens)


RULES = {
    "none": {},
    "wu": {"length_penalty": LengthPenalty(kind="wu", alpha=0.8)},
    "average": {"length_penalty": LengthPenalty(kind="average", alpha=1.0)},
    "average beyond": {"length_penalty": LengthPenalty(kind="average", alpha=2.0)},
    "no penalty": {"length_penalty": LengthPenalty(kind="none")},
    "min_tokens": {"constraints": Constraints(min_tokens=3)},
    "no bigram twice": {"constraints": Constraints(no_repeat_ngram=2)},
    "no token twice": {"constraints": Constraints(no_repeat_ngram=1)},
    "no word twice": {"constraints": Constraints(no_repeat_ngram=1, words=MADE)},
    "no two words twice": {"constraints": Constraints(no_repeat_ngram=2, words=MADE)},
    "repetition": {"constraints": Constraints(repetition_penalty=1.7)},
    "coverage": {"coverage_penalty": 0.3},
    "all": {
        "constraints": Constraints(min_tokens=2, no_repeat_ngram=2, repetition_penalty=1.2),
        "length_penalty": LengthPenalty(kind="wu", alpha=1.3),
        "coverage_penalty": 0.2,
    },
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("copying", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_a_wide_beam_is_exhaustive(rule: str, copying: bool, architecture: str) -> None:
    """Its best ten are the best ten of all texts, for each document of a batch."""
    model = tiny(architecture, f"copying={copying}")
    search = replace(SEARCH, width=130, **RULES[rule])
    lengths = [7, 3]
    documents = ids(lengths) % WORDS
    found = beam_search(model, documents, Rows.of(lengths), search)
    for document, hypotheses in zip(documents.split(lengths), found, strict=True):
        expected = brute_force(model, document, search)
        assert [h.score for h in hypotheses[:10]] == pytest.approx([score for score, _ in expected[:10]], rel=1e-4)
        assert [text_of(h) for h in hypotheses[:10]] == [text for _, text in expected[:10]]
        assert len(hypotheses) == len(expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("copying", [False, True])
def test_width_one_is_greedy(architecture: str, copying: bool) -> None:
    model = make(architecture, f"copying={copying}", "tie_embeddings=none").eval()
    documents, rows, _, _ = batch()
    for constraints in (Constraints(), Constraints(no_repeat_ngram=2), Constraints(min_tokens=5)):
        search = Search(
            start_id=0, end_id=7, max_tokens=9, constraints=constraints, length_penalty=LengthPenalty(kind="none")
        )
        for greedy, beam in zip(
            write(model, documents, rows, search), beam_search(model, documents, rows, search), strict=True
        ):
            assert greedy[0].tokens == beam[0].tokens and greedy[0].ended == beam[0].ended
            assert greedy[0].score == pytest.approx(beam[0].score, rel=1e-5)


def test_stopping_early_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same hypotheses are found when no search is ended before the last step; and some do end."""
    steps = []
    for seed in range(8):
        torch.manual_seed(seed)
        model = tiny()
        torch.nn.init.normal_(model.output.weight)
        for kind, alpha in (("wu", 1.0), ("average", 1.0), ("none", 1.0), ("average", 0.0)):
            search = replace(SEARCH, max_tokens=12, width=3, length_penalty=LengthPenalty(kind=kind, alpha=alpha))  # type: ignore[arg-type]
            with monkeypatch.context() as patch:
                real = model.step
                patch.setattr(model, "step", lambda *args, real=real: (steps.append(1), real(*args))[1])
                found = beam_search(model, ids([6]) % WORDS, Rows.of([6]), search)
            last = lambda beams, search, time: torch.full_like(beams.score_BW[:, 0] == 0, time == search.max_tokens)  # noqa: E731
            with monkeypatch.context() as patch:
                patch.setattr(module, "_cannot_improve", last)
                patient = beam_search(model, ids([6]) % WORDS, Rows.of([6]), search)
            assert [h.tokens for h in found[0]] == [h.tokens for h in patient[0]]
    assert len(steps) < 8 * 4 * 12


def test_documents_do_not_change_each_other() -> None:
    model = make("transformer", "copying=true").eval()
    documents, rows, _, _ = batch()
    search = Search(start_id=0, end_id=7, max_tokens=9, width=4, constraints=Constraints(no_repeat_ngram=3))
    together = beam_search(model, documents, rows, search)
    for document, found in zip(documents.split(DOCUMENTS), together, strict=True):
        [alone] = beam_search(model, document, Rows.of([len(document)]), search)
        assert [h.tokens for h in alone] == [h.tokens for h in found]


def test_documents_of_similar_length_are_padded_together() -> None:
    """Wherever one of a group or a whole group ends, the rest goes on with what is its own."""
    assert groups_of([12, 9, 8, 7, 7, 1]) == [slice(0, 3), slice(3, 5), slice(5, 6)]
    assert groups_of([3]) == [slice(0, 1)] and groups_of([4, 5]) == [slice(0, 1), slice(1, 2)]
    model, lengths = make("transformer").eval(), [12, 9, 8, 7, 7, 1]
    documents, rows = ids(lengths), Rows.of(lengths)
    assert [key.shape[::2] for key in model.start(documents, rows, capacity=2).cross_keys[0]] == [
        (3, 12),
        (2, 7),
        (1, 1),
    ]
    tokens = torch.arange(6)[:, None]
    whole = model.step(tokens, model.start(documents, rows, capacity=2))
    for size in range(1, 7):
        for kept in map(list, itertools.combinations(range(6), size)):
            state = model.start(documents, rows, capacity=2)
            state.keep(torch.tensor(kept))
            torch.testing.assert_close(model.step(tokens[kept], state), whole[kept])


def test_diverse_groups_differ() -> None:
    """Groups find the same without a penalty; a large one makes their first tokens differ."""
    model = make("transformer").eval()
    documents, rows, _, _ = batch()
    search = Search(start_id=0, end_id=7, max_tokens=6, width=4, groups=4)
    for hypotheses in beam_search(model, documents, rows, search):
        assert len({tuple(h.tokens) for h in hypotheses}) == 1
    for hypotheses in beam_search(model, documents, rows, replace(search, diversity=100.0)):
        assert len({h.tokens[0] if h.tokens else 7 for h in hypotheses}) == 4


def test_sampling_is_seeded_and_follows_the_distribution() -> None:
    model = tiny()
    document, rows = ids([6]) % WORDS, Rows.of([6])
    first_log = model(document, rows, torch.tensor([START]), Rows.of([1])).log_probabilities()[0]

    def draw(seed: int, width: int, top_k: int = 0) -> list[Hypothesis]:
        sampling = Sampling(generator=torch.Generator().manual_seed(seed), top_k=top_k)
        return write(model, document, rows, replace(SEARCH, width=width), sampling=sampling)[0]

    assert [h.tokens for h in draw(1, 20)] == [h.tokens for h in draw(1, 20)] != [h.tokens for h in draw(2, 20)]
    many = draw(0, 1000)
    for token in range(WORDS):
        share = sum(text_of(h)[0] == token for h in many) / 1000
        assert share == pytest.approx(first_log[token].exp().item(), abs=0.05)
    assert [h.score for h in many] == sorted((h.score for h in many), reverse=True)
    greedy = write(model, document, rows, SEARCH)[0][0]
    assert {tuple(h.tokens) for h in draw(3, 5, top_k=1)} == {tuple(greedy.tokens)}
    scores = {
        text: score
        for score, text in brute_force(model, document, replace(SEARCH, length_penalty=LengthPenalty(kind="none")))
    }
    for hypothesis in many[:20]:
        assert hypothesis.score == pytest.approx(scores[text_of(hypothesis)], rel=1e-4)


def test_length_penalties_by_the_paper() -> None:
    assert LengthPenalty(kind="wu", alpha=0.6).of(7) == pytest.approx((12 / 6) ** 0.6)
    assert LengthPenalty(kind="average", alpha=2.0).of(7) == 49
    assert LengthPenalty(kind="none", alpha=3.0).of(7) == 1
    assert math.isfinite(LengthPenalty().of(10**6))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("change", ["copying=true", "copying=false", "positions", "cell=lstm"])
def test_weights_in_bf16(architecture: str, change: str) -> None:
    """Each strategy runs, and a summary's score is what the same model in fp32 gives to it, nearly."""
    if change == "positions":
        change = "positions=none" if architecture == "recurrent" else "positions=alibi"
    model, half = (make(architecture, change, dtype=dtype).eval() for dtype in (torch.float32, torch.bfloat16))
    documents, rows, _, _ = batch()
    search = Search(start_id=0, end_id=7, max_tokens=9, length_penalty=LengthPenalty(kind="none"), coverage_penalty=0.0)
    wide = replace(search, width=4, constraints=Constraints(no_repeat_ngram=2, repetition_penalty=1.0))
    beamed = beam_search(half, documents, rows, replace(wide, coverage_penalty=0.1))
    drawn = write(half, documents, rows, wide, sampling=Sampling(generator=torch.Generator(), top_p=0.9))
    assert all(math.isfinite(h.score) for found in (*beamed, *drawn) for h in found)
    greedy = write(half, documents, rows, search)
    for document, [found] in zip(documents.split(DOCUMENTS), greedy, strict=True):
        text = (*found.tokens, 7) if found.ended else tuple(found.tokens)
        read = torch.tensor([0, *text[:-1]])
        log_TV = model(document, Rows.of([len(document)]), read, Rows.of([len(read)])).log_probabilities()
        expected = log_TV.gather(1, torch.tensor(text)[:, None]).sum().item()
        assert found.score == pytest.approx(expected, rel=0.05)


def test_log_total() -> None:
    logits = torch.randn(2, 3, 50) * 10
    torch.testing.assert_close(log_total(logits), logits.logsumexp(-1))
