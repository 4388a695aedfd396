from pathlib import Path

import pytest

from tests.config.mistakes import check_mistake

MISTAKES = {
    "evaluation: {baselines: [lead-0]}": "evaluation.baselines=lead-0 is not a baseline; legal: "
    "lead-K, longest-K,",
    "evaluation: {metrics: [meteor]}": "evaluation.metrics=meteor is not a metric; legal: rouge, "
    "bleu, chrf",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")
