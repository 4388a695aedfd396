import pytest

from headcount.data.tokenizer import adopt_tokenizer, train_tokenizer
from headcount.page.pieces import pieces

TEXTS = ["Ada buys a pear.", "naïve café — 日本語, שלום 🙂", "tabs\tand\nlines", ""]


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_pieces_joined_are_the_text(algorithm: str) -> None:
    tokenizer = train_tokenizer(["Ada buys a pear from Ben."] * 20, algorithm, 280)
    tokenizer.encode_special_tokens = True
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        found = pieces(tokenizer, ids)
        assert len(found) == len(ids) and "".join(found) == text


def test_special_tokens_have_names_and_the_tokens_after_them_are_whole(tmp_path) -> None:
    tokenizer = train_tokenizer(["Ada buys a pear."] * 20, "bpe", 280)
    start, end = (tokenizer.token_to_id(name) for name in ("<s>", "</s>"))
    ids = tokenizer.encode("Ada", add_special_tokens=False).ids
    found = pieces(tokenizer, [start, *ids, end, *ids])
    assert found[0] == "(start)" and found[len(ids) + 1] == "(end)"
    assert "".join(found[len(ids) + 2 :]) == "Ada"
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    assert pieces(adopt_tokenizer(str(path)), ids) == pieces(tokenizer, ids)


def test_controls_are_written_out_and_broken_characters_stay_in_place() -> None:
    tokenizer = train_tokenizer(["x"], "bpe", 260)
    ids = tokenizer.encode("a\u202eb\0c", add_special_tokens=False).ids
    assert "".join(pieces(tokenizer, ids)) == r"a\u202eb\x00c"
    cut = tokenizer.encode("é", add_special_tokens=False).ids[:1]
    assert pieces(tokenizer, [*cut, *tokenizer.encode("a").ids]) != []
    assert len(pieces(tokenizer, [*cut] * 9)) == 9
