import json
from dataclasses import replace
from pathlib import Path

import pytest

from headcount.compose import load
from headcount.config import ConfigError, DataConfig
from headcount.data.source import load_splits
from tests.conftest import write_data


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return load([], [f"data.path={tmp_path / 'data'}", f"data.cache_dir={tmp_path / 'cache'}"])[0].data


def write(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / name).write_text(text)


def test_lists_are_lines_and_references(data: DataConfig, tmp_path: Path) -> None:
    write_data(tmp_path / "data", "source", "target", lists=True)
    config = replace(data, document_columns=["text", "source"], summary_columns=["target"])
    splits, origin = load_splits(config, {"test": "test"})
    pairs = splits["test"]
    assert pairs.ids[0] == "test-0" and len(pairs.ids) == 12
    assert pairs.documents[0].splitlines()[0].endswith(": Good day.")
    assert all(len(references) == 2 and "buys" in references[0] for references in pairs.references)
    assert origin["test"]["pairs"] == 12 and len(origin["test"]["sha256"]) == 64


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file(suffix: str, data: DataConfig, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": "x", "document": "one\ttwo, three", "summary": "four"}, {"id": "y", "document": "é", "summary": "5"}]
    if suffix == "parquet":
        (tmp_path / "data").mkdir()
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "test.parquet")
    elif suffix == "jsonl":
        write(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    else:
        sep = "\t" if suffix == "tsv" else ","
        body = [sep.join(f'"{cell}"' for cell in row.values()) for row in rows]
        write(tmp_path, f"test.{suffix}", "\n".join([sep.join(rows[0]), *body]))
    pairs = load_splits(data, {"test": "test"})[0]["test"]
    assert pairs.ids == ["x", "y"]
    assert pairs.documents == ["one\ttwo, three", "é"] and pairs.references == [["four"], ["5"]]


def test_empty_and_null_rows_are_dropped_and_counted(
    data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"document": "a", "summary": "b"}, {"document": None, "summary": "b"}, {"document": "a", "summary": " "}]
    write(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    splits, origin = load_splits(data, {"test": "test"})
    assert splits["test"].ids == ["0"] and origin["test"]["dropped"] == 2
    assert "dropped 2 of 3 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("other.jsonl", "{}", "no test .* there is: other.jsonl"),
        ("test.jsonl", '{"text": "a", "summary": "b"}', "data.document_columns=.* there is: text, summary"),
        ("test.jsonl", '{"document": "a", "abstract": "b"}', "data.summary_columns=.* there is: document, abstract"),
        ("test.jsonl", '{"document": "", "summary": ""}', "no row of test has both"),
        ("test.jsonl", '{"document": "a"', "cannot read test: "),
        ("test.jsonl", "", "cannot read test: "),
        ("test.parquet", "not parquet", "cannot read test: "),
    ],
)
def test_bad_data_is_one_line(name: str, text: str, said: str, data: DataConfig, tmp_path: Path) -> None:
    write(tmp_path, name, text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_splits(data, {"test": "test"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["./none", "/no/such/folder", "none/of/these", "some/hub-id"])
def test_what_is_not_there(path: str, data: DataConfig) -> None:
    with pytest.raises(ConfigError, match="data.path=" + path):
        load_splits(replace(data, path=path), {"test": "test"})
