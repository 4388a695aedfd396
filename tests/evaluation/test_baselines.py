import pytest

from headcount.evaluation.baselines import lead


@pytest.mark.parametrize(
    ("document", "sentence", "line"),
    [
        ("One is\nfirst. Two is second.", "One is first.", "One is"),
        ("Title here\n\nThen a text.", "Title here", "Title here"),
        ("\n\n  Pi is 3.14 or so. Yes.", "Pi is 3.14 or so.", "Pi is 3.14 or so. Yes."),
        ("no end", "no end", "no end"),
        ("  \n ", "", ""),
    ],
)
def test_lead(document: str, sentence: str, line: str) -> None:
    assert lead(document, "sentence") == sentence
    assert lead(document, "line") == line
