from pathlib import Path

import pytest

from tests.config.mistakes import check_mistake

MISTAKES = {"run: {name: ../x}": "run.name=../x is not a folder's name"}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")
