from pathlib import Path

import pytest

from headcount.config import ConfigError
from headcount.data import tokenizer as tokenizers
from headcount.data.tokenizer import END, START, load_tokenizer, prepare_tokenizer

TEXTS = ["the cat sat on the mat", "the dog sat on the log"] * 5


def test_any_text_comes_back(tmp_path: Path) -> None:
    tokenizer = prepare_tokenizer(TEXTS, 280, tmp_path)
    for text in (
        "the cat",
        "  two  blanks\n",
        "naïve 日本 🙂",
        "nul \0 byte",
        f"an {END} and a {START} in the text",
        "",
    ):
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids) == text
        assert tokenizer.token_to_id(END) not in ids and tokenizer.token_to_id(START) not in ids


def test_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_tokenizer(TEXTS, 280, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tokenizers, "train_tokenizer", lambda *_: pytest.fail("trained again"))
        assert prepare_tokenizer(TEXTS, 280, tmp_path).to_str() == first.to_str()
    assert prepare_tokenizer([*TEXTS, "more"], 280, tmp_path).get_vocab_size() <= 280
    assert prepare_tokenizer(TEXTS, 270, tmp_path).get_vocab_size() == 270
    assert len(list(tmp_path.iterdir())) == 3


def test_not_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for name in ("tokenizer.json", "none.json"):
        with pytest.raises(ConfigError, match="not a tokenizer"):
            load_tokenizer(tmp_path / name)
