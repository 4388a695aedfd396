import pytest

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.bootstrap import CorrectedDifference
from headcount.evaluation.comparison import Outputs
from headcount.evaluation.comparison_report import as_markdown, make_comparison
from headcount.evaluation.systems import EXAMPLE_METRICS, Scorers, measure

NUMBERS = range(12)
REFERENCES = [[f"they meet topic{n} at place{n}"] for n in NUMBERS]
DOCUMENTS = [f"they meet topic{n} now" + " and more" * n for n in NUMBERS]
SCORERS = Scorers(EvaluationConfig())


def outputs(name: str, summaries: list[str]) -> Outputs:
    system = measure(name, summaries, DOCUMENTS, REFERENCES, SCORERS)
    return Outputs(
        name=name,
        summaries=summaries,
        values=system.values,
        scores=system.values[:, EXAMPLE_METRICS.index("rougeL")],
    )


def written(*others: Outputs, first: Outputs) -> str:
    test = CorrectedDifference(mean=1.5, low=-0.25, high=3.0, p=0.01, corrected_p=0.04)
    made = make_comparison(
        [first, *others],
        [{"ROUGE-L": test}] * len(others),
        [f"id-{n}" for n in NUMBERS],
        REFERENCES,
        metric="ROUGE-L",
        signature="rouge|sentences:split",
        rouge=SCORERS.rouge,
    )
    return as_markdown(made)


@pytest.fixture
def text() -> str:
    first = outputs("first", [f"they meet topic{n}" for n in NUMBERS])
    second = outputs(
        "second", [*(f"they meet topic{n} at place{n}" for n in range(9)), "", "no", "no"]
    )
    return written(second, first=first)


def test_every_section_is_there(text: str) -> None:
    titles = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    assert titles == [
        "Differences",
        "Probability of improvement",
        "Agreement",
        "ROUGE-L by words of the document",
        "ROUGE-L by words of the reference",
        "ROUGE-L by words of the summary",
        "ROUGE-L by % of the summary copied from the document",
        "F1 of words by their frequency in the references",
        "N-grams that second writes more often",
        "N-grams that first writes more often",
        "Examples where second wins most",
        "Examples where first wins most",
    ]
    assert "12 examples, scored with `rouge|sentences:split`" in text
    assert "| ROUGE-L | +1.50 [-0.25, +3.00] | 0.0400 |" in text
    assert "with probability 0.750" in text and "better on 9, worse on 3, equal on 0" in text
    assert "0.0 % of the summaries are identical" in text
    assert "| at | 9 | 0 | 12 |" in text
    assert "- id-0: ROUGE-L 100.00 against 75.00" in text
    assert "  - reference: they meet topic0 at place0" in text


def test_tables_are_whole(text: str) -> None:
    """All rows of a table have as many cells; each example of a table of lengths is in it once."""
    lines = text.splitlines()
    for line, following in zip(lines, lines[1:], strict=False):
        if line.startswith("|") and following.startswith("|"):
            assert line.count("|") == following.count("|")
    begin = lines.index("### ROUGE-L by words of the document")
    rows = [line.split(" | ") for line in lines[begin + 4 :]]
    sizes = [int(row[2]) for row in rows[: rows.index([""])]]
    assert sum(sizes) == 12 and len(sizes) == 4


def test_empty_summaries_leave_no_table() -> None:
    """The length of a document is known by the summary of any system, and else unknown."""
    first = outputs("first", ["", "", *["they meet"] * 10])
    second = outputs("second", ["", "", "", *["they meet"] * 9])
    third = outputs("third", ["they", "", *["they meet"] * 10])
    lines = written(second, third, first=first).splitlines()

    def rows_of(title: str) -> list[list[str]]:
        begin = lines.index(f"### {title}") + 4
        rows = [line.strip("| ").split(" | ") for line in lines[begin:]]
        return rows[: rows.index([""])]

    rows = rows_of("ROUGE-L by words of the document")
    assert sum(int(row[2]) for row in rows) == sum(int(row[4]) for row in rows) == 12
    assert rows[-1] == ["unknown: all summaries are empty", "0.00", "1", "0.00", "1"]
    assert rows[0][0] == "below 11" and rows[0][2] == "3"  # of 4, 8 and 10 words
    rows = rows_of("ROUGE-L by % of the summary copied from the document")
    assert rows[-1] == ["empty summary", "0.00", "2", "0.00", "3"]


def test_texts_are_escaped() -> None:
    evil = outputs("a|b <script>", ["<b>*x*</b> | $y$ [z](http://a)\x1b[0m"] * 12)
    text = written(outputs("other", ["plain"] * 12), first=evil)
    assert "<script>" not in text and "<b>" not in text and "\x1b" not in text
    assert "](http" not in text


def test_several_systems_are_each_compared_with_the_first() -> None:
    first = outputs("first", ["x"] * 12)
    text = written(outputs("b", ["y"] * 12), outputs("c", [""] * 12), first=first)
    assert "## b and first" in text and "## c and first" in text
    assert text.count("### Agreement") == 2


def test_equal_systems_have_nothing_to_show() -> None:
    first = outputs("first", ["they meet"] * 12)
    text = written(first, first=first)
    assert text.count("None.") == 4 and "100.0 % of the summaries are identical" in text
