"""BPE-dropout (Provilkov et al. 2020): words are split otherwise than the tokenizer splits them,
in another way in each epoch.

The library's own dropout cannot be seeded, so a resumed run would not repeat it. This one takes
its random numbers from the caller.
"""

import json
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from headcount.data.tokens import Ids
from headcount.errors import ConfigError

LONGEST_WORD = 64  # characters; longer ones, which are no words, keep their tokens
CHECKED_CHARACTERS = 2000  # of a text, to check that merging is understood


class BpeDropout:
    """Encodes texts with a BPE tokenizer of which each merge is left out with a probability.

    A word that occurs several times in a call is split the same way each time, so that a model can
    copy it from a document to its summary. At most ``LONGEST_WORD`` squared look-ups are made for
    a word.

    Args:
        tokenizer: from ``headcount.data.tokenizer``.
        probability: that a possible merge is left out at a step; 0 encodes as the tokenizer does.
        examples: texts on which it is checked that a probability of 0 does.

    Raises:
        ConfigError: the tokenizer is no BPE over all bytes, or one with further rules.
    """

    def __init__(
        self, tokenizer: Tokenizer, probability: float, examples: Sequence[str] = ()
    ) -> None:
        self.tokenizer = tokenizer
        self.probability = probability
        self.vocabulary = tokenizer.get_vocab(with_added_tokens=False)

        # For each pair of tokens the rank of its merge and the token that it makes.
        self.merges: dict[tuple[int, int], tuple[int, int]] = {}
        is_understood = self.vocabulary.keys() >= set(ByteLevel.alphabet())
        try:
            for rank, (left, right) in enumerate(_read_merges(tokenizer)):
                pair = (self.vocabulary[left], self.vocabulary[right])
                self.merges[pair] = (rank, self.vocabulary[left + right])
            is_understood &= all(self._is_same(text) for text in examples)
        except (KeyError, ValueError, TypeError):
            is_understood = False
        if not is_understood:
            raise ConfigError(
                f"data.bpe_dropout={probability}: the tokenizer is no BPE over all bytes; "
                "legal: 0, or tokenizer.algorithm=bpe"
            )

    def _is_same(self, text: str) -> bool:
        """Return whether a text is encoded as by the tokenizer, without dropout."""
        text = text[:CHECKED_CHARACTERS]
        [ids] = self.encode([text], Random(0), probability=0.0)
        return ids.tolist() == self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode(
        self, texts: Sequence[str], random: Random, *, probability: float | None = None
    ) -> list[Ids]:
        """Return the token ids of texts of one example, without special tokens.

        Args:
            texts: of which equal words are split the same way.
            random: decides which merges are left out.
            probability: see the class; None: its own.
        """
        if probability is None:
            probability = self.probability
        ids_of_word: dict[str, list[int]] = {}
        encoded = []
        for text in texts:
            ids: list[int] = []
            for word in self._words(text):
                if word not in ids_of_word:
                    ids_of_word[word] = self._split(word, random.random, probability)
                ids += ids_of_word[word]
            encoded.append(np.array(ids, np.int32))
        return encoded

    def _words(self, text: str) -> list[str]:
        """Return the words within which BPE merges, as the characters that stand for bytes."""
        if self.tokenizer.normalizer is not None:
            text = self.tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    def _split(self, word: str, draw: Callable[[], float], probability: float) -> list[int]:
        """Merge the characters of a word (Provilkov et al. 2020, algorithm 1)."""
        if len(word) > LONGEST_WORD:
            return [token.id for token in self.tokenizer.model.tokenize(word)]
        ids = [self.vocabulary[character] for character in word]
        while True:
            # Of the merges that are not left out at this step, the first one learned.
            best: tuple[int, int, int] | None = None
            for place in range(len(ids) - 1):
                merge = self.merges.get((ids[place], ids[place + 1]))
                if merge is None or (best is not None and merge[0] >= best[0]):
                    continue
                if draw() >= probability:
                    best = (*merge, place)
            if best is None:
                return ids
            _, merged, place = best
            ids[place : place + 2] = [merged]


def _read_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """Return the merges of a tokenizer in the order in which they were learned.

    Raises:
        KeyError, ValueError: it has none.
    """
    merges = []
    for merge in json.loads(tokenizer.to_str())["model"]["merges"]:
        # Older files have a text for each.
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges.append((left, right))
    return merges
