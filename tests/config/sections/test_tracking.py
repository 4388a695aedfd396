from pathlib import Path

import pytest

from tests.config.mistakes import check_mistake

MISTAKES = {
    "tracking: {project: a/b}": "tracking.project=a/b is not a name to W&B; legal: up to 128",
    f"tracking: {{tags: [{'x' * 65}]}}": "is too long; legal: up to 64 characters",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")
