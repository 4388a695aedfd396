import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from headcount.heads.ablation import ABLATIONS, ablated, record_outputs
from headcount.heads.blocks import Model, closed_heads, heads_of
from headcount.heads.measure import (
    COMPLETE,
    HeadEvaluator,
    MeasurementStore,
    Setting,
    copy_with_shared_weights,
)
from headcount.model.attention_blocks import attention_blocks
from tests.heads.test_analysis import make_evaluator
from tests.model import builds


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


# Several threads

ARCHITECTURES = {**builds.ARCHITECTURES, "copying": ["model.copying=true"]}


def every_kind(evaluator: HeadEvaluator) -> list[Setting]:
    """Return a setting of each kind for each site, one of them twice."""
    model = evaluator.summarizer.model
    outputs = record_outputs(model, evaluator.batches)
    settings = [COMPLETE]
    heads = {head.site: head for head in heads_of(model)}
    for kind in ABLATIONS:
        for head in heads.values():
            applied = partial(ablated, heads=[head], kind=kind, outputs=outputs, seed=3)
            settings.append(Setting(name=f"{kind} {head}", applied=applied))
    return [*settings, settings[1]]


def with_threads(evaluator: HeadEvaluator, threads: int, path: Path) -> HeadEvaluator:
    store = MeasurementStore(path, {})
    return HeadEvaluator(
        evaluator.summarizer, evaluator.split, evaluator.rows, store, threads=threads
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_measurements_do_not_depend_on_the_number_of_threads(
    small: Callable, tmp_path: Path, architecture: str
) -> None:
    """Bit by bit, in the same order in the file, resampling too."""
    one = make_evaluator(small, tmp_path, *ARCHITECTURES[architecture])
    assert one.threads == torch.get_num_threads() == 1
    expected = one.measure_all(every_kind(one))
    assert any((each.losses != expected[0].losses).any() for each in expected)

    for threads in (2, 3):
        several = with_threads(one, threads, tmp_path / f"{threads}.jsonl")
        measured = several.measure_all(every_kind(several))
        for each, other in zip(measured, expected, strict=True):
            np.testing.assert_array_equal(each.losses, other.losses)
            np.testing.assert_array_equal(each.scores, other.scores)
        assert several.store.path.read_bytes() == one.store.path.read_bytes()
        assert torch.get_num_threads() == 1

    # The model itself was never changed.
    for block in attention_blocks(one.summarizer.model).values():
        assert block.head_gates is None and block.edit_heads is None


def test_a_slow_measurement_is_stored_before_later_ones(small: Callable, tmp_path: Path) -> None:
    evaluator = with_threads(make_evaluator(small, tmp_path), 2, tmp_path / "two.jsonl")
    later_has_ended = Event()

    @contextmanager
    def slow(model: Model) -> Iterator[None]:
        assert later_has_ended.wait(60)
        yield

    @contextmanager
    def fast(model: Model) -> Iterator[None]:
        yield
        later_has_ended.set()

    evaluator.measure_all([Setting(name="slow", applied=slow), Setting(name="fast", applied=fast)])
    assert list(MeasurementStore(evaluator.store.path, {}).found) == ["slow", "fast"]


def test_an_error_keeps_what_was_measured_before(small: Callable, tmp_path: Path) -> None:
    evaluator = with_threads(make_evaluator(small, tmp_path), 2, tmp_path / "two.jsonl")
    started = []

    @contextmanager
    def failing(model: Model) -> Iterator[None]:
        raise ZeroDivisionError
        yield

    @contextmanager
    def counting(model: Model) -> Iterator[None]:
        started.append(1)
        yield

    settings = [COMPLETE, Setting(name="failing", applied=failing)]
    settings += [Setting(name=str(number), applied=counting) for number in range(40)]
    with pytest.raises(ZeroDivisionError):
        evaluator.measure_all(settings)
    assert list(MeasurementStore(evaluator.store.path, {}).found) == ["complete"]
    assert len(started) < 40

    # The evaluator can be used again.
    evaluator.measure_all([COMPLETE, *settings[2:5]])
    assert list(evaluator.store.found) == ["complete", "0", "1", "2"]


def test_a_copy_has_the_same_weights_and_its_own_gates(small: Callable, tmp_path: Path) -> None:
    summarizer = make_evaluator(small, tmp_path).summarizer
    copied = copy_with_shared_weights(summarizer)
    for weight, same in zip(summarizer.parameters(), copied.parameters(), strict=True):
        assert weight is same
    with ablated(copied.model, heads_of(copied.model)):
        assert closed_heads(copied.model) == set(heads_of(copied.model))
        assert not closed_heads(summarizer.model)
    assert copied.tokenizer is summarizer.tokenizer and not copied.training
