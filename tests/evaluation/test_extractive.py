from collections.abc import Sequence
from itertools import combinations

import pytest

from headcount.evaluation.extractive import choose_oracle, count_words, extract, units_of
from headcount.evaluation.rouge import Rouge

TURNS = "Ada: Hello.\n\nBen: I have  a red kite to sell, and a drum.\nAda: How much is it?\nBen: It is ten.\n"


MEAN = Rouge(rule="mean", tokenizer="rouge-score", sentences="split")


def take(name: str, document: str = TURNS, references: Sequence[str] = ("x",)) -> str:
    return extract(name, document, references, unit="line", rouge=MEAN)


@pytest.mark.parametrize(
    ("document", "sentences", "lines"),
    [
        (
            "One is\nfirst. Two is second.",
            ["One is first.", "Two is second."],
            ["One is", "first. Two is second."],
        ),
        (
            "Title here\n\nThen a text.",
            ["Title here", "Then a text."],
            ["Title here", "Then a text."],
        ),
        (
            "\n\n  Pi is 3.14 or so. Yes.",
            ["Pi is 3.14 or so.", "Yes."],
            ["Pi is 3.14 or so. Yes."],
        ),
        ("no end", ["no end"], ["no end"]),
        ("  \n ", [], []),
    ],
)
def test_units(document: str, sentences: list[str], lines: list[str]) -> None:
    assert units_of(document, "sentence") == sentences
    assert units_of(document, "line") == lines


def test_lead_and_longest_keep_the_order_of_the_document() -> None:
    assert take("lead-2") == "Ada: Hello. Ben: I have a red kite to sell, and a drum."
    assert take("longest-2") == "Ben: I have a red kite to sell, and a drum. Ada: How much is it?"
    assert take("longest-1", "one two\nthree four\nfive") == "one two"
    assert take("lead-9") == take("longest-9") == take("random-9") == " ".join(TURNS.split())


def test_random_depends_on_the_document_alone() -> None:
    documents = [
        "\n".join(f"{name} {number}" for number in range(50)) for name in ("left", "right")
    ]
    drawn = [
        [int(word) for word in take("random-5", document).split()[1::2]] for document in documents
    ]
    assert drawn[0] != drawn[1] and all(
        places == sorted(set(places)) and len(places) == 5 for places in drawn
    )
    assert take("random-5", documents[0]) == take("random-5", documents[0])


def test_oracle_is_greedy_and_stops_when_nothing_adds() -> None:
    references = ["it is ten for a red kite and a drum"]
    units = units_of(TURNS, "line")
    assert choose_oracle(units, references, 3, MEAN) == [1, 3]
    assert take("oracle-3", references=references) == f"{units[1]} {units[3]}"
    assert choose_oracle(units, ["none of it"], 3, MEAN) == [3]
    assert choose_oracle(units, ["..."], 3, MEAN) == [] == choose_oracle([], ["a"], 3, MEAN)


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_oracle_of_one_is_the_best_by_the_rule(rule: str) -> None:
    rouge = Rouge(rule=rule, tokenizer="rouge-score", sentences="split")
    units = ["a b c d", "e f g", "a b e f", "h"]
    references = ["a b c d", "e f g h", "e f g x"]

    def value(places: tuple[int, ...]) -> float:
        return sum(rouge.score(" ".join(units[place] for place in places), references)[:2])

    best = max(combinations(range(4), 1), key=value)
    assert (
        tuple(choose_oracle(units, references, 1, rouge))
        == best
        == ((1,) if rule == "mean" else (0,))
    )


def test_extracts_of_other_scripts() -> None:
    chinese = "今天天气很好。我去公园！那里有很多人，也有很多花。你呢？"
    assert take_sentences("lead-1", chinese) == "今天天气很好。"
    assert take_sentences("longest-1", chinese) == "那里有很多人，也有很多花。"
    assert take_sentences("lead-2", "Он пришёл. Она ушла. Всё.") == "Он пришёл. Она ушла."
    assert take_sentences("lead-1", "वह घर गया। फिर सो गया।") == "वह घर गया।"
    unicode = Rouge(rule="mean", tokenizer="unicode", sentences="split")
    assert choose_oracle(["Он пришёл.", "Она ушла."], ["Она"], 1, unicode) == [1]


def take_sentences(name: str, document: str) -> str:
    return extract(name, document, ["x"], unit="sentence", rouge=MEAN)


@pytest.mark.parametrize(
    ("text", "words"), [("one two", 2), ("今天 好", 3), ("Он пришёл", 2), ("ok今天", 3), ("", 0)]
)
def test_words_are_counted(text: str, words: int) -> None:
    assert count_words(text) == words
