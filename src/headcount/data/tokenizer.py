"""Tokenizers over bytes, trained on the data at hand, or a pretrained one.

BPE: Sennrich et al. 2016; over bytes: Radford et al. 2019, section 2.2. Unigram: Kudo 2018,
    section 3.2.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from headcount.config.paths import user_path
from headcount.config.schema import TokenizerConfig
from headcount.data.cache import cached
from headcount.errors import ConfigError

FORMAT = 2  # raise it when the training below changes
PIECES = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # of GPT-2
START, END = (
    "<s>",
    "</s>",
)  # every special token there is: a summary starts from START; END closes both sides


def prepare_tokenizer(
    texts: Iterable[str], sha256: str, config: TokenizerConfig, cache_dir: str
) -> Tokenizer:
    """Return the configured tokenizer, from the cache where the same texts trained the same
    before.

    Args:
        texts: what it is trained on; they are read where that is to be done.
        sha256: what they are known by.
        config: the ``tokenizer`` section.
        cache_dir: the ``data.cache_dir`` of the config.

    Raises:
        ConfigError: there is no tokenizer at ``tokenizer.path``, or ``tokenizer.words`` cannot be
            used.
    """
    if config.path is not None:
        return adopt_tokenizer(config.path)

    def build(folder: Path) -> None:
        tokenizer = train_tokenizer(
            texts, config.algorithm, config.vocabulary_size, words=config.words
        )
        tokenizer.save(str(folder / "tokenizer.json"))

    key = [
        FORMAT,
        sha256,
        config.algorithm,
        config.vocabulary_size,
        config.training_pairs,
        config.words,
    ]
    return load_tokenizer(cached(cache_dir, "tokenizer", key, build) / "tokenizer.json")


def train_tokenizer(
    texts: Iterable[str], algorithm: str, vocabulary_size: int, *, words: str | None = None
) -> Tokenizer:
    """Train a tokenizer over bytes; any text can be encoded with it and decoded without loss.

    Args:
        texts: what it is trained on.
        algorithm: bpe or unigram.
        vocabulary_size: tokens, the 256 bytes included.
        words: regular expression of what is a word though it has more in it than letters.

    Raises:
        ConfigError: ``words`` is no regular expression to the library.
    """
    model, trainer = {
        "bpe": (models.BPE, trainers.BpeTrainer),
        "unigram": (models.Unigram, trainers.UnigramTrainer),
    }[algorithm]
    tokenizer = Tokenizer(model())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if words is not None:
        try:
            pattern = Regex(f" ?(?:{words})|{PIECES}")
        except Exception as error:  # the library raises nothing narrower
            raise ConfigError(
                f"tokenizer.words={words} is not a regular expression of tokenizers: {error}; "
                "legal: one of Oniguruma"
            ) from None
        pieces = pre_tokenizers.Split(pattern, "isolated")
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    given = trainer(
        vocab_size=vocabulary_size,
        special_tokens=[START, END],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, given)
    return tokenizer


def adopt_tokenizer(path: str) -> Tokenizer:
    """Load the tokenizer of a pretrained model; what it lacks of START and END is added to it.

    Raises:
        ConfigError: there is no tokenizer at the path.
    """
    try:
        tokenizer = load_tokenizer(user_path("tokenizer.path", path))
    except ConfigError as error:
        raise ConfigError(
            f"tokenizer.path={path}: {error}; legal: the tokenizer.json of a model"
        ) from None
    tokenizer.no_truncation()  # lengths are ours to limit, and nothing is padded
    tokenizer.no_padding()
    tokenizer.add_special_tokens([START, END])
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer that was saved with a run.

    Raises:
        ConfigError: there is no tokenizer at the path.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{path}: not a tokenizer ({error})") from None
    tokenizer.encode_special_tokens = True  # "</s>" within a text is text
    return tokenizer


def words_of(tokenizer: Tokenizer) -> tuple[list[bool], list[int]]:
    """Say how tokens make words, which are what blanks separate, by what they decode to.

    Returns:
        For each token whether it begins a word, a blank standing before its text; and the token
        that has the same text with a blank before it, the token itself where there is none.
    """
    [*_, letter] = tokenizer.encode("a", add_special_tokens=False).ids
    before = len(tokenizer.decode([letter]))
    texts = [
        tokenizer.decode([letter, token])[before:] for token in range(tokenizer.get_vocab_size())
    ]
    spaced = {
        text: token for token, text in enumerate(texts) if "\ufffd" not in text
    }  # a piece of a letter is not it
    return [text[:1].isspace() for text in texts], [
        spaced.get(f" {text}", own) for own, text in enumerate(texts)
    ]
