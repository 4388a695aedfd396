from pathlib import Path

import pyarrow.parquet as pq
import pytest

from headcount.data import docstrings

WORDS = " ".join(f"word{n}" for n in range(20))
GOOD = f'"""Count the heads of a model.\n\n    {WORDS}\n    """'


def pairs(tmp_path: Path, source: str) -> list[tuple[str, str, str]]:
    (tmp_path / "source.py").write_text(source)
    return docstrings.pairs(tmp_path / "source.py")


def test_summary_line_and_description_part(tmp_path: Path) -> None:
    source = (
        f"class A:\n    {GOOD}\n    if True:\n        async def f(self):\n            "
        + GOOD.replace("Count", "Find")
    )
    found = pairs(tmp_path, source)
    assert [(where, summary) for where, _, summary in found] == [
        ("1:A", "Count the heads of a model."),
        ("7:f", "Find the heads of a model."),
    ]
    assert all(document == WORDS for _, document, _ in found)


@pytest.mark.parametrize(
    "docstring",
    [
        f'"""Too short.\n\n    {WORDS}"""',
        f'"""{WORDS} {WORDS}\n\n    {WORDS}"""',
        f'"""No blank line\n    {WORDS}"""',
        '"""Count the heads of a model.\n\n    Few words."""',
        f'"""Count the heads of a model.\n\n    {WORDS} count the   heads\n    of a model, {WORDS}"""',
    ],
    ids=[
        "short summary",
        "long summary",
        "no blank line",
        "short document",
        "summary stands in the document",
    ],
)
def test_what_is_no_pair(docstring: str, tmp_path: Path) -> None:
    assert pairs(tmp_path, f"def f():\n    {docstring}") == []


@pytest.mark.parametrize("source", ["print 'python 2'", "\0", "x = " + "(" * 500])
def test_a_file_that_is_not_python_3_has_none(source: str, tmp_path: Path) -> None:
    assert pairs(tmp_path, source) == []


def test_nothing_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    assert len(pairs(tmp_path, f"open({str(canary)!r}, 'w')\ndef f():\n    {GOOD}")) == 1
    assert not canary.exists()


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    ((_, document, _),) = pairs(
        tmp_path, f"def f():\n    {GOOD.replace('word3', chr(92) + 'ud800')}"
    )
    assert document.encode() and "?" in document


def make_package(root: Path, files: int) -> Path:
    root.mkdir()
    for n in range(files):
        text = "".join(
            f"def f{k}():\n    " + GOOD.replace("word1 ", f"word{n}-{k} ") + "\n" for k in range(3)
        )
        (root / f"m{n}.py").write_text(text)
    (root / "twin.py").write_text((root / "m0.py").read_text())
    (root / "tests").mkdir()
    (root / "tests" / "t.py").write_text(f"def f():\n    {GOOD}")
    return root


def test_splits_by_file_without_duplicates(tmp_path: Path) -> None:
    splits = docstrings.extract({"package": make_package(tmp_path / "package", 60)})
    files = {split: {row["id"].split(":")[0] for row in rows} for split, rows in splits.items()}
    assert all(files.values())
    assert not (
        files["train"] & files["validation"]
        or files["train"] & files["test"]
        or files["validation"] & files["test"]
    )
    documents = [row["document"] for rows in splits.values() for row in rows]
    assert len(documents) == len(set(documents)) == 180
    assert not any("/tests/" in name for names in files.values() for name in names)


def test_built_once_with_its_make_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = make_package(tmp_path / "library", 60)
    monkeypatch.setattr(docstrings, "PACKAGES", ("omegaconf", "not_installed"))
    monkeypatch.setattr("sysconfig.get_paths", lambda *_: {"stdlib": str(library)})
    folder, info = docstrings.build(str(tmp_path / "cache"))
    assert set(info["packages"]) == {"python", "omegaconf"} and len(info["sha256"]) == 64
    assert {s: pq.read_table(folder / f"{s}.parquet").num_rows for s in info["pairs"]} == info[
        "pairs"
    ]
    monkeypatch.setattr(docstrings, "extract", lambda roots: pytest.fail("the cache was not used"))
    assert docstrings.build(str(tmp_path / "cache")) == (folder, info)
    monkeypatch.setattr("platform.python_version", lambda: "4.0.0")
    with pytest.raises(
        pytest.fail.Exception, match="the cache was not used"
    ):  # another version is another data set
        docstrings.build(str(tmp_path / "cache"))
