"""BPE-dropout against the tokenizer, and against the merges worked out by hand."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from headcount.data.bpe_dropout import LONGEST_WORD, BpeDropout
from headcount.data.tokenizer import train_tokenizer
from headcount.errors import ConfigError

TEXTS = [
    "Ada buys a lamp from Ben.",
    "The lamp is old: é, 東京 and 😀!",
    "#Person1# lends a lamp",
] * 3
TOKENIZER = train_tokenizer(TEXTS, "bpe", 340)
WITH_WORDS = train_tokenizer(TEXTS, "bpe", 340, words=r"#Person\d+#")


def tokens_of(text: str, probability: float, seed: int = 0) -> list[int]:
    [ids] = BpeDropout(TOKENIZER, probability).encode([text], Random(seed))
    return ids.tolist()


@given(st.text(max_size=60) | st.sampled_from(TEXTS))
@pytest.mark.parametrize("tokenizer", [TOKENIZER, WITH_WORDS])
def test_without_dropout_it_is_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    [ids] = BpeDropout(tokenizer, 0.0).encode([text], Random(0))
    assert ids.tolist() == tokenizer.encode(text).ids


@given(st.text(max_size=40) | st.sampled_from(TEXTS), st.floats(0, 0.99), st.integers(0, 99))
def test_the_text_is_the_same_whatever_is_left_out(
    text: str, probability: float, seed: int
) -> None:
    ids = tokens_of(text, probability, seed)
    assert TOKENIZER.decode(ids) == text
    assert len(ids) >= len(TOKENIZER.encode(text).ids)
    assert ids == tokens_of(text, probability, seed)


def test_the_probabilities_are_those_of_the_paper() -> None:
    """Three letters, of which ``bc`` is merged first, then ``a`` with it; ``ab`` is learned last.

    With p = 0.5 the first step keeps ``bc`` with 1/2. If not, ``ab`` with 1/4, and nothing with
    1/4. After ``bc`` the second step makes ``abc`` with 1/2; after ``ab`` nothing can follow.
    """
    tokens = [*pre_tokenizers.ByteLevel.alphabet(), "bc", "abc", "ab"]
    vocabulary = {token: n for n, token in enumerate(tokens)}
    merges = [("b", "c"), ("a", "bc"), ("a", "b")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    dropout = BpeDropout(tokenizer, 0.5)
    random = Random(0)
    found: Counter[str] = Counter()
    for _ in range(4000):
        [ids] = dropout.encode(["abc"], random)
        found["|".join(tokenizer.id_to_token(token) for token in ids.tolist())] += 1
    for split, share in {"abc": 0.25, "a|bc": 0.25, "ab|c": 0.25, "a|b|c": 0.25}.items():
        assert found[split] / 4000 == pytest.approx(share, abs=0.03), split


def test_a_word_is_split_the_same_way_in_document_and_summary() -> None:
    dropout = BpeDropout(TOKENIZER, 0.5)
    other_ways = set()
    for seed in range(30):
        document, summary = dropout.encode(["a lamp from Ben, a lamp", "a lamp"], Random(seed))
        of_summary = summary.tolist()
        assert document.tolist()[-len(of_summary) + 1 :] == of_summary[1:]
        other_ways.add(tuple(of_summary))
    assert len(other_ways) > 5


def test_very_long_words_keep_their_tokens() -> None:
    text = "lamp" * LONGEST_WORD
    assert tokens_of(text, 0.9) == TOKENIZER.encode(text).ids


def test_a_tokenizer_with_other_rules_is_rejected() -> None:
    unigram = train_tokenizer(TEXTS, "unigram", 300)
    prefixed = Tokenizer(
        models.BPE({"a": 0, "##b": 1, "ab": 2}, [("a", "##b")], continuing_subword_prefix="##")
    )
    prefixed.pre_tokenizer = pre_tokenizers.Whitespace()
    added = Tokenizer.from_str(TOKENIZER.to_str())
    added.add_tokens(["lamp"])
    # It knows the bytes of these texts, and not those of other ones.
    known_bytes = Tokenizer(models.BPE())
    known_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known_bytes.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=60))
    for tokenizer in (unigram, prefixed, added, known_bytes):
        with pytest.raises(ConfigError, match=r"^data.bpe_dropout=0.1: the tokenizer is no BPE"):
            BpeDropout(tokenizer, 0.1, TEXTS)
