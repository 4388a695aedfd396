"""The output of a summarizer on a ragged batch, and the training loss.

Under teacher forcing a model reads the reference summary from the start token on and predicts each
next token, so that the outputs at tokens 0 to T-1 are compared with the targets at 1 to T.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from headcount.model.copying import mix, mixture, upcast


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """The predicted distribution of the token after each summary token.

    Attributes:
        logits_MV: of the vocabulary.
        weights: for each decoder layer and example the attention to the document, [H, T, S]; empty
            if not asked for.
        gate_M: logit of the probability to copy; None: the model does not copy.
        pointers: for each example the attention that copying uses, [T, S]; empty if the model does
            not copy.
        document_ids: for each example the document's tokens, [S]; empty if the model does not
            copy.
    """

    logits_MV: Tensor
    weights: list[list[Tensor]]
    gate_M: Tensor | None = None
    pointers: list[Tensor]
    document_ids: list[Tensor]

    def loss(self, targets_M: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy of the target tokens.

        With copying the probability of a target is that of the mixture.

        Args:
            targets_M: the next tokens.
            label_smoothing: probability mass that is spread over the vocabulary (Szegedy et al.
                2016, section 7).
        """
        if self.gate_M is None:
            return F.cross_entropy(
                upcast(self.logits_MV), targets_M, label_smoothing=label_smoothing
            )

        log_vocabulary_MV = upcast(self.logits_MV).log_softmax(-1)
        log_likelihood_M = self._log_mixture(log_vocabulary_MV, targets_M, self.gate_M)

        # Smoothing is over the vocabulary, not over the document.
        uniform = log_vocabulary_MV.mean() if label_smoothing else 0.0
        return -(1 - label_smoothing) * log_likelihood_M.mean() - label_smoothing * uniform

    def token_losses(self, targets_M: Tensor) -> Tensor:
        """Return the cross-entropy of each target token, [M]; ``loss`` without smoothing is its
        mean."""
        if self.gate_M is None:
            return F.cross_entropy(upcast(self.logits_MV), targets_M, reduction="none")
        log_vocabulary_MV = upcast(self.logits_MV).log_softmax(-1)
        return -self._log_mixture(log_vocabulary_MV, targets_M, self.gate_M)

    def coverage_loss(self) -> Tensor:
        """Return the coverage loss, which penalizes repeated attention (See et al. 2017, section
        2.3).

        It is the mean over tokens of sum_s min(a_ts, sum_{t' < t} a_t's).
        """
        repeated = []
        for pointer_TS in self.pointers:
            coverage_TS = pointer_TS.cumsum(0) - pointer_TS
            repeated.append(torch.minimum(pointer_TS, coverage_TS).sum())
        return torch.stack(repeated).sum() / len(self.logits_MV)

    def log_probabilities(self) -> Tensor:
        """Return the log-probabilities of all tokens, [M, V]."""
        if self.gate_M is None:
            return upcast(self.logits_MV).log_softmax(-1)
        lengths = [len(pointer_TS) for pointer_TS in self.pointers]
        examples = zip(
            self.logits_MV.split(lengths),
            self.gate_M.split(lengths),
            self.pointers,
            self.document_ids,
            strict=True,
        )
        return torch.cat([mixture(*example) for example in examples])

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
        scores_MV = self.logits_MV if self.gate_M is None else self.log_probabilities()
        return scores_MV.argmax(-1)

    def _log_mixture(self, log_vocabulary_MV: Tensor, targets_M: Tensor, gate_M: Tensor) -> Tensor:
        """Return the log-probability of each target token under the mixture, [M].

        It is computed for the targets only, not for the vocabulary.
        """
        log_generated_M = log_vocabulary_MV.gather(1, targets_M[:, None])[:, 0]
        return mix(log_generated_M, self._copy_probability(targets_M), gate_M)

    def _copy_probability(self, targets_M: Tensor) -> Tensor:
        """Return the attention to all occurrences of each target token in its document, [M]."""
        lengths = [len(pointer_TS) for pointer_TS in self.pointers]
        probabilities = []
        for pointer_TS, target_T, ids_S in zip(
            self.pointers, targets_M.split(lengths), self.document_ids, strict=True
        ):
            is_target_TS = target_T[:, None] == ids_S
            probabilities.append((upcast(pointer_TS) * is_target_TS).sum(1))
        return torch.cat(probabilities)
