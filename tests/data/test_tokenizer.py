import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from headcount.config.sections.tokenizer import TokenizerConfig
from headcount.data import tokenizer as tokenizers
from headcount.data.tokenizer import (
    END,
    START,
    adopt_tokenizer,
    load_tokenizer,
    prepare_tokenizer,
    token_name,
    train_tokenizer,
    vocabulary_size,
    words_of,
)
from headcount.data.tokens import encode
from headcount.errors import ConfigError

TEXTS = ["the cat sat on the mat", "the dog sat on the log"] * 5
SMALL = TokenizerConfig(vocabulary_size=280)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_any_text_survives_the_round_trip(algorithm: str, tmp_path: Path) -> None:
    tokenizer = prepare_tokenizer(TEXTS, "sha", replace(SMALL, algorithm=algorithm), str(tmp_path))
    assert algorithm == json.loads(tokenizer.to_str())["model"]["type"].lower()
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


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_words_of_more_than_letters(algorithm: str, tmp_path: Path) -> None:
    texts = ["#Person1#: Hi\n#Person2#: #Person1#, it's me"] * 5
    config = replace(SMALL, algorithm=algorithm, words=r"#Person\d+#")
    tokenizer = prepare_tokenizer(texts, "sha", config, str(tmp_path))
    encoded = tokenizer.encode("#Person2#: it's  #Person1#!")
    assert algorithm == "unigram" or (
        encoded.tokens[0] == "#Person2#" and "Ġ#Person1#" in encoded.tokens
    )
    assert tokenizer.decode(encoded.ids) == "#Person2#: it's  #Person1#!"
    with pytest.raises(ConfigError, match=r"tokenizer.words=\( is not a regular expression"):
        replace(config, words="(")
    with pytest.raises(
        ConfigError,
        match=r"tokenizer.words=\(\?P<a>x\) is not a regular expression of tokenizers: ",
    ):
        prepare_tokenizer(texts, "sha", replace(config, words="(?P<a>x)"), str(tmp_path))
    with pytest.raises(ConfigError, match=r"^tokenizer.words= is empty; legal: null"):
        replace(config, words="")


def test_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(sha256: str = "sha", config: TokenizerConfig = SMALL) -> Tokenizer:
        return prepare_tokenizer(TEXTS, sha256, config, str(tmp_path))

    first = prepare()
    with monkeypatch.context() as patch:
        patch.setattr(tokenizers, "train_tokenizer", lambda *_, **__: pytest.fail("trained again"))
        assert prepare().to_str() == first.to_str()
        for other in (
            replace(SMALL, vocabulary_size=270),
            replace(SMALL, algorithm="unigram"),
            replace(SMALL, training_pairs=5),
            replace(SMALL, words="the cat"),
        ):
            with pytest.raises(pytest.fail.Exception):
                prepare(config=other)
        with pytest.raises(pytest.fail.Exception):
            prepare("other texts")
    assert prepare(config=replace(SMALL, vocabulary_size=270)).get_vocab_size() == 270


def pretrained(path: Path) -> Path:
    """Write a tokenizer like that of a pretrained encoder.

    Lower case, words, its own special tokens, truncation.
    """
    words = ["[UNK]", "[CLS]", "the", "cat", "sat", END]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = (
        normalizers.Lowercase(),
        pre_tokenizers.Whitespace(),
    )
    tokenizer.add_special_tokens(["[CLS]", END])
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", None, [("[CLS]", 1)])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(path))
    return path


def test_a_pretrained_tokenizer_is_taken_as_it_is_but_for_what_we_say(tmp_path: Path) -> None:
    path = pretrained(tmp_path / "theirs.json")
    tokenizer = prepare_tokenizer(TEXTS, "sha", TokenizerConfig(path=str(path)), str(tmp_path))
    assert encode(tokenizer, ["The cat sat"]).to_pylist() == [[2, 3, 4]]
    assert tokenizer.token_to_id(END) == 5 and tokenizer.token_to_id(START) == 6
    assert tokenizer.decode([6, 2, 3, 5]) == "the cat"
    tokenizer.save(str(tmp_path / "ours.json"))
    assert encode(load_tokenizer(tmp_path / "ours.json"), ["The cat sat"]).to_pylist() == [
        [2, 3, 4]
    ]


def test_not_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for name in ("tokenizer.json", "none.json"):
        with pytest.raises(ConfigError, match="not a tokenizer"):
            load_tokenizer(tmp_path / name)
        with pytest.raises(ConfigError, match=r"^tokenizer.path=[^\n]*$"):
            prepare_tokenizer(
                TEXTS, "sha", TokenizerConfig(path=str(tmp_path / name)), str(tmp_path)
            )


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_words_are_what_blanks_separate(algorithm: str, tmp_path: Path) -> None:
    tokenizer = prepare_tokenizer(TEXTS, "sha", replace(SMALL, algorithm=algorithm), str(tmp_path))
    begins, within = words_of(tokenizer)
    for text in ("the #Person1# sat.", "a\tb\n🙂 日本", "don't \0 stop"):
        ids = tokenizer.encode(text).ids
        assert sum(begins[token] for token in ids[1:]) == len(text.split()) - 1
    first, last = tokenizer.encode("the").ids[0], tokenizer.encode("a the").ids[1]
    assert algorithm != "bpe" or (first != last and within[first] == last == within[last])
    assert not begins[tokenizer.token_to_id(END)]


@pytest.mark.parametrize("kind", ["wordpiece", "metaspace"])
def test_words_of_other_tokenizers(kind: str) -> None:
    if kind == "wordpiece":
        tokenizer = Tokenizer(
            models.WordPiece({"[UNK]": 0, "a": 1, "the": 2, "##n": 3, ".": 4}, unk_token="[UNK]")
        )
        tokenizer.decoder, expected = decoders.WordPiece(), [True, True, True, False, False]
    else:
        pieces = [("<unk>", 0.0), ("▁a", -1.0), ("▁the", -1.0), ("n", -1.0), (".", -1.0)]
        tokenizer = Tokenizer(models.Unigram(pieces, 0))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder, expected = decoders.Metaspace(), [False, True, True, False, False]
    begins, within = words_of(tokenizer)
    assert begins == expected
    assert within == list(range(5))  # a word at the beginning has the same tokens as elsewhere


def save(tokenizer: Tokenizer, path: Path, **changes: object) -> str:
    """Write a tokenizer with words, and return its path."""
    tokenizer.pre_tokenizer = tokenizer.pre_tokenizer or pre_tokenizers.Whitespace()
    path.write_text(json.dumps({**json.loads(tokenizer.to_str()), **changes}))
    return str(path)


def added(token: int, content: str) -> dict[str, object]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token, "content": content, "special": True, **flags}


@pytest.mark.parametrize(
    ("vocabulary", "more"),
    [
        ({"[UNK]": 0, "the": 2, "cat": 3}, []),
        ({"[UNK]": 0, "the": 1, "cat": 70}, []),
        ({"[UNK]": 5, "the": 6, "cat": 7}, []),
        ({"[UNK]": 0, "the": 2, "cat": 3}, [added(4, "[CLS]")]),
        ({"[UNK]": 0, "the": 2, "cat": 3}, [added(1, START), added(9, END)]),
        ({"[UNK]": 0, "the": 2, "cat": 4, START: 1, END: 3}, []),
    ],
)
@pytest.mark.parametrize("model", [models.WordLevel, models.WordPiece])
def test_gaps_in_the_ids(
    model: type, vocabulary: dict[str, int], more: list[object], tmp_path: Path
) -> None:
    """No two tokens share an id, and there is an embedding for each."""
    path = save(Tokenizer(model(vocabulary, unk_token="[UNK]")), tmp_path / "t.json")
    state = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**state, "added_tokens": more}))
    tokenizer = adopt_tokenizer(path)
    ids = encode(tokenizer, ["the cat dog"]).to_pylist()[0]
    assert ids == [vocabulary["the"], vocabulary["cat"], vocabulary["[UNK]"]]
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    assert len({start, end, vocabulary["cat"], vocabulary["the"]}) == 4
    size = vocabulary_size(tokenizer)
    assert size == max(tokenizer.get_vocab().values()) + 1 > max(*ids, start, end)
    assert tokenizer.decode([vocabulary["cat"]]) == "cat"
    known = {*vocabulary.values(), *(token["id"] for token in more)}
    gaps = sorted(set(range(size)) - known - {start, end})
    assert tokenizer.decode([vocabulary["cat"], *gaps]) == "cat"
    of_gaps = encode(tokenizer, [f"the <gap {gap}>" for gap in gaps]).to_pylist()
    assert all(set(ids_of_text).isdisjoint(gaps) for ids_of_text in of_gaps)
    assert [len(each) for each in words_of(tokenizer)] == [size, size]

    tokenizer.save(str(tmp_path / "ours.json"))
    again = load_tokenizer(tmp_path / "ours.json")
    assert encode(again, ["the cat dog"]).to_pylist()[0] == ids
    assert again.get_vocab() == tokenizer.get_vocab()


def test_an_id_that_no_embedding_has_room_for(tmp_path: Path) -> None:
    path = save(Tokenizer(models.WordLevel({"a": 10**6}, "a")), tmp_path / "t.json")
    with pytest.raises(ConfigError, match="tokenizer.path=.*the id 1000000 is too large"):
        adopt_tokenizer(path)


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({"a": 0, "b": 1}),
        models.WordPiece({"a": 0, "b": 1}),
        models.Unigram([("a", 0.0), ("b", -1.0)]),
        models.BPE({"a": 0, "b": 1}, [], unk_token="[UNK]"),
        models.WordLevel({}, "[UNK]"),
    ],
)
def test_a_text_that_cannot_be_encoded_is_one_line(model: models.Model, tmp_path: Path) -> None:
    tokenizer = adopt_tokenizer(save(Tokenizer(model), tmp_path / "t.json"))
    with pytest.raises(ConfigError, match=r"^tokenizer.path: the tokenizer cannot encode a text"):
        encode(tokenizer, ["a z"])
    assert len(words_of(tokenizer)[0]) == vocabulary_size(tokenizer)


def test_a_tokenizer_that_drops_what_it_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = adopt_tokenizer(save(Tokenizer(models.BPE({"b": 0, "c": 1}, [])), tmp_path / "t"))
    assert encode(tokenizer, ["b z c"]).to_pylist() == [[0, 1]]
    assert "it has no unknown token" in capsys.readouterr().out
    assert len(words_of(tokenizer)[0]) == 4
    adopt_tokenizer(str(pretrained(tmp_path / "theirs.json")))
    trained = prepare_tokenizer(TEXTS, "sha", SMALL, str(tmp_path))
    trained.save(str(tmp_path / "trained.json"))
    adopt_tokenizer(str(tmp_path / "trained.json"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("missing", [[START, END], [END]])
def test_a_run_has_a_tokenizer_with_its_special_tokens(missing: list[str], tmp_path: Path) -> None:
    vocabulary = {"[UNK]": 0, "a": 1} | ({} if START in missing else {START: 2})
    path = save(Tokenizer(models.WordLevel(vocabulary, "[UNK]")), tmp_path / "t.json")
    with pytest.raises(ConfigError, match=f"it has no token {missing[0]}"):
        load_tokenizer(Path(path))


@pytest.mark.parametrize("words", ["(a+)+b", "(a|a)+b", r"(\w+\s?)+!", "(a*)*c"])
def test_words_that_backtrack_without_end(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tokenizers, "MAX_TRIAL_SECONDS", 0.2)
    texts = ["a" * 23 + " x"] * 40 + ["aaa " * 30] * 10
    config = replace(SMALL, words=words)
    message = r"^tokenizer.words=.* (backtracks without end|cannot be matched): .*legal: [^\n]*$"
    with pytest.raises(ConfigError, match=message):
        prepare_tokenizer(texts, "sha", config, str(tmp_path))
    assert capfd.readouterr().err == ""


def test_words_that_panic_only_in_a_later_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = ["fine"] * 300 + ["a" * 40]
    with pytest.raises(ConfigError, match="cannot be matched: Onig"):
        prepare_tokenizer(texts, "sha", replace(SMALL, words="(a+)+b"), str(tmp_path))
    assert capfd.readouterr().err == ""
    tokenizer = prepare_tokenizer(TEXTS, "sha", replace(SMALL, words="(a+)+b"), str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be matched: Onig"):
        encode(tokenizer, ["a" * 40])


def test_names_of_tokens_are_one_printable_line() -> None:
    tokenizer = train_tokenizer(["x"], "bpe", 260)
    names = []
    for text in ("a", "\n", "\t", "\x1b"):
        [token] = tokenizer.encode(text, add_special_tokens=False).ids
        names.append(token_name(tokenizer, token))
    assert names == ["a", r"\n", r"\t", r"\x1b"]
    special = [tokenizer.token_to_id(token) for token in (START, END)]
    assert [token_name(tokenizer, token) for token in special] == ["(start)", "(end)"]

    # A token that is decoded to nothing.
    tokenizer.add_special_tokens(["<mask>"])
    assert token_name(tokenizer, tokenizer.token_to_id("<mask>")) == "<mask>"
