"""Tests of the phrases of reports."""

import pytest

from headcount.wording import count_nouns, join_words


@pytest.mark.parametrize(
    ("words", "joined"),
    [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")],
)
def test_an_enumeration_has_its_conjunction_before_the_last_word(
    words: list[str], joined: str
) -> None:
    assert join_words(words, "or") == joined
    assert join_words(words) == joined.replace(" or ", " and ")


def test_one_is_singular_and_all_other_numbers_are_plural() -> None:
    counts = [count_nouns(number, "head") for number in (0, 1, 2, 1200)]
    assert counts == ["0 heads", "1 head", "2 heads", "1,200 heads"]
