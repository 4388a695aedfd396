"""The page of a study: its content, and in a real browser without network."""

import json
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headcount.commands.report import report
from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid
from headcount.experiments.report import write
from headcount.experiments.report.study import read_study
from headcount.experiments.seeds import AddedSeeds, Look
from headcount.experiments.verdicts import COLORS
from headcount.page.html import STUDY, write_page
from headcount.page.study import describe_study
from tests.experiments.studies import HEADS, write_study
from tests.page.browser import Visit

FOLDER = Path("experiments/heads")
HOSTILE = "</script><img src=x onerror=alert(1)>a\u202eb\0"
MISSING = "num_heads=16,seed=1"


def score(cell: Cell) -> float:
    return {1: 15.0, 8: 25.0, 16: 26.0}[cell.axes["model.num_heads"]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a study with a hostile baseline, id and summaries, one training of
    which is missing."""
    place = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("tests.experiments.studies.BASELINES", {"lead-1": 10.0, HOSTILE: 30.0})
        grid = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8, 16]")
        cells = write_study(FOLDER, score, grid=grid, keep=lambda cell: cell.name != MISSING)
        for cell in cells:
            if cell.name != MISSING:
                write_summaries(cell)
    yield place


@pytest.fixture(scope="module")
def content(place: Path) -> dict[str, Any]:
    with chdir(place):
        grid = load_grid(FOLDER)
        study = read_study(grid, make_cells(grid))
        return describe_study(write.make_report(study), FOLDER)


def write_summaries(cell: Cell) -> None:
    """Write summaries that name their training, and for all but one training its page."""
    path = cell.folder / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row |= {"summary": f"{cell.name} wrote the kite - {HOSTILE}", "references": ["The kite !"]}
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if cell.name != "num_heads=1,seed=2":
        (cell.folder / "attention.html").write_text("<!doctype html><title>attention</title>")


@pytest.fixture(scope="module")
def page(place: Path, content: dict[str, Any]) -> Path:
    path = place / FOLDER / "report.html"
    path.write_text(write_page(STUDY, content), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser, page: Path) -> Iterator[Visit]:
    with Visit(browser, page) as visit:
        yield visit
        outside = [url for url in visit.requests if not url.startswith(("file:", "data:"))]
        assert outside == [] and visit.complaints == []


def test_the_figure_has_every_setting_within_its_range(content: dict[str, Any]) -> None:
    assert [setting["name"] for setting in content["settings"]] == [
        "1 head",
        "8 heads",
        "16 heads",
    ]
    assert content["axis"]["series"] == [{"name": "", "points": [[0, 0.0], [1, 3.0], [2, 4.0]]}]
    for metric in content["metrics"]:
        means = [baseline["mean"] for baseline in metric["baselines"]]
        for setting in content["settings"]:
            estimate = setting["estimates"][metric["key"]]
            means += [estimate["low"], estimate["high"]]
        assert metric["low"] < min(means) and max(means) < metric["high"]
    one, eight, sixteen = content["settings"]
    assert eight["isReference"] and eight["comparisons"] == {}
    assert eight["notes"] == ["the reference"] and sixteen["notes"] == ["2 of 3 seeds"]
    assert [run["seed"] for run in sixteen["runs"]] == [0, 2]
    assert one["comparisons"]["rouge1"]["mean"] < -8

    # Two seeds are too few, and times of one seed more or less cannot be compared.
    few = sixteen["comparisons"]["rouge1"]
    assert few["symbol"].endswith("†") and few["note"].endswith("from two seeds")
    assert "†" not in one["comparisons"]["rouge1"]["symbol"]
    assert [title for title, _ in one["costs"]][2:4] == ["tokens/s*", "decoding, ms per summary*"]


def test_summaries_and_links_are_those_of_the_run_folders(content: dict[str, Any]) -> None:
    document = content["documents"][0]
    assert len(content["documents"]) == 20 and document["references"] == ["The kite !"]
    texts = [[each["text"] for each in summaries] for summaries in document["summaries"]]
    assert texts[2][1].startswith("num_heads=16,seed=2 wrote") and len(texts[2]) == 2
    assert all("\u202e" not in text and "\0" not in text for text in sum(texts, []))
    link = content["settings"][2]["runs"][0]["page"]
    assert link.startswith("../../runs/heads/num_heads%3D16%2Cseed%3D0-")
    assert content["settings"][0]["runs"][2]["page"] is None


def test_rows_sort_by_the_numbers_that_they_show(content: dict[str, Any]) -> None:
    scores, costs, trainings = content["tables"]
    for row, setting in zip(scores["rows"], content["settings"], strict=False):
        assert row["cells"][1]["sort"] == setting["estimates"]["rouge1"]["mean"]
        assert row["cells"][1]["lines"][0].startswith(f"{row['cells'][1]['sort']:.2f}")
    assert [row["last"] for row in scores["rows"]] == [False] * 3 + [True] * 2
    assert len(costs["rows"]) == 3 and len(trainings["rows"]) == 8


def test_verdicts_have_their_colours_in_the_table(content: dict[str, Any]) -> None:
    one, eight, sixteen = (row["cells"][-1] for row in content["tables"][0]["rows"][:3])
    assert len(one["lines"]) == 3 and one["colors"] == [COLORS["worse"]] * 3
    assert eight["colors"] == []
    # A note on the number of seeds comes after the verdicts.
    assert len(sixteen["lines"]) == 4 and len(sixteen["colors"]) == 3


def test_an_undecided_setting_names_the_next_look(place: Path) -> None:
    """Of one whose metrics with a margin are decided, there is none."""
    undecided = {"rouge1": "undecided", "rouge2": "undecided", "rougeL": "undecided"}
    look = Look(
        seeds=3,
        verdicts={"num_heads=1": undecided, "num_heads=16": {**undecided, "rougeL": "better"}},
        reference_cell="num_heads=8",
        margin={"rougeL": 1.0},
    )
    with chdir(place):
        grid = replace(load_grid(FOLDER), margin={"rougeL": 1.0})
        study = read_study(grid, make_cells(grid), AddedSeeds(looks=[look]))
        settings = describe_study(write.make_report(study), FOLDER)["settings"]
    notes = {}
    for setting in settings:
        comparisons = setting["comparisons"].items()
        notes[setting["name"]] = {metric: each["note"] for metric, each in comparisons}
    assert set(notes["1 head"].values()) == {"next look: 5 seeds"}
    assert "undecided after the last look" in notes["16 heads"]["rouge1"]
    assert "look" not in notes["16 heads"]["rougeL"]


def test_the_candidates_of_an_inner_axis_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    select = "select: {over: {optimizer.learning_rate: [0.1, 0.2]}, by: validation/rougeL}\n"
    grid = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8]") + select
    missing = "num_heads=1,learning_rate=0.2,seed=1"
    cells = write_study(FOLDER, lambda cell: 20, grid=grid, keep=lambda cell: cell.name != missing)
    for cell in cells:
        score = 100 * cell.choice["optimizer.learning_rate"]
        if cell.folder.exists():
            (cell.folder / "metrics.csv").write_text(
                f"step,validation/rougeL,validation/loss\n1,{score},2\n"
            )
    study = read_study(load_grid(FOLDER), cells)
    tables = describe_study(write.make_report(study), FOLDER)["tables"]
    [table] = [table for table in tables if table["title"] == "Selection on validation"]
    shown = [[cell["lines"][0] for cell in row["cells"]] for row in table["rows"]]
    assert shown == [
        ["1 head", "0.1", "10.00", "3 of 3", "selected"],
        ["1 head", "0.2", "20.00", "2 of 3", ""],
        ["8 heads", "0.1", "10.00", "3 of 3", ""],
        ["8 heads", "0.2", "20.00", "3 of 3", "selected"],
    ]


def test_the_command_writes_the_page(
    place: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(write, "save_figure", lambda figure, path: path.touch())  # quicker
    report(FOLDER, [])
    assert (FOLDER / "report.html").read_text(encoding="utf-8") == write_page(STUDY, content)


def test_pointing_at_a_setting_and_keeping_it(visit: Visit) -> None:
    assert "8 heads" in visit.text("#detail h3")
    marks = visit.page.locator(".mark")
    assert marks.count() == 3
    marks.nth(0).hover()
    # A verdict has the same colour in the table.
    color = "getComputedStyle(document.querySelector('SELECTOR')).color"
    in_table = color.replace("SELECTOR", "#tables tbody tr[data-setting=\\'0\\'] .verdict")
    assert visit.script(in_table) == visit.script(color.replace("SELECTOR", "#detail .verdict"))
    detail = visit.text("#detail")
    assert "1 head" in detail and "seed 2" in detail and "parameters (M)" in detail
    assert "worse" in detail and "ROUGE-L" in detail
    assert visit.page.locator("tr.shown").count() == 1 + 1 + 3  # scores, costs, trainings
    visit.page.locator("h1").hover()
    assert "8 heads" in visit.text("#detail h3")

    marks.nth(2).click()
    assert "setting=3" in visit.script("location.hash")
    assert marks.nth(2).get_attribute("aria-pressed") == "true"
    visit.page.locator("[data-metric=rouge1]").click()
    assert "metric=rouge1" in visit.script("location.hash")
    assert "16 heads: ROUGE-1" in marks.nth(2).get_attribute("aria-label")


def test_a_document_by_every_setting(visit: Visit) -> None:
    written = visit.page.locator(".summaries p")
    assert written.count() == 3 and "num_heads=1,seed=0 wrote" in written.nth(0).inner_text()
    in_bold = visit.page.locator(".summaries li").nth(0).locator("b")
    assert in_bold.all_inner_texts() == ["the", "kite"]
    visit.page.locator("#seed").select_option("1")
    assert "No training with this seed" in written.nth(2).inner_text()
    visit.page.locator("#next").click()
    assert visit.page.locator("#document").input_value() == "1"
    visit.page.locator("#order").select_option("difference")
    labels = visit.page.locator("#document option").all_inner_texts()
    values = [float(label.split(" ")[0]) for label in labels]
    assert values == sorted(values, reverse=True) and len(values) == 20
    assert visit.page.locator("main img").count() == 0


def test_tables_sort_by_mouse_and_keyboard(visit: Visit) -> None:
    table = visit.page.locator("#tables table").first

    def names() -> list[str]:
        return [text.split("\n")[0] for text in table.locator("tbody th").all_inner_texts()]

    table.locator("thead button").nth(3).click()
    assert names()[:3] == ["16", "8", "1"] and len(names()) == 5  # baselines stay below
    title = table.locator("thead th").nth(3)
    assert title.get_attribute("aria-sort") == "descending"
    table.locator("thead button").nth(3).focus()
    visit.page.keyboard.press("Enter")
    assert names()[:3] == ["1", "8", "16"] and title.get_attribute("aria-sort") == "ascending"
    # The reference has no difference, so it is below those that have.
    table.locator("thead button").nth(4).press("Space")
    assert names()[:3] == ["16", "1", "8"]


def test_the_study_by_keyboard_alone_and_from_its_fragment(visit: Visit) -> None:
    press = visit.page.keyboard.press
    for _ in range(12):
        press("Tab")
        if visit.script("document.activeElement.matches('.mark')"):
            break
    press("ArrowRight")
    press("ArrowRight")
    assert "16 heads" in visit.text("#detail h3")
    press("Enter")
    assert "setting=3" in visit.script("location.hash")

    visit.open("#metric=rouge2&setting=1&document=3&seed=3&order=difference")
    assert (
        "1 head" in visit.text("#detail h3") and visit.page.locator("#seed").input_value() == "2"
    )
    assert visit.page.locator("#document").input_value() == "2"
    visit.open("#metric=toString&setting=99&document=x&seed=-1&order=__proto__")
    assert "8 heads" in visit.text("#detail h3")


def test_a_link_leads_to_the_page_of_a_run(visit: Visit) -> None:
    visit.page.get_by_label("attention of 8 heads, seed 0").click()
    visit.until("document.title === 'attention'")


def test_a_study_at_phone_width(browser, page: Path) -> None:
    with Visit(browser, page, phone=True, dark=True) as visit:
        assert visit.script("document.documentElement.scrollWidth <= innerWidth")
        assert visit.script("document.documentElement.scrollHeight") < 9000
        assert visit.complaints == []


def test_every_control_of_a_study_has_a_name(visit: Visit) -> None:
    assert visit.nameless() == []
    # A fault is found.
    visit.script("document.body.append(document.createElement('button'))")
    assert visit.nameless() == ["button"]


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_fault_in_a_study(browser, axe: str, page: Path, dark: bool) -> None:
    with Visit(browser, page, dark=dark, phone=dark) as visit:
        assert visit.faults(axe) == []


def test_scores_of_the_corpus_have_a_table(tmp_path: Path) -> None:
    grid = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8]")
    for cell in write_study(FOLDER, score, grid=grid):
        path = cell.folder / "scores.json"
        scores = json.loads(path.read_text())
        scores["systems"]["model"]["bleu"] = {"mean": 20.0 + cell.seed, "low": 1, "high": 40}
        path.write_text(json.dumps(scores))
    loaded = load_grid(FOLDER)
    study = read_study(loaded, make_cells(loaded))
    table = describe_study(write.make_report(study), FOLDER)["tables"][-1]
    assert [column["title"] for column in table["columns"]] == ["num_heads", "BLEU"]
    assert table["rows"][0]["cells"][1] == {"lines": ["21.00 ± 1.00"], "sort": 21.0}
    assert table["rows"][2]["cells"][1] == {"lines": ["-"], "sort": None}
    assert [row["last"] for row in table["rows"]] == [False, False, True, True, True, True]
