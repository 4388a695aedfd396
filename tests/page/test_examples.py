from headcount.page.examples import choose_examples


def test_the_sample_is_fixed_and_within_the_split() -> None:
    assert choose_examples(20, 979) == choose_examples(20, 979) == sorted(choose_examples(20, 979))
    assert choose_examples(20, 5) == [0, 1, 2, 3, 4]
