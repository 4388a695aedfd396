"""Configs and data that are wrong in any way are read, or refused in one line."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzzing import (
    OVERRIDES,
    check_config,
    check_data,
    check_override,
    edited_configs,
    write_fuzzed,
)

pytestmark = pytest.mark.faults
ANYTHING = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
}


def test_config_fuzz(fault, some, tmp_path: Path) -> None:
    tries = len(some(range(2000)))

    @settings(max_examples=tries, **ANYTHING)
    @given(edited_configs())
    def edit(text: str) -> None:
        check_config(text, tmp_path / "x.yaml")

    @settings(max_examples=tries // 4 + 1, **ANYTHING)
    @given(OVERRIDES)
    def override(text: str) -> None:
        check_override(text)

    edit()
    fault(
        "a config edited at random",
        "loaded, and means the same when it is saved; or refused in one line",
        tries,
    )
    override()
    fault("an override drawn at random", "taken, or refused in one line", tries // 4 + 1)


def test_data_fuzz(fault, some, tmp_path: Path) -> None:
    for seed in some(range(1000)):
        taken = check_data(write_fuzzed(tmp_path / f"fuzz-{seed}", seed), tmp_path / "cache")
        fault(
            "a data file that is in any way wrong",
            "each row is taken or counted" if taken else "refused with the row",
        )
