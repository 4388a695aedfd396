from pathlib import Path

import pytest

from headcount.data import tokens
from headcount.data.arrow_table import CHUNK, read_table
from headcount.data.batches import EncodedPairs
from headcount.data.pairs import Pairs
from headcount.data.tokenizer import train_tokenizer
from headcount.data.tokens import TokenColumn, prepare_tokens
from headcount.errors import ConfigError

TEXTS = [f"document number {n} " * (n % 7 + 1) for n in range(2 * CHUNK + 5)]
PAIRS = Pairs(ids=TEXTS, documents=TEXTS, references=[[text[:20], "another"] for text in TEXTS])
TOKENIZER = train_tokenizer(TEXTS, "bpe", 300)


def test_every_example_finds_its_ids_uncut(tmp_path: Path) -> None:
    table = prepare_tokens(PAIRS, "sha", TOKENIZER, str(tmp_path))
    documents, summaries = TokenColumn(table["document"]), TokenColumn(table["summary"])
    for example in (0, 6, CHUNK - 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 4):
        assert TOKENIZER.decode(documents[example].tolist()) == TEXTS[example]
        assert TOKENIZER.decode(summaries[example].tolist()) == TEXTS[example][:20]
        assert documents.lengths[example] == len(documents[example])
    assert len(documents.lengths) == len(TEXTS)


def test_made_once_and_mapped_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_tokens(PAIRS, "sha", TOKENIZER, str(tmp_path))
    monkeypatch.setattr(tokens, "tokenize", lambda *_: pytest.fail("made again"))
    table = prepare_tokens(PAIRS, "sha", TOKENIZER, str(tmp_path))
    assert table == first
    ids = TokenColumn(table["document"])[3]
    assert not ids.flags.writeable and ids.base is not None  # a view of the file
    for sha256, tokenizer in (("other", TOKENIZER), ("sha", train_tokenizer(TEXTS, "bpe", 290))):
        with pytest.raises(pytest.fail.Exception, match="made again"):
            prepare_tokens(PAIRS, sha256, tokenizer, str(tmp_path))


def test_a_damaged_file_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = prepare_tokens(
        PAIRS, "sha", TOKENIZER, str(tmp_path)
    ).to_pydict()  # not a view of the file
    [file] = tmp_path.glob("*/tokens.arrow")
    file.write_bytes(file.read_bytes()[:1000])
    assert prepare_tokens(PAIRS, "sha", TOKENIZER, str(tmp_path)).to_pydict() == expected
    assert "tokens.arrow is not what was written; it is built again" in capsys.readouterr().out
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"tokens.arrow: damaged .* delete "):
        read_table(file)


def test_from_the_cache_or_from_memory_it_is_the_same(tmp_path: Path) -> None:
    table = prepare_tokens(PAIRS, "sha", TOKENIZER, str(tmp_path))
    mapped, made = (
        EncodedPairs(PAIRS, TOKENIZER, 20, 8, table),
        EncodedPairs(PAIRS, TOKENIZER, 20, 8),
    )
    one, other = mapped.batch([2, CHUNK]), made.batch([2, CHUNK])
    assert one.document_ids.equal(other.document_ids) and one.summary_ids.equal(other.summary_ids)
    assert (mapped.lengths == made.lengths).all()
