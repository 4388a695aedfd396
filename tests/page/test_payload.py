import json
from pathlib import Path

import pytest

from headcount.page.payload import (
    PageRun,
    count_steps,
    make_page,
    read_findings,
    without_references,
)


def test_a_page_of_two_runs(make_run) -> None:
    run, pairs = make_run()
    other, _ = make_run("gpt", seed=1)
    steps: list[None] = []
    page = make_page(pairs, [run, other], after_each=lambda: steps.append(None))
    assert len(steps) == count_steps([run, other], 5)
    assert [each["id"] for each in page.content["documents"]] == list(pairs.ids)
    for described in page.content["runs"]:
        for row, document in enumerate(described["documents"]):
            assert len(document["off"]) == len(described["sets"])
            rouge = run.summarizer.rouge.score(document["summary"], pairs.references[row])
            assert document["rouge"] == [round(100 * value, 2) for value in rouge[:3]]
            assert document["mapsName"] in page.maps
    assert len(page.maps) == 10
    json.dumps(page.content, allow_nan=False)


def test_documents_without_references_have_no_scores(make_run) -> None:
    run, _ = make_run()
    pairs = without_references(["a\u202eb"], ["Ada: Good day."])
    page = make_page(pairs, [run], with_text=True)
    [document] = page.content["documents"]
    assert document == {"id": r"a\u202eb", "references": [], "words": 3, "text": "Ada: Good day."}
    [described] = page.content["runs"][0]["documents"]
    assert described["rouge"] is None and described["off"][0][1] is None


def test_findings_of_the_heads_command(make_run, tmp_path: Path) -> None:
    assert read_findings(None) == read_findings(tmp_path) == {}
    table = tmp_path / "heads-1" / "heads.csv"
    table.parent.mkdir()
    table.write_text(
        "site,layer,head,importance,roles\ncross,0,1,0.5,copying previous\nencoder,0,0,0.1,\n"
    )
    found = read_findings(tmp_path)
    assert found == {
        "cross.0.1": {"importance": 0.5, "roles": ["copying", "previous"]},
        "encoder.0.0": {"importance": 0.1, "roles": []},
    }
    run, pairs = make_run()
    page = make_page(
        pairs,
        [PageRun(name="x", summarizer=run.summarizer, folder=tmp_path)],
        with_heads_off=False,
    )
    assert page.content["runs"][0]["findings"] == found
    assert "off" not in page.content["runs"][0]["documents"][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "site\nx\n",
        "site,layer,head,importance,roles\ncross,a,0,1,\n",
        "site,layer,head,importance\ncross,0,0,nan\n",
    ],
)
def test_a_table_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    table = tmp_path / "heads-1" / "heads.csv"
    table.parent.mkdir()
    table.write_text(text)
    assert read_findings(tmp_path) == {}
