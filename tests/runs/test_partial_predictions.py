from pathlib import Path

import pytest

from headcount.errors import ConfigError, RunError
from headcount.runs.folder import lock_folder
from headcount.runs.partial_predictions import PartialPredictions, read_provenance


def row(number: int) -> dict[str, object]:
    return {"row": number, "summary": f"the {number}th 🙂\u2028", "nested": [number]}


def read(folder: Path, count: int = 9, process: int = 0) -> PartialPredictions:
    parts = PartialPredictions(folder, count, process)
    parts.read()
    return parts


def test_rows_of_several_processes_come_in_order(tmp_path: Path) -> None:
    first, second = (PartialPredictions(tmp_path / "parts", 9, process) for process in (0, 1))
    first.claim({"a": 1})
    first.append([row(4), row(0)])
    second.append([row(7), row(1)])
    first.append([row(4), row(2)])  # the fourth is there
    again = read(tmp_path / "parts")
    assert list(again) == [row(number) for number in (0, 1, 2, 4, 7)]
    assert again.done.nonzero()[0].tolist() == [0, 1, 2, 4, 7]
    again.append([row(1), row(3)])
    assert (tmp_path / "parts" / "0.jsonl").read_bytes().count(b"\n") == 4


@pytest.mark.parametrize("cut", range(1, 80, 7))
def test_a_torn_line_is_dropped(cut: int, tmp_path: Path) -> None:
    """Wherever it is torn, also in a file of a process that there is no more."""
    for process in (0, 1):
        parts = PartialPredictions(tmp_path, 9, process)
        parts.append([row(2 * process), row(2 * process + 1)])
        whole = parts.own.read_bytes()
        parts.own.write_bytes(whole[: -min(cut, len(whole) // 2 - 1)])
    parts = read(tmp_path)
    assert parts.done.nonzero()[0].tolist() == [0, 2]
    parts.append([row(1), row(3)])
    assert list(read(tmp_path)) == [row(number) for number in range(4)]


def test_rows_of_another_provenance_are_deleted(tmp_path: Path) -> None:
    parts = PartialPredictions(tmp_path / "parts", 9, 0)
    parts.claim({"a": 1})
    parts.append([row(3)])
    read(tmp_path / "parts").claim({"a": 1})
    assert read(tmp_path / "parts").done.sum() == 1
    with lock_folder(tmp_path / "parts"):
        read(tmp_path / "parts").claim({"a": 2})
        with pytest.raises(ConfigError, match="another process"), lock_folder(tmp_path / "parts"):
            pass
    assert read(tmp_path / "parts").done.sum() == 0
    parts.remove()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^[^\n]*cannot be written: Not a directory$"):
        PartialPredictions(tmp_path / "file" / "parts", 9, 0).claim({})


ZEROS = b"\0" * 70
DAMAGED_LINES = [
    ZEROS,
    ZEROS + b"\n",
    b"{\n",
    b'"row"\n',
    b'{"row": "3"}\n',
    b'{"row": true}\n',
    b'{"row": -1}\n',
    b'{"row": 9}\n',
    b"\xff\n",
    b"[" * 100_000 + b"\n",
]


@pytest.mark.parametrize("line", DAMAGED_LINES, ids=range(len(DAMAGED_LINES)))
@pytest.mark.parametrize("file", ["0.jsonl", "1.jsonl"])
def test_a_damaged_line_is_dropped(file: str, line: bytes, tmp_path: Path) -> None:
    """As after a power failure, which leaves zeros where nothing had reached the disk."""
    parts = PartialPredictions(tmp_path, 9, 0)
    parts.append([row(0), row(1)])
    first, second = parts.own.read_bytes().splitlines(keepends=True)
    parts.own.unlink()
    (tmp_path / file).write_bytes(first + line + second)
    again = read(tmp_path)
    # Zeros without a line end take the line after them along.
    expected = [0, 1] if line.endswith(b"\n") else [0]
    assert again.done.nonzero()[0].tolist() == expected
    again.append([row(number) for number in range(9)])
    assert list(read(tmp_path)) == [row(number) for number in range(9)]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"\xff", ZEROS, b"[" * 100_000], ids=range(6)
)
def test_rows_of_unknown_origin_are_deleted(damage: bytes, tmp_path: Path) -> None:
    parts = PartialPredictions(tmp_path, 9, 0)
    parts.claim({"a": 1})
    parts.append([row(3)])
    (tmp_path / "provenance.json").write_bytes(damage)
    read(tmp_path).claim({"a": 1})
    assert read(tmp_path).done.sum() == 0
    assert read_provenance(tmp_path / "provenance.json") == {"a": 1}
