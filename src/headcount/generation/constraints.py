"""What a summary may not say next: too short an end, a phrase again, a word too eagerly.

Shapes are suffixes of names: B documents, W hypotheses of each, T tokens written, V vocabulary_size.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Words:
    """Which tokens make words: one begins where a token that begins a word stands, and with the summary.

    Attributes:
        begins_V: whether a token begins a word.
        within_V: the token that would stand, within a summary, for a token at its beginning, where no space is before
            it; the token itself where there is none.
    """

    begins_V: Tensor
    within_V: Tensor

    def to(self, device: torch.device) -> "Words":
        """Return the same on another device."""
        return Words(begins_V=self.begins_V.to(device), within_V=self.within_V.to(device))


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Limits on what is written.

    Attributes:
        min_tokens: no summary ends before it has this many tokens, the end token included.
        no_repeat_ngram: no run of this many words stands in a summary twice (Paulus et al. 2018, section 2.5, block
            trigrams); 0: any may. A word that would be the last of one is not begun: no word that begins with the same
            token is, as what is begun must be fit to be ended.
        words: which tokens make words; None: each token is one.
        repetition_penalty: the log-probability of a token that was written before is multiplied by this (after Keskar
            et al. 2019, section 4.1); 1: nothing.
    """

    min_tokens: int = 0
    no_repeat_ngram: int = 0
    words: Words | None = None
    repetition_penalty: float = 1.0

    def apply(self, logits_BWV: Tensor, written_BWT: Tensor, end_id: int) -> Tensor:
        """Return the logits with what may not come next at -inf.

        Args:
            logits_BWV: of the next token; they are changed in place.
            written_BWT: the tokens so far, without the start token.
            end_id: token that ends a summary.

        Returns:
            The same logits; what is left of a probability is not spread over the others.
        """
        written = written_BWT.shape[2]
        if self.repetition_penalty != 1.0 and written:
            total_BW1 = logits_BWV.float().logsumexp(-1, keepdim=True)
            log_BWT = logits_BWV.gather(-1, written_BWT).float() - total_BW1
            logits_BWV.scatter_(-1, written_BWT, (log_BWT * self.repetition_penalty + total_BW1).to(logits_BWV.dtype))
        if self.no_repeat_ngram and written:
            document, hypothesis, token = self._repeats(written_BWT)
            logits_BWV[document, hypothesis, token] = -math.inf
        if written + 1 < self.min_tokens:
            logits_BWV[..., end_id] = -math.inf
        return logits_BWV

    def _repeats(self, written_BWT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens that may not come next: each its document, its hypothesis and itself.

        They are those that begin a word and come after the same words, all but one of a run, as stand at the end.
        """
        begins_BWT = torch.ones_like(written_BWT, dtype=torch.bool)
        if self.words is not None:
            written_BWT = torch.cat([self.words.within_V[written_BWT[:, :, :1]], written_BWT[:, :, 1:]], 2)
            begins_BWT = self.words.begins_V[written_BWT]
        words_after_BWT = begins_BWT.flip(2).cumsum(2).flip(2) - begins_BWT.long()
        at_end_BWT = words_after_BWT < self.no_repeat_ngram - 1
        longest, written = int(at_end_BWT.sum(2).amax()), written_BWT.shape[2]
        before_BWTR = F.pad(written_BWT, (longest, 0), value=-1).unfold(2, longest, 1)[:, :, :written]
        end_BW1R, counts_BW1R = (each[:, :, None, written - longest :] for each in (written_BWT, at_end_BWT))
        again_BWT = begins_BWT & ((before_BWTR == end_BW1R) | ~counts_BW1R).all(3)
        document, hypothesis, place = again_BWT.nonzero(as_tuple=True)
        return document, hypothesis, written_BWT[document, hypothesis, place]


def nucleus(logits_RV: Tensor, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Return the logits that sampling draws from.

    Args:
        logits_RV: of the next token.
        temperature: below 1 sharpens, above 1 flattens.
        top_k: only the likeliest k stay (Fan et al. 2018); 0: all.
        top_p: only the likeliest whose probabilities reach p together stay (Holtzman et al. 2020); 1: all.
    """
    logits_RV = logits_RV.float() / temperature
    if top_k:
        least_R1 = logits_RV.topk(min(top_k, logits_RV.shape[-1])).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < least_R1, -math.inf)
    if top_p < 1.0:
        sorted_RV, order_RV = logits_RV.sort(descending=True)
        before_RV = sorted_RV.softmax(-1).cumsum(-1) - sorted_RV.softmax(-1)
        dropped_RV = torch.zeros_like(before_RV, dtype=torch.bool).scatter_(
            1, order_RV, (before_RV >= top_p) & (before_RV > 0)
        )
        logits_RV = logits_RV.masked_fill(dropped_RV, -math.inf)
    return logits_RV
