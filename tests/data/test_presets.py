"""Each preset reads a small made-up set with the columns and splits that the real one has on the
hub."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headcount.config.load import load
from headcount.data.sources import load_splits
from headcount.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
TEXT, LINES = "A first sentence. A second one.", ["A first sentence.", "A second one."]
THREE = ("train", "validation", "test")
REAL = {
    "cnn_dailymail": (THREE, {"article": TEXT, "highlights": "news", "id": "x"}),
    "xsum": (THREE, {"document": TEXT, "summary": "news", "id": "x"}),
    "samsum": (THREE, {"id": "x", "dialogue": TEXT, "summary": "news"}),
    "dialogsum": (THREE, {"id": "x", "dialogue": TEXT, "summary": "news", "topic": "talk"}),
    "scitldr": (
        THREE,
        {"source": LINES, "source_labels": [1, 0], "target": ["news", "olds"], "title": "t"},
    ),
    "billsum": (("train", "test", "ca_test"), {"text": TEXT, "summary": "news", "title": "t"}),
    "arxiv": (THREE, {"article": TEXT, "abstract": "news"}),
    "gigaword": (THREE, {"document": TEXT, "summary": "news"}),
    "one_file": (("train",), {"document": TEXT, "summary": "news"}),
}


def test_all_are_tried() -> None:
    assert {file.stem for file in (CONFIGS / "data").glob("*.yaml")} == REAL.keys()


@pytest.mark.parametrize("name", REAL)
def test_reads_the_real_columns(name: str, tmp_path: Path) -> None:
    splits, row = REAL[name]
    (tmp_path / "data").mkdir()
    for split in splits:
        pq.write_table(pa.Table.from_pylist([row] * 5), tmp_path / "data" / f"{split}.parquet")
    data = load([str(CONFIGS / "data" / f"{name}.yaml")], []).data
    local = replace(
        data,
        path=str(tmp_path / "data"),
        cache_dir=str(tmp_path / "cache"),
        carved_examples=2,
        group_by=None,  # all rows here have one document
    )
    roles = {
        "train": data.train_split,
        "validation": data.validation_split,
        "test": data.test_split,
    }
    pairs, origin = load_splits(local, roles)
    assert pairs["test"].documents[0] == ("\n".join(LINES) if name == "scitldr" else TEXT)
    assert pairs["test"].references[0] == (["news", "olds"] if name == "scitldr" else ["news"])
    assert len(pairs["validation"]) == (5 if data.validation_split else 2)
    assert not origin["test"]["dropped"]


@pytest.mark.parametrize("name", ["dialogsum", "scitldr"])
def test_a_recipe_leaves_the_data_to_its_preset(name: str) -> None:
    preset, recipe = (str(CONFIGS / folder / f"{name}.yaml") for folder in ("data", ""))
    for order in ([preset, recipe], [recipe, preset]):
        config = load(order, [])
        assert config.data == load([preset], []).data
        assert config.evaluation.unit == "line" and config.run.name == name
    with pytest.raises(
        ConfigError,
        match=f"{name}.yaml: data.path, data.document_columns, data.summary_columns must be set by "
        f"another file, .* configs/data/{name}.yaml, or data.path=VALUE",
    ):
        load([recipe], [])
    with pytest.raises(
        ConfigError, match="yaml: data.document_columns, data.summary_columns must"
    ):
        load([recipe], ["data.path=docstrings"])


def test_the_hub_has_a_row_for_each_reference_of_dialogsum(tmp_path: Path) -> None:
    rows = [
        {"id": f"test_{n}_{k}", "dialogue": f"a{n}\nb", "summary": f"s{k}", "topic": "t"}
        for n in range(2)
        for k in (1, 2, 3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    where = [f"data.path={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}"]
    data = load([str(CONFIGS / "data" / "dialogsum.yaml")], where).data
    pairs = load_splits(data, {"test": "test"})[0]["test"]
    assert list(pairs.ids) == ["test_0_1", "test_1_1"]
    assert list(pairs.references) == [["s1", "s2", "s3"]] * 2
