import json
from pathlib import Path

import pytest

from headcount.heads.measure import MeasurementStore


def count(store: MeasurementStore, name: str) -> tuple[dict, int]:
    made = []

    def make() -> dict[str, list[float]]:
        made.append(name)
        return {"losses": [1.0, 0.1 + 0.2]}

    return store.get(name, make), len(made)


def test_a_measurement_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    store = MeasurementStore(path, {"a": 1})
    assert count(store, "complete") == ({"losses": [1.0, 0.1 + 0.2]}, 1)
    assert count(store, "complete")[1] == 0
    again = MeasurementStore(path, {"a": 1})
    assert count(again, "complete") == ({"losses": [1.0, 0.1 + 0.2]}, 0)


def test_measurements_of_something_else_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    count(MeasurementStore(path, {"a": 1}), "complete")
    assert MeasurementStore(path, {"a": 2}).found == {}
    assert json.loads(path.read_text()) == {"provenance": {"a": 2}}


@pytest.mark.parametrize("tail", [b'{"name": "b", "los', b"\0" * 40, b"\0" * 40 + b"\n"])
def test_a_damaged_end_is_dropped(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "measurements.jsonl"
    count(MeasurementStore(path, {}), "a")
    with path.open("ab") as file:
        file.write(tail)
    store = MeasurementStore(path, {})
    assert list(store.found) == ["a"]
    count(store, "b")
    assert list(MeasurementStore(path, {}).found) == ["a", "b"]


def test_a_file_that_is_damaged_from_the_start_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    path.write_bytes(b"\0\0\0")
    store = MeasurementStore(path, {"a": 1})
    count(store, "a")
    assert list(MeasurementStore(path, {"a": 1}).found) == ["a"]
