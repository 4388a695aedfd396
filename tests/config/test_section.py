from pathlib import Path

import pytest

from tests.config.mistakes import check_mistake

MISTAKES = {
    "stages: [{steps: 0}, {}]": "x.yaml: stages[].steps=0 is out of range: at least 1",
    "model: {num_heads: 0}": "x.yaml: model.num_heads=0 is out of range: at least 1",
    "model: {dropout: 1.0}": "x.yaml: model.dropout=1.0 is out of range: at least 0 and below 1",
    "seed: -1": "x.yaml: seed=-1 is out of range",
    "generation: {top_p: 1.5}": "generation.top_p=1.5 is out of range",
    "optimizer: {learning_rate: .inf}": "x.yaml: optimizer.learning_rate=inf is out of range: "
    "at least 0",
    "data: {train_split: ''}": "data.train_split= is empty; legal: a text that is not empty",
    "data: {path: ''}": "data.path= is empty; legal: a text that is not empty",
    "data: {document_columns: [a, '']}": "data.document_columns=['a', ''] is empty",
    "tokenizer: {path: ''}": "tokenizer.path= is empty; legal: null, or a text",
    "run: {folder: ''}": "run.folder= is empty; legal: null, or a text",
    "run: {directory: ''}": "run.directory= is empty; legal: a text that is not empty",
    "tracking: {tags: ['']}": "tracking.tags=[''] is empty",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")
