"""The output of a summarizer on a ragged batch, and the training loss.

Under teacher forcing a model reads the reference summary from the start token on and predicts each
next token, so that the outputs at tokens 0 to T-1 are compared with the targets at 1 to T.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-20  # instead of a probability of zero, whose logarithm has no gradient


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """The predicted distribution of the token after each summary token.

    Attributes:
        logits_MV: of the vocabulary.
        weights: for each decoder layer and example the attention to the document, [H, T, S]; empty
            if not asked for.
    """

    logits_MV: Tensor
    weights: list[list[Tensor]]

    def loss(self, targets_M: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy of the target tokens.

        Args:
            targets_M: the next tokens.
            label_smoothing: probability mass that is spread over the vocabulary (Szegedy et al.
                2016, section 7).
        """
        return F.cross_entropy(upcast(self.logits_MV), targets_M, label_smoothing=label_smoothing)

    def token_losses(self, targets_M: Tensor) -> Tensor:
        """Return the cross-entropy of each target token, [M]; ``loss`` without smoothing is its
        mean."""
        return F.cross_entropy(upcast(self.logits_MV), targets_M, reduction="none")

    def log_probabilities(self) -> Tensor:
        """Return the log-probabilities of all tokens, [M, V]."""
        return upcast(self.logits_MV).log_softmax(-1)

    def next_logits(self) -> Tensor:
        """Return what ``SummaryModel.step`` returns for the same tokens: scores [M, V], whose
        softmax are the probabilities."""
        return self.logits_MV

    def divergence(self, other: "ModelOutput") -> Tensor:
        """Return the divergence of two predictions of the same tokens, which R-Drop adds to the
        loss.

        It is the mean over tokens of (KL(p, q) + KL(q, p)) / 2 = sum (p - q)(log p - log q) / 2
        (Liang et al. 2021, equation 2).
        """
        log_p_MV = self.log_probabilities()
        log_q_MV = other.log_probabilities()
        difference_MV = (log_p_MV.exp() - log_q_MV.exp()) * (log_p_MV - log_q_MV)
        return difference_MV.sum(-1).mean() / 2

    def most_likely(self) -> Tensor:
        """Return the most probable tokens, [M]."""
        return self.next_logits().argmax(-1)


def upcast(x: Tensor) -> Tensor:
    """Return half precision as fp32, in which probabilities are accurate, and wider types
    unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def average_heads(weights_HTS: Tensor, gates_H: Tensor | None) -> Tensor:
    """Return the attention to the document averaged over heads, [..., T, S].

    Gated heads are weighted by their gates. If all gates are closed, the heads have equal weights.
    """
    if gates_H is None:
        return weights_HTS.mean(-3)
    open_H = gates_H.clamp_min(0.0)
    total = open_H.sum()
    head_weights_H = torch.where(total > 0, open_H / total.clamp_min(EPSILON), 1 / len(open_H))
    return (weights_HTS * head_weights_H[:, None, None]).sum(-3)
