import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from headcount.config.sections.evaluation import (
    EvaluationConfig,
    ReferenceRule,
    RougeTokenizer,
    SentenceRule,
)
from headcount.evaluation.rouge import F1, ROUGE_TYPES, Rouge

PACKAGE = RougeScorer(ROUGE_TYPES, use_stemmer=True)
RULES = ("mean", "max", "best-by-rouge1")
PIECES = [
    "a",
    "the",
    "running",
    "runs",
    "Ran",
    "generally",
    "générale",
    "don't",
    "x1",
    "0",
    "--",
    "ß",
    "İ",
    "Σ",
    "ΑΣ",
]
PIECES += [
    "\n",
    "\n\n",
    "\r",
    "\t",
    "\x00",
    "\x85",
    "\u2028",
    "\u212a",
    "\ud800",
    "🙂",
    "שלום",
    "日本",
]  # \u212a is a k


def by_the_package(summary: str, reference: str) -> list[list[float]]:
    scores = PACKAGE.score(reference, summary)
    return [list(scores[kind]) for kind in ROUGE_TYPES]


def rouge(
    rule: ReferenceRule = "mean",
    tokenizer: RougeTokenizer = "rouge-score",
    sentences: SentenceRule = "newline",
) -> Rouge:
    return Rouge(rule=rule, tokenizer=tokenizer, sentences=sentences)


def by_us(summary: str, references: list[str], scorer: Rouge | None = None) -> list[list[float]]:
    scorer = scorer or rouge()
    return scorer.score_texts(scorer.parse(summary), list(map(scorer.parse, references))).tolist()


def test_figures_are_the_packages_own_to_the_last_digit() -> None:
    """On made-up texts of few words, so that subsequences are many, on several lines, with odd
    characters."""
    draw = random.Random(0)

    def text() -> str:
        pieces = draw.choices(
            draw.sample(PIECES, draw.randint(2, len(PIECES))), k=draw.randint(0, 25)
        )
        return draw.choice(["", " ", " "]).join(pieces)

    for _ in range(4000):
        summary, reference = text(), text()
        assert by_us(summary, [reference]) == by_the_package(summary, reference), (
            summary,
            reference,
        )


@pytest.mark.parametrize(
    ("summary", "reference"),
    [
        ("", ""),
        ("", "a word"),
        ("...", "a word"),
        ("a cat\nsat on a mat", "the cat sat\non the mat\nit slept"),
        ("one two\n\none two", "one two three\ntwo one"),
        ("word " * 5000, "word other " * 100),
        ("running " + "\N{COMBINING ACUTE ACCENT}" * 9, "RUNS"),
    ],
)
def test_figures_at_the_edges(summary: str, reference: str) -> None:
    assert by_us(summary, [reference]) == by_the_package(summary, reference)


def test_a_document_of_100_000_words_is_scored() -> None:
    words = [f"w{number % 977}" for number in range(100_000)]
    (_, _, subsequence, _) = by_us(" ".join(words[::100]), [" ".join(words)])
    assert subsequence[0] == 1.0 and subsequence[1] == 0.01


def test_rules_for_several_references() -> None:
    """The second reference is the better one by ROUGE-1, the first by ROUGE-2."""
    summary, references = "a b c d", ["a b c x y z", "d c b a"]
    each = np.array([by_the_package(summary, reference) for reference in references])
    assert each[1, 0, F1] > each[0, 0, F1] and each[1, 1, F1] < each[0, 1, F1]
    assert np.array_equal(by_us(summary, references, rouge("mean")), each.mean(0))
    assert np.array_equal(by_us(summary, references, rouge("best-by-rouge1")), each[1])
    best = PACKAGE.score_multi(references, summary)
    assert by_us(summary, references, rouge("max")) == [list(best[kind]) for kind in ROUGE_TYPES]


@pytest.mark.parametrize("rule", RULES)
def test_one_reference_leaves_nothing_to_the_rule(rule: str) -> None:
    f1 = [scores[F1] for scores in by_the_package("a cat sat", "the cat sat\nthere")]
    assert rouge(rule).score("a cat sat", ["the cat sat\nthere"]) == f1


def test_unicode_on_ascii_text_is_the_package_to_the_last_digit() -> None:
    draw = random.Random(1)
    pieces = [piece for piece in PIECES if piece.isascii()]
    scorer = rouge(tokenizer="unicode")
    for _ in range(1000):
        summary, reference = (
            draw.choice(["", " ", "-"]).join(draw.choices(pieces, k=draw.randint(0, 25)))
            for _ in range(2)
        )
        assert by_us(summary, [reference], scorer) == by_the_package(summary, reference)


@pytest.mark.parametrize(
    ("tokenizer", "summary", "reference", "rouge1", "rouge2", "rouge_l"),
    [
        # 4 of 5 and of 6 characters, the pairs 我喜 and 喜欢, the subsequence 我喜欢茶.
        ("unicode", "我喜欢喝茶", "我也喜欢红茶", 8 / 11, 2 / 9, 8 / 11),
        ("character", "我喜欢喝茶", "我也喜欢红茶", 8 / 11, 2 / 9, 8 / 11),
        # 3 of 4 and of 4 words, one pair.
        ("unicode", "राम ने किताब पढ़ी", "राम ने पत्रिका पढ़ी", 3 / 4, 1 / 3, 3 / 4),
        # 2 of 3 and of 4 words, no pair.
        ("unicode", "ذهب الولد اليوم", "ذهب أمس إلى اليوم", 4 / 7, 0, 4 / 7),
        # The dotless i differs from i: kırk (forty) is not kirk.
        ("unicode", "kırk ışık yandı", "kirk ışık yandı", 2 / 3, 1 / 2, 2 / 3),
        ("unicode", "İzmir'de", "izmir'de", 1, 1, 1),
        # ß is ss and case does not matter, so that all words of the summary match.
        ("unicode", "Die große Straße", "DIE STRASSE IST GROSS", 6 / 7, 0, 4 / 7),
        # 4 letters of 5 and of 5, the pairs gr and rö.
        ("character", "Größe", "Gröhe", 2 * 4 / 11, 2 * 2 / 9, 2 * 4 / 11),
    ],
)
def test_other_scripts_by_hand(
    tokenizer: RougeTokenizer,
    summary: str,
    reference: str,
    rouge1: float,
    rouge2: float,
    rouge_l: float,
) -> None:
    found = rouge(tokenizer=tokenizer).score(summary, [reference])
    assert found == pytest.approx([rouge1, rouge2, rouge_l, rouge_l])
    assert rouge(tokenizer=tokenizer).score(reference, [reference]) == [1, 1, 1, 1]


def test_sentences_change_only_the_summary_level_score() -> None:
    """Lsum sees each sentence of the reference in any sentence of the summary, whatever the
    order; by lines both are one sentence."""
    summary, reference = "The dog barked. A cat sat.", "A cat sat. The dog barked."
    by_lines = rouge(sentences="newline").score(summary, [reference])
    split = rouge(sentences="split").score(summary, [reference])
    assert by_lines == pytest.approx([1, 4 / 5, 1 / 2, 1 / 2])
    assert split == pytest.approx([1, 4 / 5, 1 / 2, 1])


def test_split_sentences_are_the_packages_lines() -> None:
    """As published figures are computed: a sentence splitter puts each on a line."""
    draw = random.Random(2)
    for _ in range(300):
        sentences = [
            " ".join(draw.choices(["cat", "dog", "sat", "ran", "it"], k=draw.randint(1, 6)))
            for _ in range(draw.randint(1, 6))
        ]
        middle = len(sentences) // 2
        texts = [
            [f"{sentence.capitalize()}." for sentence in part]
            for part in (sentences[:middle], sentences[middle:])
        ]
        expected = by_the_package("\n".join(texts[0]), "\n".join(texts[1]))
        found = by_us(" ".join(texts[0]), [" ".join(texts[1])], rouge(sentences="split"))
        assert found == expected


def test_scorer_of_a_config() -> None:
    evaluation = EvaluationConfig(references="max", tokenizer="character", sentences="newline")
    scorer = Rouge.from_config(evaluation)
    assert (scorer.rule, scorer.tokenizer, scorer.sentences) == ("max", "character", "newline")
