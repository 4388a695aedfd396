"""The tokenizers of ROUGE.

``rouge-score`` is that of the package: it drops everything except a-z and 0-9, so that nothing is
left of Russian or Chinese, and parts of German words. ``unicode`` gives the same tokens on ASCII
text, and keeps the letters, marks and digits of every script. ``character`` makes each letter with
its marks a token, as is common for Chinese and Japanese.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import normalize

import regex
from nltk.stem.porter import PorterStemmer
from rouge_score.tokenize import tokenize as tokenize_ascii

from headcount.config.sections.evaluation import RougeTokenizer

# Scripts without blanks between words: each character with its marks is a token.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
UNSPACED_CHARACTER = rf"[[\p{{L}}\p{{N}}]&&[{UNSPACED}]]\p{{M}}*"
_TOKEN = regex.compile(
    rf"{UNSPACED_CHARACTER}|(?:[[\p{{L}}\p{{N}}]--[{UNSPACED}]]\p{{M}}*)+", regex.V1
)
_CHARACTER = regex.compile(r"[\p{L}\p{N}]\p{M}*")
_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}+")  # soft hyphen, joiners
_ASCII_WORD = regex.compile(r"[a-z0-9]+")

Tokenize = Callable[[str], list[str]]


class _Stemmer:
    """Porter's stemmer with a cache."""

    stem = staticmethod(lru_cache(2**18)(PorterStemmer().stem))


def make_tokenizer(name: RougeTokenizer) -> Tokenize:
    """Return the function that turns a text into tokens."""
    return {
        "rouge-score": tokenize_as_package,
        "unicode": tokenize_words,
        "character": tokenize_characters,
    }[name]


def tokenize_as_package(text: str) -> list[str]:
    """Return the stems of the runs of a-z and 0-9 by the tokenizer of ``rouge-score``."""
    stems: list[str] = tokenize_ascii(text, _Stemmer)
    return stems


def tokenize_words(text: str) -> list[str]:
    """Return the words of a text in any script, and in scripts without blanks its characters.

    Words are case-folded and in one Unicode form (NFKC). The language is unknown: Porter's English
    stemmer is applied to words of ASCII letters only, and the capital of the Turkish dotless i
    cannot be distinguished from that of i.
    """
    if text.isascii():
        return tokenize_as_package(text)
    return [_stem(word) for word in _TOKEN.findall(fold_case(text))]


def tokenize_characters(text: str) -> list[str]:
    """Return the letters and digits of a text, each with its marks."""
    return _CHARACTER.findall(fold_case(text))


def fold_case(text: str) -> str:
    """Return the case-folded text in the Unicode form NFKC.

    Invisible characters within words are removed: soft hyphens, joiners, variation selectors. So
    is the combining dot into which lower-casing turns a part of the Turkish capital İ.
    """
    folded = normalize("NFKC", normalize("NFKC", text).casefold())
    return _IGNORABLE.sub("", folded).replace("i\N{COMBINING DOT ABOVE}", "i")


def _stem(word: str) -> str:
    # ``rouge-score`` stems words of more than three letters.
    if len(word) > 3 and word.isascii():
        stem: str = _Stemmer.stem(word)
        return stem
    return word


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """The share of texts that a tokenizer drops, in %.

    Attributes:
        words: words (see ``tokenize_words``) without a character in any token.
        characters: letters and digits that are in no token.
    """

    words: float
    characters: float


def measure_dropped(texts: Sequence[str], tokenizer: RougeTokenizer) -> Dropped:
    """Measure the share of texts that a tokenizer drops."""
    words = 0
    dropped_words = 0
    characters = 0
    dropped_characters = 0
    for text in texts:
        for word in _TOKEN.findall(text.lower()):
            # Only the tokenizer of rouge-score drops letters and digits.
            letters = len(_CHARACTER.findall(word))
            kept = letters
            if tokenizer == "rouge-score":
                kept = sum(map(len, _ASCII_WORD.findall(word)))

            # A word is dropped if nothing of it is kept.
            words += 1
            dropped_words += kept == 0
            characters += letters
            dropped_characters += letters - kept

    return Dropped(
        words=100 * dropped_words / max(1, words),
        characters=100 * dropped_characters / max(1, characters),
    )
