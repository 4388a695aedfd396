"""Tokenizers: trained over bytes on the data at hand, or that of a pretrained model.

BPE: Sennrich et al. 2016; over bytes: Radford et al. 2019, section 2.2. Unigram: Kudo 2018,
section 3.2.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from tokenizers import Encoding, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from headcount.config.paths import user_path
from headcount.config.sections.tokenizer import TokenizerConfig
from headcount.data.cache import cached
from headcount.errors import ConfigError
from headcount.escape import printable
from headcount.terminal import print_line

CACHE_VERSION = 2  # raise it when the training below changes

# How GPT-2 splits text into pieces, within which BPE merges.
PIECES = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# The special tokens. A summary starts with START; END closes documents and summaries.
START = "<s>"
END = "</s>"

MAX_VOCABULARY = 1_000_000  # ids of a tokenizer; the largest published ones have 262,144
UNKNOWN_TEXTS = ("𓀀", "ꙮ", "𐎠")  # letters that only a tokenizer over bytes can know

# The regular expression of words is tried on the first texts of training.
TRIED_TEXTS = 200
TRIED_CHARACTERS = 100  # matched at a time
MAX_TRIAL_SECONDS = 20.0  # of CPU time; a usual expression takes 0.1
LEGAL_WORDS = "legal: a regular expression without a repetition within a repetition"


def prepare_tokenizer(
    texts: Iterable[str], sha256: str, config: TokenizerConfig, cache_dir: str
) -> Tokenizer:
    """Return the configured tokenizer, from the cache if it was trained on the same texts before.

    Args:
        texts: what it is trained on; they are only read for that.
        sha256: digest of the texts.
        config: the ``tokenizer`` section.
        cache_dir: the ``data.cache_dir`` of the config.

    Raises:
        ConfigError: there is no usable tokenizer at ``tokenizer.path``, or ``tokenizer.words``
            cannot be used.
    """
    if config.path is not None:
        return adopt_tokenizer(config.path)

    def build(folder: Path) -> None:
        tokenizer = train_tokenizer(
            texts, config.algorithm, config.vocabulary_size, words=config.words
        )
        tokenizer.save(str(folder / "tokenizer.json"))

    key = [
        CACHE_VERSION,
        sha256,
        config.algorithm,
        config.vocabulary_size,
        config.training_pairs,
        config.words,
    ]
    folder = cached(cache_dir, "tokenizer", key, build)
    return load_tokenizer(folder / "tokenizer.json")


# Training


def train_tokenizer(
    texts: Iterable[str], algorithm: str, vocabulary_size: int, *, words: str | None = None
) -> Tokenizer:
    """Train a tokenizer over bytes: any text can be encoded, and decoded without loss.

    Args:
        texts: what it is trained on.
        algorithm: ``bpe`` or ``unigram``.
        vocabulary_size: number of tokens, including the 256 bytes.
        words: regular expression of texts that are one word although they have other characters
            than letters.

    Raises:
        ConfigError: the library cannot use ``words``.
    """
    model, trainer_class = {
        "bpe": (models.BPE, trainers.BpeTrainer),
        "unigram": (models.Unigram, trainers.UnigramTrainer),
    }[algorithm]
    tokenizer = Tokenizer(model())
    tokenizer.decoder = decoders.ByteLevel()

    # Texts are divided into words, and words into bytes. A regular expression is tried on some
    # texts first, because it may backtrack without end.
    if words is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pieces = _split_at_words(words)
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, as_bytes])
        texts = iter(texts)
        first_texts = list(islice(texts, TRIED_TEXTS))
        _try_words(words, pieces, first_texts)
        texts = chain(first_texts, texts)

    trainer = trainer_class(
        vocab_size=vocabulary_size,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with _panic_as_config_error(f"tokenizer.words={words}"), _quiet_panic():
        tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _split_at_words(words: str) -> pre_tokenizers.PreTokenizer:
    try:
        pattern = Regex(f" ?(?:{words})|{PIECES}")
    except Exception as error:  # tokenizers raises Exception itself, no subclass
        raise ConfigError(
            f"tokenizer.words={words} is not a regular expression of tokenizers: {error}; "
            "legal: one of Oniguruma"
        ) from None
    return pre_tokenizers.Split(pattern, "isolated")


def _try_words(words: str, pieces: pre_tokenizers.PreTokenizer, texts: Sequence[str]) -> None:
    """Reject a regular expression that backtracks without end, before it is matched to all texts.

    Nested repetition such as ``(a+)+`` takes time exponential in the length of a word. Matching
    cannot be interrupted, so short pieces of text are tried first.
    """
    began = time.thread_time()
    with _panic_as_config_error(f"tokenizer.words={words}"), _quiet_panic():
        for text in texts:
            for begin in range(0, len(text), TRIED_CHARACTERS):
                pieces.pre_tokenize_str(text[begin : begin + TRIED_CHARACTERS])
                if time.thread_time() - began > MAX_TRIAL_SECONDS:
                    raise ConfigError(
                        f"tokenizer.words={words} backtracks without end: matching the first "
                        f"texts took {MAX_TRIAL_SECONDS:g} s; {LEGAL_WORDS}"
                    )


@contextmanager
def _panic_as_config_error(setting: str) -> Iterator[None]:
    """Turn a panic of the library's Rust code, which is no ``Exception``, into a ConfigError.

    Args:
        setting: key and value of what caused it, for the message.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ConfigError(f"{setting} cannot be matched: {error}; {LEGAL_WORDS}") from None


@contextmanager
def _quiet_panic() -> Iterator[None]:
    """Hold back what is written to standard error, and drop it if the code within panics.

    Rust reports a panic there, with a stack trace, before Python sees it.
    """
    try:
        original = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException as error:
            if type(error).__name__ == "PanicException":
                held_back.truncate(0)
            raise
        finally:
            os.dup2(original, 2)
            held_back.seek(0)
            os.write(original, held_back.read())
            os.close(original)


# Loading


def adopt_tokenizer(path: str) -> Tokenizer:
    """Load the tokenizer of a pretrained model. START and END are added if it lacks them.

    Args:
        path: the ``tokenizer.path`` of a config.

    Raises:
        ConfigError: there is no tokenizer at the path.
    """
    try:
        tokenizer = _read_tokenizer(user_path("tokenizer.path", path))
    except ConfigError as error:
        raise ConfigError(
            f"tokenizer.path={path}: {error}; legal: the tokenizer.json of a model"
        ) from None

    # Batches are ragged and cut by data.max_document_tokens and data.max_summary_tokens.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.add_special_tokens([START, END])
    if _drops_unknown_text(tokenizer):
        print_line(
            f"tokenizer.path={path}: it has no unknown token: characters that are not in its "
            "vocabulary are dropped"
        )
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer that was saved with a run.

    Raises:
        ConfigError: there is no tokenizer at the path, or it lacks START or END.
    """
    return _check_tokenizer(_read_tokenizer(path), path)


def parse_tokenizer(text: str, path: Path) -> Tokenizer:
    """Return the tokenizer of a run from its JSON.

    Args:
        text: the JSON.
        path: where it was found, for messages.

    Raises:
        ConfigError: it is not a tokenizer, or lacks START or END.
    """
    return _check_tokenizer(_parse_json(text, path), path)


def _check_tokenizer(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    for token in (START, END):
        if tokenizer.token_to_id(token) is None:
            raise ConfigError(f"{path}: not a tokenizer of a run (it has no token {token})")
    return tokenizer


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a tokenizer ({error})") from None
    return _parse_json(text, path)


def _parse_json(text: str, path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(_fill_gaps(text))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:  # tokenizers raises Exception itself, no subclass
        raise ConfigError(f"{path}: not a tokenizer ({error})") from None
    tokenizer.encode_special_tokens = True  # "</s>" within a text is text
    return tokenizer


def _fill_gaps(text: str) -> str:
    """Return the JSON of a tokenizer in which every id below the largest has a token.

    The new tokens are special: no text is encoded to them, and they are decoded to nothing.

    The library gives a new token the number of tokens as its id. If the ids of a vocabulary have
    gaps, that id belongs to another token already.

    Raises:
        ConfigError: an id is too large for an embedding of each.
    """
    state = json.loads(text)
    model = state.get("model") if isinstance(state, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not vocabulary:
        return text  # the pieces of Unigram are a list, which has no gaps
    largest = max(vocabulary.values())
    if largest >= MAX_VOCABULARY:
        raise ConfigError(f"the id {largest} is too large; legal: ids below {MAX_VOCABULARY:,}")
    if largest < len(vocabulary):
        return text

    # Added tokens keep the ids that the file gives them.
    added_tokens = list(state.get("added_tokens") or [])
    taken = set(vocabulary.values())
    for token in added_tokens:
        if token["id"] not in taken and token["content"] not in vocabulary:
            vocabulary[token["content"]] = token["id"]
            taken.add(token["id"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for gap in sorted(set(range(max(taken))) - taken):
        name = f"<gap {gap}>"
        vocabulary[name] = gap
        added_tokens.append({"id": gap, "content": name, "special": True, **flags})
    state["added_tokens"] = added_tokens
    return json.dumps(state)


def _drops_unknown_text(tokenizer: Tokenizer) -> bool:
    """Return whether letters that a tokenizer does not know leave no token."""
    try:
        encodings = tokenizer.encode_batch(UNKNOWN_TEXTS, add_special_tokens=False)
    except Exception:  # no subclass; encode_texts turns it into one line when it matters
        return False
    return not any(encoding.ids for encoding in encodings)


# Use


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Return the number of token ids: the largest one, plus 1.

    Ids may have gaps, so the library's ``get_vocab_size`` may be smaller.
    """
    return max(tokenizer.get_vocab().values()) + 1


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], *, with_offsets: bool = False
) -> list[Encoding]:
    """Encode texts in parallel, without special tokens.

    Args:
        tokenizer: from this module.
        texts: to encode.
        with_offsets: whether the encodings have the characters of each token, which takes longer.

    Raises:
        ConfigError: the tokenizer cannot encode one of them.
    """
    with _panic_as_config_error("tokenizer.words or the pre-tokenizer of tokenizer.path"):
        try:
            encode = tokenizer.encode_batch if with_offsets else tokenizer.encode_batch_fast
            return encode(texts, add_special_tokens=False)
        except Exception as error:  # tokenizers raises Exception itself, no subclass
            raise ConfigError(
                f"tokenizer.path: the tokenizer cannot encode a text: {error}; legal: a tokenizer "
                "over bytes, or one with an unknown token"
            ) from None


def special_names(tokenizer: Tokenizer) -> dict[int | None, str]:
    """Return the names of the start and the end token for readers, by their ids."""
    start_id = tokenizer.token_to_id(START)
    end_id = tokenizer.token_to_id(END)
    return {start_id: "(start)", end_id: "(end)"}


def token_name(tokenizer: Tokenizer, token: int) -> str:
    """Return the text of a token by itself as one printable line, for labels.

    A special token, which has no text, has its name.
    """
    special = special_names(tokenizer)
    if token in special:
        return special[token]
    text = tokenizer.decode([token]) or tokenizer.id_to_token(token) or ""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def words_of(tokenizer: Tokenizer) -> tuple[list[bool], list[int]]:
    """Return how tokens form words, by the text that they decode to.

    Words are separated by blanks.

    Returns:
        For each token whether it begins a word, that is, whether a blank comes before its text;
        and for each token the one that has the same text after a blank, or the token itself if no
        token has.
    """
    # Some decoders strip the blank before the first token, so a letter is put before each.
    letter = _find_letter(tokenizer)
    begin = len(tokenizer.decode(letter))
    texts = [
        tokenizer.decode([*letter, token])[begin:] for token in range(vocabulary_size(tokenizer))
    ]

    # A token that is a part of a character has no text of its own.
    token_of = {text: token for token, text in enumerate(texts) if "\ufffd" not in text}
    begins_word = [text[:1].isspace() for text in texts]
    after_blank = [token_of.get(f" {text}", token) for token, text in enumerate(texts)]
    return begins_word, after_blank


def _find_letter(tokenizer: Tokenizer) -> list[int]:
    """Return the token of a letter; an empty list if the tokenizer has none."""
    try:
        ids = tokenizer.encode("a", add_special_tokens=False).ids
    except Exception:  # no subclass; it has neither this letter nor an unknown token
        ids = []
    if ids:
        return [ids[-1]]
    for token in range(vocabulary_size(tokenizer)):
        text = tokenizer.decode([token])
        if text and not text[0].isspace() and not text[-1].isspace() and "\ufffd" not in text:
            return [token]
    return []
