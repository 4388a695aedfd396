"""Random edits of valid configs, random data files, and what has to hold.

They are read, or refused in one line.
"""

import csv
import io
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

from headcount.config.load import as_dict, load, to_yaml
from headcount.config.sections.data import DataConfig
from headcount.data.documents import read_documents
from headcount.data.sources import load_splits
from headcount.errors import ConfigError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))
WORDS = [
    "???",
    "${",
    "${model}",
    "${model.num_heads}",
    "${nowhere}",
    "${run.name}",
    "${oc.env:HOME}",
    "../x",
    "\0",
    "a\nb",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(WORDS)
    | st.dates()
    | st.binary(max_size=3)
)
OVERRIDES = st.text(max_size=12) | st.from_regex(
    r"[a-z]{1,9}(\.[a-z_]{1,9})?[=.\[\]{}$:!]{1,3}\S{0,4}", fullmatch=True
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(SCALARS, SCALARS, max_size=2)


@st.composite
def edited_configs(draw: st.DrawFn) -> str:
    """Draw a config of the repository, or the whole of a resolved one, with one to three edits of
    values and text."""
    files = draw(st.sampled_from([[], *([file] for file in CONFIGS)]))
    plain = yaml.safe_load(files[0].read_text()) if files else as_dict(load([], []))
    for _ in range(draw(st.integers(0, 3))):
        section = plain
        while inner := [value for value in section.values() if isinstance(value, dict) and value]:
            if draw(st.booleans()):
                break
            section = draw(st.sampled_from(inner))
        name = draw(st.sampled_from([*section]))
        match draw(st.sampled_from(["set", "set", "set", "drop", "rename", "add"])):
            case "set":
                section[name] = draw(VALUES)
            case "drop":
                del section[name]
            case "rename":
                section[f"{name}{draw(st.text(max_size=2))}"] = section.pop(name)
            case "add":
                section[draw(SCALARS)] = draw(VALUES)
        if not section:
            break
    text = yaml.safe_dump(plain, sort_keys=False)
    for _ in range(draw(st.integers(0, 2))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 5)))
        piece = draw(
            st.sampled_from(
                [
                    "",
                    text[begin:end] * 2,
                    ": ",
                    "- ",
                    "\t",
                    "[",
                    "{",
                    "&a ",
                    "*a ",
                    "!!python/tuple ",
                    "\n",
                ]
            )
        )
        text = text[:begin] + piece + text[end:]
    return text


def check_config(text: str, file: Path) -> bool:
    """Check that a config is loaded, and saved means the same, or refused in one line.

    Return whether it is loaded.
    """
    file.write_text(text, encoding="utf-8", newline="")
    try:
        config = load([str(file)], [])
    except ConfigError as error:
        assert str(error).isprintable() and len(str(error)) < 2100 and str(error) != ""
        assert file.name in str(error), f"the file is not named: {error}"
        return False
    file.write_text(to_yaml(config), encoding="utf-8")
    again = as_dict(load([str(file)], []))
    assert json.dumps(again) == json.dumps(as_dict(config))  # where nan is nan
    return True


def check_override(override: str) -> None:
    """Check that an override is taken or refused in one line."""
    try:
        load([], [override])
    except ConfigError as error:
        assert str(error).isprintable() and str(error).startswith("command line: ")


CELLS: list[Any] = [
    *[
        "fine",
        "two words",
        "a\u00e9\U0001f642",
        "",
        " ",
        "\0",
        "\ud800",
        "\u2028",
        "a\r\nb",
        '"',
        "\t,",
        "NULL",
        "x" * 100_000,
    ],
    *[
        None,
        0,
        -1.5,
        True,
        math.nan,
        math.inf,
        10**400,
        [],
        ["a", None, ""],
        [["a"]],
        [1, "b"],
        {},
        {"document": "a"},
    ],
]
LINES = [
    b"",
    b"{",
    b"[1]",
    b"null",
    b"NaN",
    b"{}",
    b'"',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"9" * 5000,
    b"[" * 100_000,
]
LINES += [
    b'{"document": ' + b"9" * 5000 + b"}",
    b'{"document": "a", "document": "b", "summary": "c"}',
    b"a,b\n,,,",
]
TYPES = [
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.int64(),
    pa.float64(),
    pa.bool_(),
    pa.timestamp("s"),
    pa.date64(),
]
TYPES += [
    pa.list_(pa.string()),
    pa.struct([("a", pa.string())]),
    pa.dictionary(pa.int8(), pa.string()),
    pa.null(),
]
REFUSALS = [
    "the file is empty",
    "has no rows",
    "none of them in",
    "no row of",
    "not readable as Parquet",
]


def write_fuzzed(folder: Path, seed: int) -> Path:
    """Write a training split of any kind that may be in any way wrong.

    A third of them is at least whole.
    """
    random = Random(seed)
    kind = random.choice(["jsonl", "json", "csv", "tsv", "parquet"])
    rows = [
        {name: random.choice(CELLS) for name in ("id", "document", "summary")}
        for _ in range(random.randrange(6))
    ]
    rows = [{name: cell for name, cell in row.items() if random.random() < 0.95} for row in rows]
    if random.random() < 0.5:
        rows.insert(0, {"id": "first", "document": "a whole row", "summary": "whole"})
    if kind == "parquet":
        content = _parquet(rows, random)
    elif kind in ("csv", "tsv"):
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter="\t" if kind == "tsv" else ",")
        writer.writerow(["id", "document", "summary"])
        writer.writerows(
            [str(cell)[:200] for cell in row.values() if cell != 10**400] for row in rows
        )
        content = text.getvalue().encode("utf-8", "surrogatepass")
    else:
        lines = [
            json.dumps(row, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
            for row in rows
        ]
        lines += random.sample(LINES, random.choice([0, 0, 1, 2]))
        content = b"\n".join(lines)
    if random.random() < 0.6:
        for _ in range(random.randint(1, 3)):
            content = _damaged(content, random)
    folder.mkdir()
    file = folder / f"train.{kind}"
    file.write_bytes(content)
    return file


def _parquet(rows: list[dict[str, Any]], random: Random) -> bytes:
    columns = {}
    for name in random.sample(["id", "document", "summary"], random.choice([2, 3, 3, 3])):
        kind = random.choice([pa.string(), random.choice(TYPES)])
        cells = []
        for row in rows:
            try:
                cells.append(pa.scalar(row.get(name), kind).as_py())
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                cells.append(None)
        columns[name] = pa.array(cells, kind)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _damaged(content: bytes, random: Random) -> bytes:
    begin = random.randrange(len(content) + 1)
    end = min(len(content), begin + random.choice([0, 1, 1, 50]))
    return (
        content[:begin]
        + random.choice([b"", random.randbytes(1), random.randbytes(20), b"\n", b'"', b"\0"])
        + content[end:]
    )


def check_data(file: Path, cache_dir: Path) -> bool:
    """Check that each row is taken or counted, or the file refused with its row.

    Return whether the file is taken.
    """
    try:
        splits, origin = load_splits(
            DataConfig(path=str(file.parent), cache_dir=str(cache_dir)), {"train": "train"}
        )
    except ConfigError as error:
        named = f"{file.name}:" in str(error)
        assert str(error).isprintable() and (
            named or any(known in str(error) for known in REFUSALS)
        ), error
        taken = False
    else:
        pairs, told = splits["train"], origin["train"]
        assert len(pairs) + told["dropped"] == told["rows"] and len(pairs) == told["pairs"]
        for document, references in zip(pairs.documents, pairs.references, strict=True):
            assert document.strip() and references and all(map(str.strip, references))
            "".join([document, *references]).encode()
        taken = True
    try:
        for identifier, text in read_documents(str(file), ["document"]):
            f"{identifier}: {text}".encode()
    except ConfigError as error:
        assert str(error).isprintable() and f"{file.name}:" in str(error), error
    return taken
