"""A model so small that every text it can generate is scored, by the definitions written out."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from headcount.config.sections.generation import GenerationConfig
from headcount.generation.beam_search import beam_search, length_divisor
from headcount.generation.constraints import Words, build_constraints
from headcount.generation.hypothesis import Hypothesis
from headcount.model.base import NextTokenModel, SummaryModel
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout
from tests.model.builds import load_small

START = 0
END = 1
VOCABULARY = 4  # START and END among them
LONGEST = 4  # tokens of a text
SEARCH = GenerationConfig(max_tokens=LONGEST, num_beams=1)

# Tokens 0 and 3 begin a word; at the beginning of a text, token 2 is what token 3 is within it.
WORDS = Words(
    begins_V=torch.tensor([True, False, False, True]), within_V=torch.tensor([0, 1, 3, 3])
)

Text = tuple[int, ...]

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


def tiny(architecture: str = "transformer", *changes: str) -> SummaryModel:
    """Build a model of VOCABULARY tokens; a change is written as in ``builds.make``."""
    torch.manual_seed(1)
    config = load_small(architecture, changes).model
    model = build_model(config, vocabulary_size=VOCABULARY, max_positions=20).double().eval()
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return model


def search_by(
    model: NextTokenModel[Any],
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


def text_of(hypothesis: Hypothesis) -> Text:
    """Return the tokens of a hypothesis, with the end token if it ended."""
    tokens = tuple(hypothesis.tokens)
    return (*tokens, END) if hypothesis.finished else tokens


def all_texts() -> list[Text]:
    """Return every text of up to LONGEST tokens: ended by END, or cut off without it."""
    others = [token for token in range(VOCABULARY) if token != END]
    texts: list[Text] = []
    for length in range(LONGEST):
        for text in itertools.product(others, repeat=length):
            texts.append((*text, END))
    texts.extend(itertools.product(others, repeat=LONGEST))
    return texts


def is_allowed(text: Text, config: GenerationConfig, words: Words | None) -> bool:
    """Return whether the constraints of a config allow a text."""
    if text[-1] == END and len(text) < config.min_tokens:
        return False
    size = config.no_repeat_ngram_size
    if not size:
        return True

    # A word is known by all of its tokens, but is blocked by its first one.
    split = [(token,) for token in text] if words is None else split_words(text, words)
    ngrams = []
    for begin in range(len(split) - size + 1):
        *before, last = split[begin : begin + size]
        ngrams.append((*before, last[0]))
    return len(ngrams) == len(set(ngrams))


def split_words(text: Text, words: Words) -> list[Text]:
    """Split a text into words."""
    split: list[Text] = [(int(words.within_V[text[0]]),)]
    for token in text[1:]:
        if words.begins_V[token]:
            split.append(())
        split[-1] += (token,)
    return split


def brute_force(
    models: SummaryModel | Sequence[SummaryModel],
    document: Tensor,
    search: GenerationConfig,
    words: Words | None = None,
) -> list[tuple[float, Text]]:
    """Score every text by its own full forward pass.

    Several models are an ensemble. The best text is the first.
    """
    models = [models] if isinstance(models, SummaryModel) else models
    texts = [text for text in all_texts() if is_allowed(text, search, words)]
    read: list[int] = []
    for text in texts:
        read.extend((START, *text[:-1]))
    layout = BatchLayout.from_lengths([len(text) for text in texts])
    document_layout = BatchLayout.from_lengths([len(document)] * len(texts))

    # The mean over the models of their probabilities and of their attention to the document.
    probabilities = []
    attention = []
    for model in models:
        output = model(
            document.repeat(len(texts)),
            document_layout,
            torch.tensor(read),
            layout,
            return_weights=True,
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


def shared_tokens(hypotheses: Sequence[Hypothesis]) -> Tensor:
    """A utility: the share of tokens that two summaries have in common."""
    sets = [set(each.tokens) for each in hypotheses]
    rows = []
    for one in sets:
        rows.append([len(one & other) / max(1, len(one | other)) for other in sets])
    return torch.tensor(rows, dtype=torch.float64)
