import random
import string

import pytest
from rouge_score.tokenizers import DefaultTokenizer

from headcount.evaluation.tokenizers import (
    make_tokenizer,
    measure_dropped,
    tokenize_as_package,
    tokenize_characters,
    tokenize_words,
)


def test_on_ascii_text_words_are_those_of_the_package() -> None:
    draw = random.Random(0)
    package = DefaultTokenizer(use_stemmer=True)
    words = [
        "running",
        "Generally",
        "don't",
        "x1",
        "snake_case",
        "--",
        "U.S.",
        "3.14",
        "\x00",
        "\n",
    ]
    for _ in range(2000):
        noise = "".join(draw.choices(string.printable, k=draw.randint(0, 40)))
        text = " ".join(draw.choices(words, k=draw.randint(0, 8))) + noise
        assert tokenize_words(text) == tokenize_as_package(text) == package.tokenize(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # Chinese and Japanese have no blanks: each character is a token.
        (
            "今天很好。我在北京2024年！",
            ["今", "天", "很", "好", "我", "在", "北", "京", "2024", "年"],
        ),
        ("コーヒーを飲む", ["コ", "ー", "ヒ", "ー", "を", "飲", "む"]),
        # Hindi: vowel signs and virama belong to the word.
        ("राम ने हिन्दी में पढ़ा।", ["राम", "ने", "हिन्दी", "में", "पढ़ा"]),
        ("هل ذهبتَ إلى البيت؟", ["هل", "ذهبتَ", "إلى", "البيت"]),
        # Persian: a joiner within a word is invisible.
        ("می\u200cخواهم", ["میخواهم"]),
        # Turkish: the dotless i is a letter; the capital İ is that of i.
        ("Kırmızı ışık İZMİR izmir", ["kırmızı", "ışık", "izmir", "izmir"]),
        # German: ß is ss, no stemmer for words with umlauts.
        ("Die Straßen, STRASSEN und Häuser", ["die", "strassen", "strassen", "und", "häuser"]),
        ("ΟΔΟΣ οδός", ["οδοσ", "οδόσ"]),
        ("Привет, Мир! Ёж", ["привет", "мир", "ёж"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),
        # Thai: no blanks; vowel signs and tone marks belong to their letter.
        ("ผู้ชาย", ["ผู้", "ช", "า", "ย"]),
        # One Unicode form: decomposed letters, full-width letters and digits.
        ("nai\u0308ve naïve ＡＢ１２", ["naïve", "naïve", "ab12"]),
        ("🙂 ❤️ —", []),
        ("soft\u00adhyphen", ["softhyphen"]),
    ],
)
def test_words_of_other_scripts(text: str, tokens: list[str]) -> None:
    stemmed = {"strassen": "strassen", "softhyphen": "softhyphen"}
    found = tokenize_words(text)
    expected = [stem_of(stemmed.get(token, token)) for token in tokens]
    assert found == expected


def stem_of(token: str) -> str:
    """Return what the package makes of a token of ASCII letters; others are as they are."""
    return tokenize_as_package(token)[0] if token.isascii() else token


def test_characters_carry_their_marks() -> None:
    assert tokenize_characters("हिन्दी, ok 12!") == ["हि", "न्", "दी", "o", "k", "1", "2"]
    assert tokenize_characters("今天。") == ["今", "天"]
    assert tokenize_characters("nai\u0308ve") == ["n", "a", "ï", "v", "e"]
    assert tokenize_characters("") == []


def test_tokenizers_are_called_by_their_names() -> None:
    text = "Größe größe"
    assert make_tokenizer("rouge-score")(text) == ["gr", "e", "gr", "e"]
    assert make_tokenizer("unicode")(text) == ["grösse", "grösse"]
    assert make_tokenizer("character")(text) == [*"grösse", *"grösse"]


@pytest.mark.parametrize(
    ("text", "words", "characters"),
    [
        ("an ascii text of 1 line", 0, 0),
        ("Ни слова", 100, 100),
        ("one два", 50, 50),
        ("größe", 0, 100 * 2 / 5),  # gr and e are left of it
        ("今天 a", 100 * 2 / 3, 100 * 2 / 3),
        ("हिन्दी", 100, 100),
        ("... 🙂", 0, 0),
    ],
)
def test_dropped_text_of_the_package(text: str, words: float, characters: float) -> None:
    dropped = measure_dropped([text], "rouge-score")
    assert dropped.words == pytest.approx(words)
    assert dropped.characters == pytest.approx(characters)
    for tokenizer in ("unicode", "character"):
        nothing = measure_dropped([text], tokenizer)
        assert (nothing.words, nothing.characters) == (0, 0)
