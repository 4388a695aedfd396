"""Sentences are found among the tokens of a document."""

import re
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, normalizers

from headcount.data import sentences
from headcount.data.pairs import Pairs
from headcount.data.sentences import find_sentences, prepare_sentences
from headcount.data.tokenizer import train_tokenizer
from headcount.data.tokens import TokenColumn

TEXTS = [
    "The cat sat. It was warm there. Nobody came!\n\nThen Ada opened the door.",
    "One sentence only",
    "Short. Very short. "
    + "A sentence that is far longer than any summary may be " * 5
    + ". End.",
    "",
]
TOKENIZER = train_tokenizer(TEXTS, "bpe", 300)


def by_stops(text: str) -> list[str]:
    """Sentences as the tests need them: each ends with a full stop."""
    return re.findall(r"[^.]+\.?", text)


def test_sentences_are_found_among_the_tokens() -> None:
    [begins, one, _, none] = find_sentences(TEXTS, TOKENIZER, by_stops)
    ids = np.array(TOKENIZER.encode(TEXTS[0]).ids)
    pieces = [TOKENIZER.decode(part.tolist()).strip() for part in np.split(ids, begins[1:])]
    assert pieces == [
        "The cat sat.",
        "It was warm there.",
        "Nobody came!\n\nThen Ada opened the door.",
    ]
    assert one.tolist() == [0] and none.tolist() == []


def test_a_sentence_without_tokens_is_none() -> None:
    """A normalizer may drop whole scripts; what is left out must not be empty."""
    dropping = Tokenizer.from_str(TOKENIZER.to_str())
    dropping.normalizer = normalizers.Replace(Regex("[^ -~]+"), "")
    [begins] = find_sentences(["The cat sat. It was warm.\u6771\u4eac"], dropping, by_stops)
    assert begins.tolist() == [0, len(dropping.encode("The cat sat. ").ids)]


def test_sentences_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Pairs(ids=TEXTS, documents=TEXTS, references=[["s"]] * len(TEXTS))

    def prepare(sha256: str = "sha", unit: str = "sentence") -> TokenColumn:
        return prepare_sentences(
            pairs, sha256, TOKENIZER, unit=unit, split_units=by_stops, cache_dir=str(tmp_path)
        )

    expected = [row.tolist() for row in find_sentences(TEXTS, TOKENIZER, by_stops)]
    monkeypatch.setattr(sentences, "CHUNK", 1000)
    assert [prepare()[example].tolist() for example in range(len(TEXTS))] == expected
    monkeypatch.setattr(sentences, "find_sentences", lambda *_: pytest.fail("found again"))
    assert [prepare()[example].tolist() for example in range(len(TEXTS))] == expected
    for changed in ({"sha256": "other"}, {"unit": "line"}):
        with pytest.raises(pytest.fail.Exception, match="found again"):
            prepare(**changed)
