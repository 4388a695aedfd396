import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from headcount.config.load import load
from headcount.data import audit as audits
from headcount.data.audit import Spread
from headcount.training.data_module import SummarizationDataModule

ROOT = Path(__file__).parents[2]
TRAIN = [
    {"document": "One two three.\n\nfour FIVE", "summary": "one two six"},
    {"document": "one, two three four five", "summary": ["seven", "eight"]},
    {"document": "A b", "summary": None},
    {"document": "A b\ud800", "summary": "a b"},
    {"document": "A b\ufffd", "summary": "a b"},
]
TEST = [{"document": "ONE two three four five!", "summary": "one"}]


@pytest.fixture
def data(tmp_path: Path) -> SummarizationDataModule:
    (tmp_path / "data").mkdir()
    for split, rows in (("train", TRAIN), ("validation", TEST), ("test", TEST)):
        (tmp_path / "data" / f"{split}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    where = [
        f"data.path={tmp_path / 'data'}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "tokenizer.vocabulary_size=260",
    ]
    module = SummarizationDataModule(load([], [*where, "data.max_document_tokens=12"]))
    module.setup()
    return module


def test_figures(data: SummarizationDataModule) -> None:
    found = audits.audit(data.splits, data.origin)
    train, test = found["train"], found["test"]
    assert (train.pairs, train.rows, train.references) == (4, 5, {"1": 3, "2": 1})
    assert train.dropped_rows == {"train.jsonl:3": "no summary"} and train.mended_rows == [
        "train.jsonl:4"
    ]
    assert train.document_words == Spread(median=3.5, p95=5, max=5)
    assert train.document_lines == Spread(median=1, p95=2, max=2)
    assert train.summary_words == Spread(median=2, p95=3, max=3)
    assert train.cut_documents == 0.5 and train.cut_summaries == 0
    assert train.compression == pytest.approx((1 + 5 / 3) / 2)
    shares = {"1": (1 / 3 + 1 + 0 + 0) / 4, "2": (1 / 2 + 0 + 0) / 3, "3": 1}
    assert train.novel == pytest.approx(shares)
    assert train.repeats == [1, 2] and train.shared == {}
    assert test.repeats == [0, 0] and test.shared == {"train": [0, 1], "validation": [1, 1]}


@pytest.mark.pictures
def test_printed_at_first_use_and_kept(
    data: SummarizationDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(record=True, width=100)
    folder = data.audit(console)
    output = console.export_text()
    for text in (
        "pairs",
        "1: 3, 2: 1",
        "3.5 / 5 / 5",
        "33.3%",
        "1 (2)",
        "dropped train.jsonl:3: no summary",
    ):
        assert text in output
    assert json.loads((folder / "audit.json").read_text())["train"]["document_words"]["p95"] == 5
    assert (folder / "lengths.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(audits, "audit", lambda *_: pytest.fail("made again"))
    assert data.audit(console) == folder and console.export_text() == ""
    data.audit(console, always=True)
    assert console.export_text() == output


def test_95th_percentile_is_by_nearest_rank() -> None:
    assert Spread.from_lengths(list(range(1, 101))) == Spread(median=50.5, p95=95, max=100)
    assert Spread.from_lengths([3]) == Spread(median=3, p95=3, max=3)


# median, 95th, max of document words, summary words and document lines; novel 1- to 4-grams;
# repeats
PUBLISHED = {
    "dialogsum": {
        "train": (
            12460,
            "116 / 255 / 985",
            "21 / 42 / 153",
            "9 / 16 / 61",
            (28.2, 72.9, 85.9, 92.3),
            [2, 1093],
        ),
        "validation": (
            500,
            "115 / 245 / 472",
            "18 / 39 / 65",
            "9 / 16 / 29",
            (29.2, 75.3, 87.7, 93.7),
            [0, 2],
        ),
        "test": (
            500,
            "120 / 253 / 789",
            "17 / 35 / 84",
            "9 / 16 / 65",
            (29.7, 77.0, 88.9, 94.2),
            [0, 2],
        ),
    },
    "scitldr": {
        "train": (
            1992,
            "154.5 / 246 / 487",
            "18 / 33 / 102",
            "7 / 12 / 34",
            (25.6, 62.8, 77.2, 83.9),
            [1, 1],
        ),
        "validation": (
            619,
            "156 / 244 / 375",
            "18 / 32 / 39",
            "7 / 12 / 30",
            (26.6, 63.5, 77.9, 85.1),
            [1, 1],
        ),
        "test": (
            618,
            "157.5 / 237 / 341",
            "18 / 33 / 44",
            "7 / 16 / 40",
            (25.5, 64.2, 78.7, 85.3),
            [0, 0],
        ),
    },
}
SHARED = {
    "dialogsum": [{}, {"train": [0, 51]}, {"train": [0, 1], "validation": [0, 7]}],
    "scitldr": [{}, {"train": [1, 1]}, {"train": [2, 2], "validation": [1, 1]}],
}


@pytest.mark.skipif(
    "HEADCOUNT_DATA" not in os.environ, reason="HEADCOUNT_DATA is not the folder of the real data"
)
@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_of_real_data(name: str, tmp_path: Path) -> None:
    """Equal to those that were counted when the files were made."""
    where = [f"data.path={os.environ['HEADCOUNT_DATA']}/{name}", f"data.cache_dir={tmp_path}"]
    module = SummarizationDataModule(
        load([str(ROOT / "configs" / "data" / f"{name}.yaml")], where)
    )
    module.setup()
    found = audits.audit(module.splits, module.origin)
    for role, figures in found.items():
        lengths = (
            str(s) for s in (figures.document_words, figures.summary_words, figures.document_lines)
        )
        novel = tuple(round(100 * share, 1) for share in figures.novel.values())
        assert (figures.pairs, *lengths, novel, figures.repeats) == PUBLISHED[name][role]
    assert [figures.shared for figures in found.values()] == SHARED[name]
