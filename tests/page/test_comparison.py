"""The page of a comparison: its content, and in a real browser without network."""

from pathlib import Path
from typing import Any

import pytest

from headcount.evaluation.bootstrap import CorrectedDifference
from headcount.evaluation.comparison_report import ComparisonReport, make_comparison
from headcount.page.comparison import describe_comparison
from headcount.page.html import COMPARISON, write_page
from tests.evaluation.test_comparison_report import NUMBERS, REFERENCES, SCORERS, outputs
from tests.page.browser import Visit

HOSTILE = "</script><img src=x onerror=alert(1)>a\u202eb\0"


@pytest.fixture(scope="module")
def made() -> ComparisonReport:
    first = outputs("first", [f"they meet topic{n}" for n in NUMBERS])
    texts = [f"they meet topic{n} at place{n}" for n in range(9)]
    systems = [
        first,
        outputs("second", [*texts, HOSTILE, "no", "no"]),
        outputs("third", ["no"] * 12),
    ]
    test = CorrectedDifference(mean=1.5, low=-0.25, high=3.0, p=0.01, corrected_p=0.04)
    return make_comparison(
        systems, [{"ROUGE-L": test}] * 2, [f"id-{n}" for n in NUMBERS], REFERENCES,
        metric="ROUGE-L", signature="rouge|made:up", rouge=SCORERS.rouge,
    )  # fmt: skip


@pytest.fixture(scope="module")
def content(made: ComparisonReport) -> dict[str, Any]:
    return describe_comparison(made)


def test_the_content_is_that_of_the_report(
    content: dict[str, Any], made: ComparisonReport
) -> None:
    second, third = content["contrasts"]
    assert (content["first"], second["name"], third["name"]) == ("first", "second", "third")
    assert [second["wins"], second["losses"], second["ties"]] == [9, 3, 0]
    assert second["improvement"][0] == 0.75 and third["improvement"][0] == 0
    assert [table["title"] for table in second["tables"]] == [
        table.title for table in made.contrasts[0].tables
    ]
    row = second["tables"][0]["rows"][0]
    first_score, other_score = (cell["sort"] for cell in row["cells"][1:3])
    assert row["cells"][3]["sort"] == pytest.approx(other_score - first_score, abs=1e-3)
    at = next(row for row in second["ngrams"][0]["rows"] if row["cells"][0]["lines"] == ["at"])
    assert [cell["sort"] for cell in at["cells"][1:]] == [9, 0, 12]
    best = second["examples"][0]["examples"][0]
    assert best["scores"] == [100.0, 75.0] and best["reference"].startswith("they meet")
    assert all("\u202e" not in str(each) and "\0" not in str(each) for each in second["examples"])


def test_scores_of_other_examples_have_no_difference(content: dict[str, Any]) -> None:
    """Each run is bucketed by its own summaries in two tables."""
    titles = {}
    for table in content["contrasts"][0]["tables"]:
        columns = [column["title"] for column in table["columns"]]
        titles[table["title"]] = columns[1:]
        assert all(len(row["cells"]) == len(columns) for row in table["rows"])
    own = ["first", "second"]
    assert titles == {
        "ROUGE-L by words of the document": [*own, "difference"],
        "ROUGE-L by words of the reference": [*own, "difference"],
        "ROUGE-L by words of the summary": own,
        "ROUGE-L by % of the summary copied from the document": own,
        "F1 of words by their frequency in the references": [*own, "difference"],
    }


@pytest.fixture(scope="module")
def page(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    path.write_text(write_page(COMPARISON, content), encoding="utf-8")
    return path


def test_it_opens_sorts_and_changes_the_run(browser, page: Path) -> None:
    for phone in (False, True):
        with Visit(browser, page, phone=phone, dark=phone) as visit:
            assert visit.text("h1") == "second and first"
            assert visit.script("document.documentElement.scrollWidth <= innerWidth")
            assert "probability 0.750" in visit.text("#differences")
            table = visit.page.locator("#buckets table").first
            table.locator("thead button").nth(3).click()
            shown = [
                float(each.split("\n")[0])
                for each in table.locator("td:last-child").all_inner_texts()
            ]
            assert shown == sorted(shown, reverse=True) and len(shown) > 2
            assert visit.page.locator("#examples .written > b").count() > 0
            assert visit.page.locator("main img").count() == 0
            visit.page.get_by_role("button", name="third").click()
            assert visit.text("h1") == "third and first" and "run=2" in visit.script(
                "location.hash"
            )
            outside = [url for url in visit.requests if not url.startswith(("file:", "data:"))]
            assert outside == [] and visit.complaints == []


def test_every_control_of_a_comparison_has_a_name(browser, page: Path) -> None:
    with Visit(browser, page) as visit:
        assert visit.nameless() == []


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_fault_in_a_comparison(browser, axe: str, page: Path, dark: bool) -> None:
    with Visit(browser, page, dark=dark, phone=dark) as visit:
        assert visit.faults(axe) == []
