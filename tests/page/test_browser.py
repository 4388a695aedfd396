"""The page in a real browser, without network."""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headcount.data.pairs import Pairs
from headcount.page.html import ATTENTION, write_page
from headcount.page.maps import dequantize, unpack
from headcount.page.payload import make_page, select_rows, without_references
from tests.page.browser import Visit

HOSTILE = [
    "</script><script>alert(1)</script><img src=x onerror=alert(1)> <!-- ]]> {{DATA}} &lt;b&gt;",
    "javascript:alert(1) \" onmouseover=\"alert(1)\" ' style='x' `${alert(1)}`",
    "a\u202eb\u2066c\u2028d\u2029e\0f\x1b[31mg\x07",
    "x" * 10_000,
    "שלום עולם مرحبا بالعالم 日本語 🙂 é",
    "\n\n\n",
]


def write(path: Path, pairs: Pairs, *runs: Any, with_heads_off: bool = True) -> Path:
    page = make_page(pairs, runs, with_heads_off=with_heads_off)
    path.write_text(write_page(ATTENTION, page.content, page.maps), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the pages that several tests open."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def single(make_run, pages: Path) -> Path:
    path = pages / "single.html"
    if not path.exists():
        run, pairs = make_run("transformer", "model.copying=true")
        write(path, select_rows(pairs, range(3)), run)
    return path


@pytest.fixture
def compared(make_run, pages: Path) -> Path:
    path = pages / "compared.html"
    if not path.exists():
        run, pairs = make_run("transformer", "model.copying=true")
        other, _ = make_run("gpt", seed=1)
        write(path, select_rows(pairs, range(3)), run, other)
    return path


def test_the_file_opens_without_a_request_or_a_message(
    browser, single: Path, compared: Path
) -> None:
    for path in (single, compared):
        for phone in (False, True):
            with Visit(browser, path, phone=phone, dark=phone) as visit:
                outside = [url for url in visit.requests if not url.startswith(("file:", "data:"))]
                assert (
                    outside == []
                    and len([url for url in visit.requests if url.startswith("file:")]) == 1
                )
                assert visit.complaints == []
                assert visit.script("document.documentElement.scrollWidth <= innerWidth")


def test_pointing_adding_and_letting_go(browser, single: Path) -> None:
    with Visit(browser, single) as visit:
        written = visit.page.locator(".summary [data-index]")
        assert visit.hot(".document") == [] and "Point at a word" in visit.text(".detail")
        written.nth(0).hover()
        visit.until(
            "document.querySelector('.document [data-index]').closest('.tokens').querySelector('[style*=heat]')"
        )
        first = visit.hot(".document")
        assert (
            first and "probability" in visit.text(".detail") and "Instead" in visit.text(".detail")
        )
        assert visit.page.locator(".detail .bars").first.locator("li").count() == 4

        # Two words are added up and stay.
        written.nth(0).click()
        written.nth(1).click()
        visit.page.locator("h1").hover()
        visit.until("document.querySelector('.detail').textContent.includes('2 tokens added up')")
        assert "tokens1=1.2" in visit.script("location.hash")
        assert written.nth(0).get_attribute("aria-selected") == "true"

        # A word of the document shows where it was used, and lets the others go.
        visit.page.locator(".document [data-index]").nth(2).click()
        visit.until("document.querySelector('.summary [style*=heat]')")
        assert "source1=3" in visit.script("location.hash") and "tokens1" not in visit.script(
            "location.hash"
        )
        assert "in the document" in visit.text(".detail")

        # One layer, one head: other colours.
        visit.page.locator(".view").select_option("1.1")
        assert "layer1=2&head1=2" in visit.script("location.hash")
        assert visit.complaints == []


def test_the_fragment_restores_the_view_and_nonsense_is_ignored(browser, single: Path) -> None:
    with Visit(browser, single) as visit:
        visit.open(
            "#document=2&layer1=1&head1=2&tokens1=1.3&off1=cross.0.1&map1=encoder.0.0&sort=entropy"
        )
        assert visit.page.locator("#document").input_value() == "1"
        assert visit.page.locator(".view").input_value() == "0.1"
        assert visit.page.locator(".summary [aria-selected=true]").count() == 2
        assert "Without cross-attention 1.2" in visit.text("#heads-off .result")
        assert "Document to document, layer 1, head 1" in visit.text(".large")
        shown = visit.hot(".document")
        visit.open(
            "#document=99&layer1=x&tokens1=9999.-1.1e3&off1=<b>&map1=__proto__&order=toString&run=7"
        )
        assert (
            visit.page.locator("#document").input_value() == "0" and visit.hot(".document") == []
        )
        assert shown and visit.complaints == []


def test_a_head_off_shows_the_other_summary(browser, single: Path) -> None:
    with Visit(browser, single) as visit:
        content = visit.script("JSON.parse(document.getElementById('data').textContent)")
        run = content["runs"][0]
        document = run["documents"][0]
        index = next(
            i
            for i, (summary, _) in enumerate(document["off"][:10])
            if summary != document["summary"]
        )
        site, layer, head = run["sets"][index][0].split(".")
        name = {"encoder": "Encoder", "decoder": "Decoder", "cross": "Cross-attention"}[site]
        button = visit.page.get_by_role(
            "button", name=f"{name}, layer {int(layer) + 1}, head {int(head) + 1} off"
        )
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        kept = visit.page.locator("#heads-off .difference :not(del)").all_inner_texts()
        assert " ".join(kept) == " ".join(document["off"][index][0].split())
        assert (
            visit.page.locator("#heads-off .scores dd").first.inner_text()
            == f"{document['off'][index][1][0]:.1f}"
        )
        visit.page.get_by_text("All heads on").click()
        assert visit.page.locator("#heads-off .difference").count() == 0 and visit.complaints == []


def test_numbers_on_screen_are_those_of_the_file(browser, single: Path) -> None:
    """The file's own are those of the model: test_explain.py."""
    with Visit(browser, single) as visit:
        content = visit.script("JSON.parse(document.getElementById('data').textContent)")
        document = content["runs"][0]["documents"][0]
        packed = visit.script("document.getElementById('maps-0-0').textContent")
        weights = read_weights(packed, document["maps"])
        for fragment, expected in (
            ("#layer1=2&head1=1&tokens1=2", weights["cross", 1][0, 1]),
            ("#layer1=1&tokens1=1.3", weights["cross", 0][:, [0, 2]].mean((0, 1))),
        ):
            visit.open(fragment)
            values = visit.page.locator(".detail .group:last-child .value").all_inner_texts()
            shown = [float(value.removesuffix(" %")) for value in values]
            largest = 100 * np.sort(expected)[::-1][: len(shown)]
            assert len(shown) > 2 and np.allclose(shown, largest, atol=0.51)
        visit.open("#source1=2&layer1=1&head1=2")
        values = visit.page.locator(".detail .group:last-child .value").all_inner_texts()
        largest = 100 * weights["cross", 0][1, :, 1].max()
        assert float(values[0].removesuffix(" %")) == pytest.approx(largest, abs=0.51)


def read_weights(packed: str, maps: list[dict[str, Any]]) -> dict[tuple[str, int], np.ndarray]:
    """Return the weights of a document by site and layer, as the file has them."""
    levels = unpack(packed)
    weights = {}
    begin = 0
    for each in maps:
        shape = (each["heads"], each["rows"], each["columns"])
        end = begin + math.prod(shape)
        weights[each["site"], each["layer"]] = dequantize(levels[begin:end]).reshape(shape)
        begin = end
    return weights


def test_all_heads_are_seen_sorted_and_large(browser, single: Path) -> None:
    with Visit(browser, single) as visit:
        heads = visit.page.locator(".thumbnail")
        assert heads.count() == 12
        drawn = visit.script(
            "[...document.querySelectorAll('.thumbnail canvas')].map((canvas) => new Set(canvas.getContext('2d')"
            ".getImageData(0, 0, canvas.width, canvas.height).data).size)"
        )
        assert min(drawn) > 3
        visit.page.locator("#thumbnails select").select_option("entropy")
        visit.until("location.hash.includes('sort=entropy')")
        spreads = [float(each.split(",")[2].split()[2]) for each in visit.script(
            "[...document.querySelectorAll('.thumbnails')][0].querySelectorAll('.thumbnail').values()"
            ".map((head) => head.querySelector('.spoken').textContent).toArray()"
        )]  # fmt: skip
        assert spreads == sorted(spreads)
        heads.first.click()
        assert (
            "Strongest" in visit.text(".large") and visit.page.locator(".view").input_value() != ""
        )
        visit.page.locator(".attention").hover()
        visit.until("document.querySelector('.readout').textContent.includes('%')")
        assert visit.complaints == []


def test_two_runs_side_by_side(browser, compared: Path) -> None:
    with Visit(browser, compared) as visit:
        assert visit.page.locator(".panel").count() == 2
        boxes = [visit.page.locator(".panel").nth(run).bounding_box() for run in (0, 1)]
        assert (
            boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
        )
        assert "AGAINST" in visit.text(".panel:nth-child(2)").upper()
        visit.page.locator("#order").select_option("difference")
        labels = visit.page.locator("#document option").all_inner_texts()
        values = [int(label.split(" ")[0]) for label in labels]
        assert values == sorted(values, reverse=True) and len(values) == 3
        visit.page.locator("#next").click()
        visit.until("document.getElementById('previous').disabled === false")
        # Keeping a word of the second run shows that run's heads below.
        visit.page.locator(".panel:nth-child(2) .summary [data-index]").first.click()
        visit.until(
            "document.querySelector('#run-choice button:nth-child(2)').ariaPressed === 'true'"
        )
        assert "run=2" in visit.script("location.hash") and visit.complaints == []


def test_the_view_is_saved_as_svg_and_png(browser, compared: Path, tmp_path: Path) -> None:
    with Visit(browser, compared) as visit:
        visit.page.locator(".summary [data-index]").first.click()
        for button, suffix in (("Save SVG", "svg"), ("Save PNG", "png")):
            with visit.page.expect_download() as download:
                visit.page.get_by_role("button", name=button).click()
            assert download.value.suggested_filename == f"attention-1.{suffix}"
            download.value.save_as(tmp_path / f"view.{suffix}")
        root = ElementTree.parse(tmp_path / "view.svg").getroot()
        texts = [
            "".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")
        ]
        assert any("run-0" in text for text in texts) and any("run-1" in text for text in texts)
        assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) > 3
        assert (tmp_path / "view.png").read_bytes().startswith(
            b"\x89PNG"
        ) and visit.complaints == []


def test_the_keyboard_alone(browser, single: Path) -> None:
    with Visit(browser, single) as visit:
        press = visit.page.keyboard.press

        def tab_to(selector: str) -> None:
            for _ in range(40):
                press("Tab")
                if visit.script(f"document.activeElement.matches('{selector}')"):
                    return
            raise AssertionError(f"{selector} cannot be reached")

        tab_to(".summary [data-index]")
        press("ArrowRight")
        visit.until("document.querySelector('.document [style*=heat]')")
        press("Enter")
        assert "tokens1=2" in visit.script("location.hash")
        press("End")
        press("Space")
        assert "tokens1=2." in visit.script("location.hash")
        press("Escape")
        assert "tokens1" not in visit.script("location.hash")
        tab_to(".thumbnail")
        press("ArrowRight")
        press("Enter")
        assert visit.script("document.activeElement.matches('.thumbnail[aria-selected=true]')")
        assert "map1=" in visit.script("location.hash")
        tab_to(".switch")
        press("ArrowDown")
        press("Enter")
        assert "off1=" in visit.script("location.hash") and visit.text("#heads-off .result")
        assert visit.complaints == []


def test_hostile_texts_stay_texts(browser, make_run, tmp_path: Path) -> None:
    run, _ = make_run("transformer", "model.copying=true", "data.max_document_tokens=96")
    run = type(run)(name=HOSTILE[0], summarizer=run.summarizer)
    documents = [text if text.strip() else f"a{text}b" for text in HOSTILE]
    pairs = without_references(HOSTILE, documents)
    pairs = Pairs(ids=pairs.ids, documents=documents, references=[[text] for text in HOSTILE])
    path = write(tmp_path / "page.html", pairs, run)
    for phone in (False, True):
        with Visit(browser, path, phone=phone) as visit:
            scripts = visit.script("document.scripts.length")
            for number in range(len(HOSTILE)):
                visit.open(f"#document={number + 1}&tokens1=1.2")
                assert visit.script("document.documentElement.scrollWidth <= innerWidth"), number
                assert visit.script("document.scripts.length") == scripts
                assert (
                    visit.page.locator(
                        "main img, main script, main [onerror], main [onmouseover]"
                    ).count()
                    == 0
                )
                with visit.page.expect_download() as download:
                    visit.page.get_by_role("button", name="Save SVG").click()
                ElementTree.parse(download.value.path())
            assert visit.complaints == []
            assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []


def test_layers_without_heads(browser, make_run, tmp_path: Path) -> None:
    mask = "{encoder: [[false,false],[false,true]], decoder: [[true,false],[false,false]], cross: [[false,false],[true,true]]}"
    run, pairs = make_run("transformer", f"model.head_mask={mask}")
    with Visit(browser, write(tmp_path / "page.html", select_rows(pairs, range(2)), run)) as visit:
        assert visit.page.locator(".thumbnail").count() == 4
        visit.open("#layer1=1&tokens1=1&map1=cross.1.1")
        assert visit.hot(".document") == [] and "Strongest" in visit.text(".large")
        visit.open("#layer1=2&tokens1=1")
        assert visit.hot(".document") and visit.complaints == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("phone", [False, True])
def test_axe_finds_no_fault(browser, axe: str, compared: Path, dark: bool, phone: bool) -> None:
    with Visit(browser, compared, dark=dark, phone=phone) as visit:
        visit.open("#tokens1=1.2&off1=cross.0.1&map1=cross.0.1&source2=2")
        assert visit.faults(axe) == []


def test_every_control_of_the_page_has_a_name(browser, compared: Path) -> None:
    with Visit(browser, compared) as visit:
        visit.open("#tokens1=1.2&off1=cross.0.1&map1=cross.0.1")
        assert visit.nameless() == []
