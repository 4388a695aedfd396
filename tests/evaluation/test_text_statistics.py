from math import isnan

import pytest

from headcount.evaluation.text_statistics import (
    TEXT_STATISTICS,
    describe,
    fragment_lengths,
    words_of,
)

DOCUMENT = "The cat sat on the mat. The dog, it barked!"


def figures(summary: str, document: str = DOCUMENT) -> dict[str, float]:
    return dict(zip(TEXT_STATISTICS, describe(summary, document), strict=True))


def test_figures_by_hand() -> None:
    """Ten words in the document.

    Of the summary's five, 'cat sat' and 'the dog' are fragments, 'pink' is new.
    """
    found = figures("Cat sat; pink THE dog")
    assert (found["words"], found["compression"], found["empty"]) == (5, 2.0, 0)
    assert found["novel_1grams"] == pytest.approx(100 / 5)
    assert found["novel_2grams"] == pytest.approx(100 * 2 / 4)
    assert found["novel_3grams"] == 100
    assert found["coverage"] == pytest.approx(100 * 4 / 5)
    assert found["density"] == pytest.approx((2**2 + 2**2) / 5)


def test_repetition_counts_what_stood_before() -> None:
    found = figures("go on go on go on")
    assert [found[f"repeated_{n}grams"] for n in (1, 2, 3, 4)] == [
        pytest.approx(100 * repeated / total)
        for repeated, total in ((4, 6), (3, 5), (2, 4), (1, 3))
    ]
    assert figures("a b c d")["repeated_1grams"] == 0


@pytest.mark.parametrize("summary", ["", " \n", "..."])
def test_an_empty_summary_has_a_length_and_no_more(summary: str) -> None:
    found = figures(summary)
    assert (found.pop("words"), found.pop("empty")) == (0, 100)
    assert all(isnan(value) for value in found.values())


def test_short_summaries_have_no_long_ngrams() -> None:
    found = figures("cat sat")
    assert (
        isnan(found["novel_3grams"])
        and isnan(found["repeated_4grams"])
        and found["novel_2grams"] == 0
    )


def test_fragments_are_greedy_from_the_left() -> None:
    assert fragment_lengths(["b", "c", "d", "a", "b"], ["a", "b", "c", "d"]) == [3, 2]
    assert fragment_lengths(["x", "y"], ["a", "b"]) == [] == fragment_lengths([], ["a"])


def test_fragments_as_the_paper_matches_them() -> None:
    """Behind a match the paper goes on where it ends.

    Of 'a a a b' it sees 'a a', 'a', not 'a a b'.
    """
    assert fragment_lengths(["a", "a", "b"], ["a", "a", "a", "b"]) == [2, 1]


def test_a_copy_of_a_document_is_all_one_fragment() -> None:
    found = figures(DOCUMENT)
    assert (found["coverage"], found["density"], found["novel_4grams"]) == (100, 10, 0)


def test_100_000_equal_words_do_not_take_long() -> None:
    found = figures("word " * 100, "word " * 100_000)
    assert found["density"] == 100 and found["compression"] == 1000


def test_nothing_in_an_empty_document() -> None:
    found = figures("a b", "")
    assert (found["compression"], found["novel_1grams"], found["coverage"], found["density"]) == (
        0,
        100,
        0,
        0,
    )


def test_words_of_other_scripts() -> None:
    """Marks belong to their word; where no blank is between words each character is one."""
    assert words_of("Он пришёл, हिन्दी में") == ["он", "пришёл", "हिन्दी", "में"]
    assert words_of("我喜欢 x_1²") == ["我", "喜", "欢", "x_1²"]
    found = figures("我喜欢茶", "你我喜欢水")
    assert (found["words"], found["coverage"], found["density"]) == (4, 75, 9 / 4)
