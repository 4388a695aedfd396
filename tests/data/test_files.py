import bz2
import gzip
import io
import json
import lzma
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headcount.config.load import load
from headcount.config.sections.data import DataConfig
from headcount.data.files import find
from headcount.data.pairs import Pairs
from headcount.data.sources import load_splits
from headcount.errors import ConfigError

ROWS = [{"id": "x", "document": "one\ntwo", "summary": "a"}, {"document": "é", "summary": "b"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    (tmp_path / "data").mkdir()
    overrides = [f"data.path={tmp_path / 'data'}", f"data.cache_dir={tmp_path / 'cache'}"]
    return load([], overrides).data


def read_test(data: DataConfig) -> Pairs:
    return load_splits(data, {"test": "test"})[0]["test"]


def check_rows(pairs: Pairs) -> None:
    assert list(pairs.ids) == ["x", "1"]
    assert list(pairs.documents) == ["one\ntwo", "é"]
    assert list(pairs.references) == [["a"], ["b"]]


def refuses(data: DataConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_test(data)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["test.json", "test.jsonl", "test.json.gz", "test/part.json"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects(
    name: str, indent: int | None, data: DataConfig, tmp_path: Path
) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir(exist_ok=True)
    text = f"\ufeff\n {json.dumps(ROWS, indent=indent)}\n".encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    check_rows(read_test(data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"document": "a", "summary": "b"}, 3]', "test.json:2: not a JSON object but int"),
        ('[{"document": "a", "summary": "b"}', "test.json: not JSON: "),
        ("[]", "test has no rows"),
        (json.dumps({"data": ROWS}, indent=2), "test.json:1: .* one object over several lines"),
        (
            json.dumps({"document": ["a"]}, indent=2),
            "test.json:1: .* one object over several lines",
        ),
        ("[" * 10**5, "test.json: not JSON: "),
    ],
)
def test_other_json_is_named(text: str, message: str, data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "data" / "test.json").write_text(text)
    refuses(data, message)


@pytest.mark.parametrize("name", ["test.jsonl.gz", "test.csv.gz", "test.tsv.gz", "test.jsonl"])
def test_gzip_is_read(name: str, data: DataConfig, tmp_path: Path) -> None:
    """Also without the suffix."""
    text = LINES
    if ".csv" in name or ".tsv" in name:
        separator = "," if ".csv" in name else "\t"
        rows = [["id", "document", "summary"], ["x", "one", "a"], ["", "é", "b"]]
        text = "".join(separator.join(row) + "\n" for row in rows)
    (tmp_path / "data" / name).write_bytes(gzip.compress(text.encode()))
    pairs = read_test(data)
    assert list(pairs.ids) == ["x", "1"] and list(pairs.references) == [["a"], ["b"]]


def test_a_damaged_gzip_is_named(data: DataConfig, tmp_path: Path) -> None:
    whole = gzip.compress(LINES.encode() * 100)
    for content in (whole[:-20], whole[:50], whole[:20] + b"\xff" * 40, whole + b"rest"):
        (tmp_path / "data" / "test.jsonl.gz").write_bytes(content)
        refuses(data, "test.jsonl.gz: not readable as gzip: ")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04rest", "a ZIP archive"),
        (lzma.compress(LINES.encode()), "compressed with xz"),
        (bz2.compress(LINES.encode()), "compressed with bzip2"),
        (b"\x28\xb5\x2f\xfdrest", "compressed with Zstandard"),
        (LINES.encode("utf-16"), "text in UTF-16"),
        (b"PAR1rest", "Parquet"),
        (b"\x89PNG\r\n\x1a\nrest", None),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_what_is_not_text_is_named(
    content: bytes, kind: str | None, suffix: str, data: DataConfig, tmp_path: Path
) -> None:
    (tmp_path / "data" / f"test.{suffix}").write_bytes(content)
    if kind:
        refuses(data, f"test.{suffix}: this is {kind}; legal: .*UTF-8")
    else:
        refuses(data, "test")


@pytest.mark.parametrize("name", ["pairs.jsonl.zst", "pairs.zip", "pairs.parquet.gz", "pairs.txt"])
def test_a_file_of_another_kind_is_named(name: str, data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / name).write_text(LINES)
    refuses(replace(data, path=str(tmp_path / name)), "unknown kind of file; legal: .*jsonl")


def write_saved(folder: Path, rows: list[dict[str, str]] = ROWS) -> None:
    from datasets import Dataset

    Dataset.from_list(rows).save_to_disk(folder)


def test_a_saved_dataset_dict(data: DataConfig, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = [{"id": None, **row} for row in ROWS]
    saved = DatasetDict({"train": Dataset.from_list(rows * 30), "test": Dataset.from_list(rows)})
    saved.save_to_disk(tmp_path / "data", num_shards={"train": 3, "test": 1})
    # What datasets leaves there when a loaded set is mapped or filtered.
    (tmp_path / "data" / "test" / "cache-1234.arrow").write_bytes(b"nonsense")
    check_rows(read_test(data))
    train = load_splits(data, {"train": "train"})[0]["train"]
    assert len(train) == 60 and list(train.documents)[:2] == ["one\ntwo", "é"]
    refuses(replace(data, document_columns=["dialogue"]), "there is: id, document, summary")
    with pytest.raises(ConfigError, match="no dev .*there is: .*test, train"):
        load_splits(data, {"test": "dev"})


def test_a_saved_dataset_is_one_split(data: DataConfig, tmp_path: Path) -> None:
    write_saved(tmp_path / "data", [{"id": None, **row} for row in ROWS])
    check_rows(load_splits(data, {"train": "train"})[0]["train"])
    with pytest.raises(ConfigError, match="is one split, the training split: set data.test_split"):
        load_splits(data, {"train": "train", "test": "test"})


@pytest.mark.parametrize("state", ["", "[]", "{}", '{"_data_files": [{"filename": "../x"}]}'])
def test_a_damaged_saved_dataset_is_named(state: str, data: DataConfig, tmp_path: Path) -> None:
    write_saved(tmp_path / "data" / "test")
    (tmp_path / "data" / "test" / "state.json").write_text(state)
    refuses(data, "state.json: ")


def test_damaged_arrow_is_named(data: DataConfig, tmp_path: Path) -> None:
    write_saved(tmp_path / "data" / "test")
    [path] = (tmp_path / "data" / "test").glob("*.arrow")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"nonsense", b"ARROW1\0\0nonsense"):
        path.write_bytes(content)
        refuses(data, "arrow: not readable as Arrow: ")


def test_both_forms_of_arrow(data: DataConfig, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    for write in (pa.ipc.new_file, pa.ipc.new_stream):
        sink = io.BytesIO()
        with write(sink, table.schema) as writer:
            writer.write_table(table)
        (tmp_path / "data" / "test.arrow").write_bytes(sink.getvalue())
        check_rows(read_test(data))


def test_metadata_beside_data_is_not_taken_for_it(data: DataConfig, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "test").mkdir()
    (folder / "test" / "part.csv").write_text("id,document,summary\nx,one,a\n,é,b\n")
    for name in ("metadata.json", "dataset_info.json", "dataset_infos.json", "state.json"):
        (folder / name).write_text("{}")
        if name != "state.json":
            (folder / "test" / name).write_text("{}")
    (folder / "test.json").write_text('{\n"license": "MIT"\n}')
    (folder / "test" / "._part.jsonl").write_bytes(b"\x00\x05\x16\x07")
    (folder / "test" / "dir.csv").mkdir()
    assert [path.name for path in find(folder, "test")] == ["part.csv"]
    check = read_test(data)
    assert list(check.ids) == ["x", "1"]


def test_a_clone_of_a_hub_repository(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "data" / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("---\nlicense: mit\n---\n")
    for part, row in enumerate(ROWS):
        name = f"test-{part:05}-of-00002.parquet"
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "data" / "data" / name)
    check_rows(read_test(data))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nosuchuser/x", "data.path=~nosuchuser/x: the home directory is unknown"),
        ("/dev/null", "data.path=/dev/null: neither a file nor a folder"),
        ("fifo", "data.path=fifo: neither a file nor a folder"),
        ("a\0b", "data.path=a.*b: a path without NUL"),
        ("x" * 300, "data.path=x+: File name too long"),
        ("broken", "data.path=broken: the link leads to nothing"),
        ("loop", "data.path=loop: "),
        ("data/test.jsonl/x", "data.path=data/test.jsonl/x: no such file or folder"),
        ("none/", "data.path=none/: no such file or folder"),
    ],
)
def test_paths_that_are_no_data(path: str, message: str, data: DataConfig, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "data" / "test.jsonl").write_text(LINES)
    refuses(replace(data, path=path), message)


@pytest.mark.parametrize("split", ["/dev/null", "/", ".", "../data/test", "a\0b", "x" * 300])
def test_a_split_that_is_no_name(split: str, data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "data" / "test.jsonl").write_text(LINES)
    with pytest.raises(ConfigError, match="^[^\n]+$"):
        load_splits(data, {"test": split})


@pytest.mark.parametrize("split", ["*", "te?t", "[t]est", "**"])
def test_a_split_is_no_pattern(split: str, data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "data" / "test.jsonl").write_text(LINES)
    with pytest.raises(ConfigError, match="no .* there is: test.jsonl"):
        load_splits(data, {"test": split})
    (tmp_path / "data" / f"{split}.jsonl").write_text(LINES)
    assert len(load_splits(data, {"test": split})[0]["test"]) == 2


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[None]:
    """Drop the rights of root, who may read everything."""
    tmp_path.chmod(0o777)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.parametrize("locked", [".", "train"])
def test_a_folder_that_cannot_be_read(
    locked: str, data: DataConfig, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "data" / "train").mkdir()
    (tmp_path / "data" / "train" / "part.jsonl").write_text(LINES)
    (tmp_path / "data" / locked).chmod(0)
    request.getfixturevalue("nobody")
    config = replace(data, path="data", cache_dir="cache")
    with pytest.raises(ConfigError, match="data.path=data.*: cannot read the folder: Permission"):
        load_splits(config, {"train": "train", "test": "test"})


@pytest.mark.parametrize("folder", [".", "data", "test"])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["0-of-00003", "2-of-00003"], r"test-00001-of-00003\.jsonl is missing, one of 1 of 3"),
        (["0-of-00002", "1-of-00002", "0-of-00001"], "several sets, of 00001 and of 00002"),
    ],
)
def test_parts_that_are_missing_are_named(
    parts: list[str], message: str, folder: str, data: DataConfig, tmp_path: Path
) -> None:
    """An interrupted download is not trained on without a word."""
    (tmp_path / "data" / folder).mkdir(exist_ok=True)
    for part in parts:
        (tmp_path / "data" / folder / f"test-0000{part}.jsonl").write_text(LINES)
    refuses(data, message)


@pytest.mark.parametrize("name", ["test.parquet", "test.arrow", "test.csv", "test.jsonl"])
def test_a_pointer_of_git_lfs_is_named(name: str, data: DataConfig, tmp_path: Path) -> None:
    """What a clone of a hub repository has if Git LFS is not installed."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (tmp_path / "data" / name).write_text(text)
    refuses(data, f"{name}: this is a pointer of Git LFS, whose content git lfs pull gets")
