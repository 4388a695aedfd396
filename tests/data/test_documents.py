from pathlib import Path

import pytest

from headcount.data.documents import read_documents
from headcount.errors import ConfigError


def test_text_and_jsonl() -> None:
    Path("in.txt").write_bytes(b"one\n\nna\xefve\r\n")
    assert list(read_documents("in.txt", [])) == [(None, "one"), (None, ""), (None, "na\ufffdve")]
    Path("in.jsonl").write_text('{"id": "a", "dialogue": "x", "text": "y"}\n\n{"text": " z "}\n')
    assert list(read_documents("in.jsonl", ["dialogue"])) == [("a", "x"), (3, "z")]
    assert list(read_documents("in.jsonl", [])) == [("a", "y"), (3, "z")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": 3}', "in.jsonl:2: no text under document or text"),
        ("[1]", "in.jsonl:2: no text under document or text"),
        ('{"text"', "in.jsonl:2: not JSON: "),
        ('{"text": "a", "id": []}', "in.jsonl:2: column id holds list"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, said: str) -> None:
    Path("in.jsonl").write_text(f'{{"text": "a"}}\n{line}\n')
    with pytest.raises(ConfigError, match=said):
        list(read_documents("in.jsonl", []))
    with pytest.raises(ConfigError, match="none: No such file"):
        list(read_documents("none", []))
