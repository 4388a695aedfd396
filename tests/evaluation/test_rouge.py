import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from headcount.evaluation.rouge import F1, ROUGE_TYPES, Rouge, Text, signature

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


def by_us(summary: str, references: list[str], rule: str = "mean") -> list[list[float]]:
    return Rouge(rule).score_texts(Text.of(summary), [Text.of(r) for r in references]).tolist()


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
    assert np.array_equal(by_us(summary, references, "mean"), each.mean(0))
    assert np.array_equal(by_us(summary, references, "best-by-rouge1"), each[1])
    best = PACKAGE.score_multi(references, summary)
    assert by_us(summary, references, "max") == [list(best[kind]) for kind in ROUGE_TYPES]


@pytest.mark.parametrize("rule", RULES)
def test_one_reference_leaves_nothing_to_the_rule(rule: str) -> None:
    f1 = [scores[F1] for scores in by_the_package("a cat sat", "the cat sat\nthere")]
    assert Rouge(rule).score("a cat sat", ["the cat sat\nthere"]) == f1


def test_signature_names_package_version_and_rules() -> None:
    rest = "stemmer:porter|sentences:newline|bootstrap:1000|seed:0"
    assert (
        signature([["a", "b"], ["c", "d"]], "max")
        == f"rouge-score:0.1.2|nrefs:2|references:max|{rest}"
    )
    assert (
        signature([["a", "b"], ["c"]], "mean")
        == f"rouge-score:0.1.2|nrefs:var|references:mean|{rest}"
    )
