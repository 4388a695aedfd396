import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headcount.config.load import load
from headcount.config.sections.data import DataConfig
from headcount.data import hub
from headcount.data import sources as source
from headcount.data.documents import read_documents
from headcount.data.sources import carving_difference, carving_of, load_splits
from headcount.errors import ConfigError
from tests.conftest import write_data
from tests.fuzzing import check_data, write_fuzzed


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return load(
        [], [f"data.path={tmp_path / 'data'}", f"data.cache_dir={tmp_path / 'cache'}"]
    ).data


THREE = {"train": "train", "validation": "validation", "test": "test"}


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
    tab = " " if suffix == "tsv" else "\t"  # which has no quoting
    rows = [
        {"id": "x", "document": f"one{tab}two, three", "summary": "four"},
        {"id": "y", "document": "é", "summary": "5"},
    ]
    if suffix == "parquet":
        (tmp_path / "data").mkdir()
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "test.parquet")
    elif suffix == "jsonl":
        write(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    else:
        sep, quote = ("\t", "") if suffix == "tsv" else (",", '"')
        body = [sep.join(f"{quote}{cell}{quote}" for cell in row.values()) for row in rows]
        write(tmp_path, f"test.{suffix}", "\n".join([sep.join(rows[0]), *body]))
    pairs = load_splits(data, {"test": "test"})[0]["test"]
    assert list(pairs.ids) == ["x", "y"]
    assert list(pairs.documents) == [f"one{tab}two, three", "é"] and list(pairs.references) == [
        ["four"],
        ["5"],
    ]


def test_empty_and_null_rows_are_dropped_and_counted(
    data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"document": "a", "summary": "b"},
        {"document": None, "summary": "b"},
        {"document": "a", "summary": " "},
    ]
    write(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    splits, origin = load_splits(data, {"test": "test"})
    assert list(splits["test"].ids) == ["0"] and origin["test"]["dropped"] == 2
    assert origin["test"]["dropped_rows"] == {
        "test.jsonl:2": "no document",
        "test.jsonl:3": "no summary",
    }
    assert "dropped 2 of 3 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("other.jsonl", "{}", "no test .* there is: other.jsonl"),
        (
            "test.jsonl",
            '{"text": "a", "summary": "b"}',
            "data.document_columns=.* there is: text, summary",
        ),
        (
            "test.jsonl",
            '{"document": "a", "abstract": "b"}',
            "data.summary_columns=.* there is: document, abstract",
        ),
        ("test.jsonl", '{"document": "", "summary": ""}', "no row of test has both"),
        (
            "test.jsonl",
            '{"document": "a", "summary": "b"}\n\n{"document": "a"',
            "test.jsonl:3: not JSON: ",
        ),
        (
            "test.jsonl",
            '{"document": "a", "summary": "b"}\n[1]',
            "test.jsonl:2: not a JSON object but list",
        ),
        ("test.jsonl", '{"document": {"en": "a"}, "summary": "b"}', "column document holds dict"),
        ("test.jsonl", "", "test.jsonl: the file is empty"),
        ("test.csv", "document,summary", "test has no rows"),
        (
            "test.csv",
            'document,summary\n"a\nb",c\nd,e,f',
            "test.csv:4: more cells than the 2 of the header",
        ),
        ("test.csv", 'document,summary\na,b\n"c" d,e', "test.csv:3: not CSV: "),
        ("test.parquet", "not parquet", "test.parquet: not readable as Parquet: "),
    ],
)
def test_bad_data_is_one_line(
    name: str, text: str, message: str, data: DataConfig, tmp_path: Path
) -> None:
    write(tmp_path, name, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_splits(data, {"test": "test"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        '{"document": "a", "summary": "b", "id": []}',
        '{"document": ' + "9" * 5000 + "}",
        "[" * 10**5,
    ],
)
def test_a_row_that_is_broken_in_a_rare_way_is_named(
    row: str, data: DataConfig, tmp_path: Path
) -> None:
    write(tmp_path, "test.jsonl", f'{{"document": "a", "summary": "b"}}\n{row}')
    with pytest.raises(ConfigError, match=r"test.jsonl:2: [^\n]*$"):
        load_splits(data, {"test": "test"})
    with pytest.raises(ConfigError, match=r"test.jsonl:2: [^\n]*$"):
        list(read_documents(str(tmp_path / "data" / "test.jsonl"), []))


def test_a_date_that_python_has_not_is_refused(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    cells = {"document": pa.array([10**15], pa.timestamp("s")), "summary": ["a"]}
    pq.write_table(pa.table(cells), tmp_path / "data" / "test.parquet")
    with pytest.raises(ConfigError, match="test.parquet: not readable as Parquet"):
        load_splits(data, {"test": "test"})


def test_an_example_without_an_id_has_its_number(data: DataConfig, tmp_path: Path) -> None:
    ids = [{}, {"id": None}, {"id": ""}, {"id": "x"}]
    write_rows(tmp_path, "test.jsonl", [{"document": "a", "summary": "b", **each} for each in ids])
    assert list(load_splits(data, {"test": "test"})[0]["test"].ids) == ["0", "1", "2", "x"]


def test_random_data_is_taken_row_by_row_or_refused(tmp_path: Path) -> None:
    """A little of what ``make faults`` tries."""
    taken = [
        check_data(write_fuzzed(tmp_path / str(seed), seed), tmp_path / "cache")
        for seed in range(40)
    ]
    assert 5 < sum(taken) < 35


@pytest.mark.parametrize("path", ["./none", "/no/such/folder", "none/of/these", "some/hub-id"])
def test_what_is_not_there(path: str, data: DataConfig) -> None:
    with pytest.raises(ConfigError, match="data.path=" + path):
        load_splits(replace(data, path=path), {"test": "test"})


def write_rows(tmp_path: Path, name: str, rows: list[dict[str, object]]) -> None:
    write(tmp_path, name, "".join(json.dumps(row) + "\n" for row in rows))


def test_nested_columns(data: DataConfig, tmp_path: Path) -> None:
    """A translation set is a sequence-to-sequence set like any other.

    A dot may also be part of a name.
    """
    rows = [{"translation": {"de": "Hallo", "en": "Hello"}, "v1.0": "x"}]
    write_rows(tmp_path, "test.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "train.parquet")
    config = replace(data, document_columns=["translation.de"], summary_columns=["translation.en"])
    for pairs in load_splits(config, {"train": "train", "test": "test"})[0].values():
        assert list(pairs.documents) == ["Hallo"] and list(pairs.references) == [["Hello"]]
    dotted = load_splits(replace(config, summary_columns=["v1.0"]), {"test": "test"})[0]
    assert list(dotted["test"].references) == [["x"]]
    with pytest.raises(ConfigError, match="there is: translation.de, translation.en, v1.0"):
        load_splits(replace(config, document_columns=["translation.fr"]), {"test": "test"})


def test_several_reference_columns(data: DataConfig, tmp_path: Path) -> None:
    write_rows(tmp_path, "train.jsonl", [{"document": "a", "summary": "b"}])
    write_rows(tmp_path, "test.jsonl", [{"document": "a", "s1": "b", "s2": "", "s3": ["c", "d"]}])
    config = replace(data, summary_columns=["summary", "s1"], reference_columns=["s2", "s3"])
    splits, _ = load_splits(config, {"train": "train", "test": "test"})
    assert list(splits["train"].references) == [["b"]] and list(splits["test"].references) == [
        ["b", "c", "d"]
    ]
    with pytest.raises(ConfigError, match=r"data.reference_columns=\['s4'\]: in no split"):
        load_splits(
            replace(config, reference_columns=["s2", "s4"]), {"train": "train", "test": "test"}
        )


@pytest.mark.parametrize(
    "names", [["test-0.jsonl", "test-1.jsonl"], ["test/a.jsonl", "test/b.jsonl"]]
)
def test_a_split_of_several_files(names: list[str], data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "data" / "test").mkdir(parents=True)
    for name in names:
        write_rows(tmp_path, name, [{"id": name, "document": name, "summary": "b"}])
    assert list(load_splits(data, {"test": "test"})[0]["test"].ids) == names


def test_carving(data: DataConfig, tmp_path: Path) -> None:
    """Null splits come out of the training split.

    Disjoint, all of it, the same each time, others by another seed.
    """
    write_rows(tmp_path, "train.jsonl", [{"document": f"d{n}", "summary": "s"} for n in range(50)])
    config = replace(data, validation_split=None, test_split=None, carved_examples=5)
    roles = {"train": "train", "validation": None, "test": None}
    splits, _ = load_splits(config, roles)
    documents = {role: list(pairs.documents) for role, pairs in splits.items()}
    assert [len(documents[role]) for role in roles] == [40, 5, 5]
    assert sorted(sum(documents.values(), [])) == sorted(f"d{n}" for n in range(50))
    assert list(load_splits(config, {"test": None})[0]["test"].documents) == documents["test"]
    other = load_splits(replace(config, carving_seed=1), roles)[0]
    assert list(other["test"].documents) != documents["test"]
    one_file = replace(config, path=str(tmp_path / "data" / "train.jsonl"))
    assert list(load_splits(one_file, roles)[0]["train"].documents) == documents["train"]
    with pytest.raises(
        ConfigError, match="is one file, the training split: set data.test_split to null"
    ):
        load_splits(replace(one_file, test_split="test"), {**roles, "test": "test"})
    with pytest.raises(ConfigError, match="data.carved_examples=25: .* legal: at most 24"):
        load_splits(replace(config, carved_examples=25), roles)


def test_carved_splits_of_a_finished_run_have_names(data: DataConfig, tmp_path: Path) -> None:
    """An evaluation changes ``data.test_split``, and what was carved is as in the training."""
    write_rows(tmp_path, "train.jsonl", [{"document": f"d{n}", "summary": "s"} for n in range(50)])
    folder = replace(data, validation_split=None, test_split=None, carved_examples=5)
    file = replace(folder, path=str(tmp_path / "data" / "train.jsonl"))
    roles = {"train": "train", "validation": None, "test": None}
    for trained in (folder, file):
        ids = {role: list(pairs.ids) for role, pairs in load_splits(trained, roles)[0].items()}
        for name, expected in ids.items():
            changed = replace(trained, test_split=name)
            splits, origin = load_splits(changed, {"test": name}, trained=trained)
            assert list(splits["test"].ids) == expected, name
            carved = name if name == "train" else f"{name}, 5 of train"
            assert origin["test"]["split"] == carved
        # The split for which nothing was changed is what it was, too.
        changed = replace(trained, test_split="train")
        splits, _ = load_splits(changed, {"validation": None}, trained=trained)
        assert list(splits["validation"].ids) == ids["validation"]

    # Other data, and a split that has files of its own.
    other = replace(folder, path=str(tmp_path / "data" / "train.jsonl"), test_split="train")
    assert len(load_splits(other, {"test": "train"}, trained=folder)[0]["test"]) == 50
    write_rows(tmp_path, "validation.jsonl", [{"document": "new", "summary": "s"}])
    changed = replace(folder, test_split="validation")
    splits, _ = load_splits(changed, {"test": "validation"}, trained=folder)
    assert list(splits["test"].documents) == ["new"]


CARVED = {"validation_split": None, "test_split": None}


@pytest.mark.parametrize(
    ("here", "there", "found"),
    [
        ({**CARVED, "carving_seed": 1}, CARVED, ("data.carving_seed", "1", "0")),
        ({**CARVED, "carved_examples": 5}, CARVED, ("data.carved_examples", "5", "1000")),
        (CARVED, {**CARVED, "group_by": "document"}, ("data.group_by", "null", "document")),
        (CARVED, {"test_split": None}, ("data.validation_split", "null", "validation")),
        ({"test_split": None}, CARVED, ("data.validation_split", "validation", "null")),
        ({"test_split": None, "carved_examples": 5}, {}, ("data.test_split", "null", "test")),
        # The same examples, nothing that is carved, and other data.
        (CARVED, {**CARVED, "batch_tokens": 5000}, None),
        ({"test_split": None}, {"test_split": None, "validation_split": "dev"}, None),
        ({"carving_seed": 1}, CARVED, None),
        ({**CARVED, "carving_seed": 1}, {**CARVED, "path": "elsewhere"}, None),
        ({**CARVED, "carving_seed": 1}, {**CARVED, "train_split": "other"}, None),
        ({**CARVED, "carving_seed": 1}, {**CARVED, "revision": "v2"}, None),
    ],
)
def test_another_carving_of_the_same_split_is_found(
    data: DataConfig,
    here: dict[str, Any],
    there: dict[str, Any],
    found: tuple[str, str, str] | None,
) -> None:
    difference = carving_difference(replace(data, **here), replace(data, **there))
    if found is None:
        assert difference is None
    else:
        assert difference is not None
        assert (difference.key, difference.here, difference.there) == found


def test_a_source_is_the_same_by_any_path_to_it(data: DataConfig, tmp_path: Path) -> None:
    """Relative or absolute, through a link or ``..``, or with a slash at its end."""
    write_rows(tmp_path, "train.jsonl", [{"document": f"d{n}", "summary": "s"} for n in range(50)])
    (tmp_path / "link").symlink_to(tmp_path / "data")
    trained = replace(data, **CARVED, carved_examples=5)
    expected = list(load_splits(trained, {"test": None})[0]["test"].documents)

    for path in ("data", f"{data.path}/", "./data", "link", "link/../data"):
        same = replace(trained, path=path)
        difference = carving_difference(replace(same, carving_seed=1), trained)
        assert difference is not None and difference.key == "data.carving_seed", path
        named = replace(same, test_split="test")
        splits, _ = load_splits(named, {"test": "test"}, trained=trained)
        assert list(splits["test"].documents) == expected

    # Other data: docstrings of installed packages, in no folder of this name, and another user's.
    write_data(tmp_path / "docstrings")
    for path in ("docstrings", "~no-such-user/data"):
        elsewhere = replace(trained, path=path)
        here = replace(trained, path="./docstrings", carving_seed=1)
        assert carving_difference(here, elsewhere) is None


def test_a_run_is_not_evaluated_on_carved_examples_that_it_has_trained_on(
    data: DataConfig, tmp_path: Path
) -> None:
    write_rows(tmp_path, "train.jsonl", [{"document": f"d{n}", "summary": "s"} for n in range(50)])
    trained = replace(data, **CARVED, carved_examples=5)
    with pytest.raises(
        ConfigError,
        match=r"^data.carving_seed=1: the run was trained with data.carving_seed=0, [^\n]*test split; legal: 0$",
    ):
        load_splits(replace(trained, carving_seed=1), {"test": None}, trained=trained)
    named = replace(trained, test_split="test")
    with pytest.raises(ConfigError, match=r"^data.test_split=null: .*; legal: test$"):
        load_splits(trained, {"test": None}, trained=named)

    # By which config the test split is carved, whatever it is called.
    assert carving_of(replace(trained, test_split="validation"), "test", trained) is trained
    assert carving_of(trained, "test", trained) is trained
    assert carving_of(replace(trained, test_split="train"), "test", trained) is None
    assert carving_of(named, "test", named) is None


def test_what_is_not_utf8_is_mended_and_named(data: DataConfig, tmp_path: Path) -> None:
    write(
        tmp_path,
        "test.jsonl",
        '{"document": "a \\ud800 b", "summary": "c"}\n{"document": "a", "summary": "nul \\u0000"}\n',
    )
    (tmp_path / "data" / "train.csv").write_bytes(b"document,summary\nfine,fine\nna\xefve,b\n")
    raw = pa.array([b"fine", b"na\xefve"]), pa.array(["b", "c"])
    broken = pa.Table.from_arrays([raw[0].view(pa.string()), raw[1]], ["document", "summary"])
    pq.write_table(broken, tmp_path / "data" / "validation.parquet")
    splits, origin = load_splits(
        data, {"train": "train", "validation": "validation", "test": "test"}
    )
    assert [pairs.documents[-1] for pairs in splits.values()] == ["na\ufffdve", "na\ufffdve", "a"]
    assert splits["test"].documents[0] == "a \ufffd b"
    assert [origin[role]["mended_rows"] for role in splits] == [
        ["train.csv:3"],
        ["validation.parquet:2"],
        ["test.jsonl:1"],
    ]
    assert [origin[role]["nul_rows"] for role in splits] == [[], [], ["test.jsonl:2"]]


def test_prepared_once_by_content(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path, "test.jsonl", [{"document": "a", "summary": "b", "title": "c"}])
    first, origin = load_splits(data, {"test": "test"})
    (tmp_path / "data" / "test.jsonl").rename(tmp_path / "data" / "dev.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(source, "write_pairs", lambda *_, **__: pytest.fail("prepared again"))
        again = load_splits(
            replace(data, batch_tokens=8192, max_document_tokens=64), {"test": "dev"}
        )
        assert (
            list(again[0]["test"].documents) == ["a"]
            and again[1]["test"]["sha256"] == origin["test"]["sha256"]
        )
        with pytest.raises(pytest.fail.Exception):
            load_splits(replace(data, summary_columns=["title"]), {"test": "dev"})
        write_rows(tmp_path, "dev.jsonl", [{"document": "a", "summary": "B"}])
        with pytest.raises(pytest.fail.Exception):
            load_splits(data, {"test": "dev"})


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_data_set(
    streaming: bool, data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset  # not before the test's environment says that there is no hub

    asked = {}

    def load_dataset(
        path: str, name: str, *, revision: str, split: str, cache_dir: str, streaming: bool
    ) -> Any:
        asked.update(path=path, name=name, revision=revision, split=split, streaming=streaming)
        rows = Dataset.from_dict(
            {"text": [["one", "two"], None], "summary": ["b", "c"], "picture": [b"", b""]}
        )
        return rows.to_iterable_dataset() if streaming else rows

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_ask_for_commit", lambda config: ("the commit", ""))
    config = replace(
        data,
        path="some/set",
        name="small",
        revision="abc",
        document_columns=["text"],
        streaming=streaming,
    )
    splits, origin = load_splits(config, {"test": "ca_test"})
    assert asked == {
        "path": "some/set",
        "name": "small",
        "revision": "abc",
        "split": "ca_test",
        "streaming": streaming,
    }
    assert list(splits["test"].documents) == ["one\ntwo"]
    assert origin["test"]["dropped_rows"] == {"ca_test:2": "no document"}
    parts = [
        [place for place, _ in source.open_source(config, "ca_test").rows([], part, 2)]
        for part in (0, 1)
    ]
    assert [len(part) for part in parts] == [1, 1]


def test_a_script_on_the_hub_is_named_with_the_way_out(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found set.py")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(
        ConfigError, match=r"scripts are no longer .* try data.revision=refs/convert/parquet$"
    ):
        load_splits(replace(data, path="some/set"), {"test": "test"})


def test_ids_that_are_not_unique_are_numbered(
    data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = ["a", "b", "a", "a#2", "a", "c\r\nd", "c  d", 7, "7"]
    rows = [
        {"id": name, "document": f"document {n}", "summary": "s"} for n, name in enumerate(ids)
    ]
    write(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    splits, origin = load_splits(data, {"test": "test"})
    found = list(splits["test"].ids)
    assert found == ["a", "b", "a#3", "a#2", "a#4", "c  d", "c  d#2", "7", "7#2"]
    assert list(splits["test"].documents) == [f"document {n}" for n in range(len(ids))]
    assert origin["test"]["repeated_ids"] == 4
    assert (
        "test: 4 of 9 ids were taken before; they are numbered, as in ID#2"
        in capsys.readouterr().out
    )


def test_unique_ids_are_left_alone(
    data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "data")
    splits, origin = load_splits(data, {"test": "test"})
    assert list(splits["test"].ids) == [f"test-{n}" for n in range(12)]
    assert origin["test"]["repeated_ids"] == 0 and capsys.readouterr().out == ""


def test_missing_values_are_no_text(data: DataConfig, tmp_path: Path) -> None:
    """NaN and infinities stand for missing values, also within lists."""
    rows = ['{"document": "a", "summary": NaN}', '{"document": Infinity, "summary": "b"}']
    rows += [
        '{"document": "c", "summary": ["d", NaN, -Infinity]}',
        '{"document": "nan", "summary": "e"}',
    ]
    write(tmp_path, "test.jsonl", "\n".join(rows))
    splits, origin = load_splits(data, {"test": "test"})
    assert list(splits["test"].documents) == ["c", "nan"]
    assert list(splits["test"].references) == [["d"], ["e"]] and origin["test"]["dropped"] == 2


def test_missing_values_of_parquet_are_no_text(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table({"document": ["a", "b"], "summary": [float("nan"), 1.5]})
    pq.write_table(table, tmp_path / "data" / "test.parquet")
    splits, _ = load_splits(data, {"test": "test"})
    assert list(splits["test"].documents) == ["b"] and list(splits["test"].references) == [["1.5"]]


def test_tsv_has_no_quoting(data: DataConfig, tmp_path: Path) -> None:
    """A field that begins with a quotation mark swallows no further lines."""
    write(
        tmp_path,
        "test.tsv",
        'document\tsummary\n"Yes," she said.\tone\nNo.\t"two\nMaybe "so"\tthree\n',
    )
    splits, origin = load_splits(data, {"test": "test"})
    assert list(splits["test"].documents) == ['"Yes," she said.', "No.", 'Maybe "so"']
    assert list(splits["test"].references) == [["one"], ['"two'], ["three"]]


def test_tsv_of_pandas(data: DataConfig, tmp_path: Path) -> None:
    """pandas puts cells with quotation marks or line breaks into quotation marks, also in TSV."""
    write(tmp_path, "test.tsv", 'document\tsummary\n"He said ""no""."\ta\n"""No"""\t"b"\n')
    splits, _ = load_splits(data, {"test": "test"})
    assert list(splits["test"].documents) == ['He said "no".', '"No"']
    assert list(splits["test"].references) == [["a"], ['"b"']]
    write(tmp_path, "test.tsv", 'document\tsummary\nfine\ta\n"One.\nTwo."\tb\n')
    with pytest.raises(ConfigError, match=r"test\.tsv:3: .*TSV has no quoting; legal: .*CSV"):
        load_splits(data, {"test": "test"})


def test_headers_of_spreadsheets(data: DataConfig, tmp_path: Path) -> None:
    """Blank lines before the header, blanks in it, and columns and rows that are empty."""
    write(tmp_path, "test.csv", "\n\nid, document, summary,,\nx,a,b,,\n,,,,\n")
    splits, origin = load_splits(data, {"test": "test"})
    assert list(splits["test"].documents) == ["a"]
    assert list(origin["test"]["dropped_rows"]) == ["test.csv:5"]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("cell", ["nan", "NaN", "None", "NULL", "null", "N/A", "<NA>", r"\N"])
def test_missing_cells_are_no_text(
    cell: str, suffix: str, data: DataConfig, tmp_path: Path
) -> None:
    """CSV has no other way to write a missing value: pandas reads these as one."""
    text = f"document,summary\na,{cell}\n{cell},b\nNone of them,null and void\n"
    write(tmp_path, f"test.{suffix}", text.replace(",", "\t" if suffix == "tsv" else ","))
    splits, origin = load_splits(data, {"test": "test"})
    assert list(splits["test"].documents) == ["None of them"]
    assert origin["test"]["dropped"] == 2


@pytest.mark.parametrize("text", ["\u200b", "\ufeff \u00ad", "\u2060\n\u200e", "\0"])
def test_text_that_nobody_sees_is_dropped(text: str, data: DataConfig, tmp_path: Path) -> None:
    """Web pages have fields that hold only a blank of no width."""
    rows = [{"document": text, "summary": "b"}, {"document": "a", "summary": [text, "c"]}]
    write(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    splits, origin = load_splits(data, {"test": "test"})
    assert list(splits["test"].documents) == ["a"] and origin["test"]["dropped"] == 1
    assert list(splits["test"].references) == [["c"]]


@pytest.mark.parametrize("identifier", [{"$oid": "5f"}, ["a"]])
def test_an_id_that_is_no_text_is_named(
    identifier: object, data: DataConfig, tmp_path: Path
) -> None:
    write(tmp_path, "test.jsonl", json.dumps({"id": identifier, "document": "a", "summary": "b"}))
    with pytest.raises(ConfigError, match=r"test\.jsonl:1: column id .*legal: text, or a number$"):
        load_splits(data, {"test": "test"})


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_column_name_that_occurs_twice_is_rejected(
    suffix: str, data: DataConfig, tmp_path: Path
) -> None:
    text = "document,summary,summary\na,b,c\n".replace(",", "\t" if suffix == "tsv" else ",")
    write(tmp_path, f"test.{suffix}", text)
    with pytest.raises(
        ConfigError, match=rf"test.{suffix}:1: the header has summary more than once"
    ):
        load_splits(data, {"test": "test"})


def test_columns_are_those_of_all_rows(data: DataConfig, tmp_path: Path) -> None:
    """The first row may lack a key that others have."""
    rows = [{"document": "a", "summary": "b"}, {"document": "c", "summary": "d", "second": "e"}]
    write(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    splits, _ = load_splits(replace(data, reference_columns=["second"]), {"test": "test"})
    assert list(splits["test"].references) == [["b"], ["d", "e"]]
    rows = [{"id": 1}, {"text": "a", "summary": "b"}]
    write(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    splits, origin = load_splits(replace(data, document_columns=["text"]), {"test": "test"})
    assert list(splits["test"].documents) == ["a"] and origin["test"]["dropped"] == 1
    with pytest.raises(ConfigError, match="data.reference_columns=.*third.*: in no split"):
        load_splits(
            replace(data, document_columns=["text"], reference_columns=["third"]), {"test": "test"}
        )


def hub_dialogsum(tmp_path: Path) -> None:
    """Write splits with the columns of DialogSum on the hub: a row for each reference in test."""
    (tmp_path / "data").mkdir()
    for split, references in (("train", 1), ("validation", 1), ("test", 3)):
        rows = [
            {
                "id": f"{split}_{number}_{reference}" if references > 1 else f"{split}_{number}",
                "dialogue": f"#Person1#: {split} {number}?\n#Person2#: Yes.",
                "summary": f"summary {reference} of {number}",
                "topic": "talk",
            }
            for number in range(4)
            for reference in range(references)
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"{split}.parquet")


@pytest.mark.parametrize("group_by", ["document", "dialogue"])
def test_rows_of_one_document_become_one_example(
    group_by: str, data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub_dialogsum(tmp_path)
    config = replace(data, document_columns=["dialogue"], group_by=group_by)
    splits, origin = load_splits(config, THREE)
    assert [len(pairs) for pairs in splits.values()] == [4, 4, 4]
    assert list(splits["test"].ids) == [f"test_{number}_0" for number in range(4)]
    assert list(splits["test"].references) == [
        [f"summary {reference} of {number}" for reference in range(3)] for number in range(4)
    ]
    assert origin["test"]["rows"] == 12 and origin["test"]["pairs"] == 4
    out = capsys.readouterr().out
    assert "test: 12 rows are 4 examples" in out and f"data.group_by={group_by}" in out
    assert "train" not in out

    # Another cache entry than that of the rows as they are.
    assert len(load_splits(replace(config, group_by=None), THREE)[0]["test"]) == 12


def test_rows_are_grouped_wherever_they_are(data: DataConfig, tmp_path: Path) -> None:
    rows = [
        {"key": "x", "document": "a", "summary": ["1", "2"]},
        {"key": "y", "document": "b", "summary": "3"},
        {"key": None, "document": "c", "summary": "4"},
        {"key": "x", "document": " a", "summary": "5", "more": "6"},
        {"key": None, "document": "d", "summary": "7"},
        {"key": "x", "document": "a", "summary": ""},
    ]
    write_rows(tmp_path, "test.jsonl", rows)
    config = replace(data, group_by="key", reference_columns=["more"])
    pairs = load_splits(config, {"test": "test"})[0]["test"]
    assert list(pairs.documents) == ["a", "b", "c", "d"]
    assert list(pairs.references) == [["1", "2", "5", "6"], ["3"], ["4"], ["7"]]
    assert list(pairs.ids) == ["0", "1", "2", "4"]


def test_ids_are_unique_after_grouping(data: DataConfig, tmp_path: Path) -> None:
    rows = [
        {"id": name, "document": document, "summary": "s"}
        for name, document in (("x", "a"), ("x", "a"), ("x", "b"), ("y", "c"))
    ]
    write_rows(tmp_path, "test.jsonl", rows)
    splits, origin = load_splits(replace(data, group_by="document"), {"test": "test"})
    assert list(splits["test"].ids) == ["x", "x#2", "y"]
    assert origin["test"]["repeated_ids"] == 1
    with pytest.raises(
        ConfigError, match="test.jsonl:3: data.group_by=id: its document is not that of .*:1"
    ):
        load_splits(replace(data, group_by="id"), {"test": "test"})


def test_training_reads_each_row(data: DataConfig, tmp_path: Path) -> None:
    """Rows of one document are as many summaries to learn from, unless a split is carved out."""
    rows = [{"document": f"d{n // 2}", "summary": f"s{n}"} for n in range(20)]
    write_rows(tmp_path, "train.jsonl", rows)
    config = replace(data, group_by="document", validation_split=None, carved_examples=3)
    assert len(load_splits(config, {"train": "train"})[0]["train"]) == 7
    whole = replace(config, validation_split="validation", test_split="test")
    assert len(load_splits(whole, {"train": "train"})[0]["train"]) == 20
    splits, _ = load_splits(config, {"train": "train", "validation": None})
    carved = set(splits["validation"].documents)
    assert len(carved) == 3 and carved.isdisjoint(splits["train"].documents)
    assert all(len(references) == 2 for references in splits["validation"].references)


def test_a_column_to_group_by_that_does_not_exist(data: DataConfig, tmp_path: Path) -> None:
    write_rows(tmp_path, "test.jsonl", [{"document": "a", "summary": "b"}])
    with pytest.raises(ConfigError, match="data.group_by=key: not in test of .*document, summary"):
        load_splits(replace(data, group_by="key"), {"test": "test"})


def test_data_sets_from_python(data: DataConfig) -> None:
    from datasets import Dataset

    rows = [{"document": f"d{n}", "summary": "s"} for n in range(5)]
    datasets = {split: Dataset.from_list(rows) for split in ("train", "validation", "test")}
    splits, origin = load_splits(data, THREE, datasets)
    assert list(splits["test"].documents) == ["d0", "d1", "d2", "d3", "d4"]
    assert origin["path"] == "Python"
    changed = {**datasets, "test": datasets["test"].select([3])}
    assert list(load_splits(data, THREE, changed)[0]["test"].documents) == ["d3"]
    carved = replace(data, validation_split=None, test_split=None, carved_examples=1)
    splits, _ = load_splits(
        carved, {"train": "train", "validation": None, "test": None}, {"train": datasets["train"]}
    )
    assert [len(pairs) for pairs in splits.values()] == [3, 1, 1]
    with pytest.raises(
        ConfigError, match="data.test_split=dev: .* legal: test, train, validation"
    ):
        load_splits(replace(data, test_split="dev"), {"test": "dev"}, datasets)
    with pytest.raises(ConfigError, match="there is: document, summary"):
        load_splits(replace(data, document_columns=["text"]), {"test": "test"}, datasets)


def test_splits_with_the_same_rows_are_named(
    data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their content: the test split may be a copy of the training split."""
    write_data(tmp_path / "data")
    content = (tmp_path / "data" / "train.jsonl").read_bytes()
    (tmp_path / "data" / "copy.jsonl").write_bytes(content)
    message = (
        "data.test_split has the same rows as data.train_split: its scores are not those of new "
        "documents\n"
    )
    for split, expected in (("train", message), ("copy", message), ("test", "")):
        load_splits(data, {"train": "train", "validation": "validation", "test": split})
        assert capsys.readouterr().out == expected
