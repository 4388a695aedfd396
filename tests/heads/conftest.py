from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from headcount.heads.analysis import Analysis, analyse
from tests.heads.test_analysis import make_evaluator


@pytest.fixture
def roleless(small: Callable, tmp_path: Path) -> Analysis:
    """Return the analysis of a small untrained model, whose heads have no roles."""
    found = analyse(make_evaluator(small, tmp_path))
    return replace(found, heads=[replace(result, roles={}) for result in found.heads])
