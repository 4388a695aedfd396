from pathlib import Path

import pytest

from tests.config.mistakes import check_mistake

MISTAKES = {
    "{data: {streaming: true, teacher_summaries: t.jsonl}}": "data.teacher_summaries=t.jsonl "
    "needs the whole split; legal: data.streaming=False",
    "data: {batch_tokens: 100}": "data.batch_tokens=100 is too small for one pair",
    "data: {test_split: ''}": "data.test_split= is empty; legal: the name of a split, or null "
    "to carve one out of the",
    "data: {validation_split: ' '}": "data.validation_split= is empty; legal: the name of a "
    "split, or null",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")
