"""Constraints on the next token: minimum length, n-gram blocking, repetition penalty.

Each is a class with one method, ``apply``, which changes the logits of the next token in place.
Probability that a constraint removes is not redistributed: scores stay the model's
log-probabilities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from headcount.config.sections.generation import GenerationConfig


class Constraint(Protocol):
    """A constraint on the next token."""

    def apply(self, logits_BWV: Tensor, generated_BWT: Tensor) -> None:
        """Change the logits of the next token in place.

        Args:
            logits_BWV: of the next token of each hypothesis.
            generated_BWT: the tokens so far, without the start token.
        """


@dataclass(frozen=True, kw_only=True)
class MinimumLength:
    """No summary ends before it has ``min_tokens`` tokens, with the end token."""

    min_tokens: int
    end_id: int

    def apply(self, logits_BWV: Tensor, generated_BWT: Tensor) -> None:
        """See ``Constraint.apply``."""
        if generated_BWT.shape[2] + 1 < self.min_tokens:
            logits_BWV[..., self.end_id] = -math.inf


@dataclass(frozen=True, kw_only=True)
class RepetitionPenalty:
    """Log-probabilities of tokens that were generated before are multiplied by ``penalty``.

    After Keskar et al. 2019, section 4.1, who divide logits. Log-probabilities are never positive,
    so that a factor above 1 always lowers them.
    """

    penalty: float

    def apply(self, logits_BWV: Tensor, generated_BWT: Tensor) -> None:
        """See ``Constraint.apply``."""
        if not generated_BWT.shape[2]:
            return
        log_normalizer_BW1 = logits_BWV.float().logsumexp(-1, keepdim=True)
        log_prob_BWT = logits_BWV.gather(-1, generated_BWT).float() - log_normalizer_BW1
        penalized_BWT = log_prob_BWT * self.penalty + log_normalizer_BW1
        logits_BWV.scatter_(-1, generated_BWT, penalized_BWT.to(logits_BWV.dtype))


@dataclass(frozen=True, kw_only=True)
class Words:
    """Which tokens form words. A word begins at a token that begins with a space, and at the
    beginning of a summary.

    Attributes:
        begins_V: whether a token begins a word.
        within_V: for a token at the beginning of a summary, which has no space before it, the
            token that the same text has within a summary; the token itself if there is none.
    """

    begins_V: Tensor
    within_V: Tensor

    def to(self, device: torch.device) -> "Words":
        """Return the same on another device."""
        return Words(begins_V=self.begins_V.to(device), within_V=self.within_V.to(device))


@dataclass(frozen=True, kw_only=True)
class NoRepeatNgram:
    """No n-gram of words of this size occurs twice in a summary (Paulus et al. 2018, section 2.5:
    trigrams).

    A word that would complete a repeated n-gram is not begun. Neither is any other word that
    begins with the same token, because a word that has begun must be allowed to end.

    Attributes:
        size: of the n-grams.
        words: which tokens form words; None: each token is a word.
    """

    size: int
    words: Words | None = None

    def apply(self, logits_BWV: Tensor, generated_BWT: Tensor) -> None:
        """See ``Constraint.apply``."""
        if generated_BWT.shape[2]:
            document, hypothesis, token = self._blocked(generated_BWT)
            logits_BWV[document, hypothesis, token] = -math.inf

    def _blocked(self, generated_BWT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens that may not come next: the index of the document, of the hypothesis,
        and the token.

        They are the tokens that begin a word and follow an earlier occurrence of the last size - 1
        words.
        """
        begins_BWT = torch.ones_like(generated_BWT, dtype=torch.bool)
        if self.words is not None:
            first_BW1 = self.words.within_V[generated_BWT[:, :, :1]]
            generated_BWT = torch.cat([first_BW1, generated_BWT[:, :, 1:]], 2)
            begins_BWT = self.words.begins_V[generated_BWT]

        # The last size - 1 words are the tokens that fewer than size - 1 words begin after.
        words_from_here_BWT = begins_BWT.flip(2).cumsum(2).flip(2)
        words_after_BWT = words_from_here_BWT - begins_BWT.long()
        in_suffix_BWT = words_after_BWT < self.size - 1

        # Compare the suffix with the tokens before each position: windows of Q tokens, the longest
        # suffix. Shorter suffixes ignore the beginning of their window.
        time = generated_BWT.shape[2]
        window = int(in_suffix_BWT.sum(2).amax())
        before_BWTQ = F.pad(generated_BWT, (window, 0), value=-1).unfold(2, window, 1)[:, :, :time]
        suffix_BW1Q = generated_BWT[:, :, None, time - window :]
        is_suffix_BW1Q = in_suffix_BWT[:, :, None, time - window :]
        matches_BWT = ((before_BWTQ == suffix_BW1Q) | ~is_suffix_BW1Q).all(3)

        document, hypothesis, position = (begins_BWT & matches_BWT).nonzero(as_tuple=True)
        return document, hypothesis, generated_BWT[document, hypothesis, position]


def build_constraints(
    config: GenerationConfig, *, end_id: int, words: Words | None = None
) -> list[Constraint]:
    """Return the constraints that a config asks for, in the order in which they are applied.

    Args:
        config: the ``generation`` section.
        end_id: the end token.
        words: which tokens form words, for n-gram blocking; None: each token is a word.
    """
    constraints: list[Constraint] = []
    if config.repetition_penalty != 1.0:
        constraints.append(RepetitionPenalty(penalty=config.repetition_penalty))
    if config.no_repeat_ngram_size:
        constraints.append(NoRepeatNgram(size=config.no_repeat_ngram_size, words=words))
    if config.min_tokens:
        constraints.append(MinimumLength(min_tokens=config.min_tokens, end_id=end_id))
    return constraints


def apply_constraints(
    constraints: Sequence[Constraint], logits_BWV: Tensor, generated_BWT: Tensor
) -> None:
    """Apply constraints to the logits of the next token, in place."""
    for constraint in constraints:
        constraint.apply(logits_BWV, generated_BWT)
