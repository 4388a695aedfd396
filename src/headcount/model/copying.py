"""Copying from the document: the pointer-generator network (See et al. 2017, section 2.2) on
subwords.

The next token comes from the vocabulary or from the document. A learned gate mixes the two
distributions. The distribution over the document is the attention of the last layer to it,
averaged over the heads.

A model that copies has the gate, a linear layer. In training it returns a ``CopyOutput``, made by
``with_copying``; in generation its next logits are those of ``mix_next_logits``.

In training the mixture is computed for the target tokens only. No tensor has target, source and
vocabulary axes at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from headcount.model.output import EPSILON, ModelOutput, average_heads, upcast
from headcount.model.ragged import BatchLayout


@dataclass(frozen=True, kw_only=True)
class CopyOutput(ModelOutput):
    """The mixed distribution of the token after each summary token.

    Attributes:
        gate_M: logit of the probability to copy.
        pointers: for each example the attention that copying uses, [T, S].
        document_ids: for each example the document's tokens, [S].
    """

    gate_M: Tensor
    pointers: list[Tensor]
    document_ids: list[Tensor]

    def loss(self, targets_M: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """See ``ModelOutput.loss``. The probability of a target is that of the mixture."""
        log_vocabulary_MV = super().log_probabilities()
        log_likelihood_M = self._log_mixture(log_vocabulary_MV, targets_M)

        # Smoothing is over the vocabulary, not over the document.
        uniform = log_vocabulary_MV.mean() if label_smoothing else 0.0
        return -(1 - label_smoothing) * log_likelihood_M.mean() - label_smoothing * uniform

    def token_losses(self, targets_M: Tensor) -> Tensor:
        """See ``ModelOutput.token_losses``."""
        return -self._log_mixture(super().log_probabilities(), targets_M)

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
        """See ``ModelOutput.log_probabilities``."""
        lengths = [len(pointer_TS) for pointer_TS in self.pointers]
        examples = zip(
            self.logits_MV.split(lengths),
            self.gate_M.split(lengths),
            self.pointers,
            self.document_ids,
            strict=True,
        )
        return torch.cat([mixture(*example) for example in examples])

    def next_logits(self) -> Tensor:
        """See ``ModelOutput.next_logits``; they are the log-probabilities of the mixture."""
        return self.log_probabilities()

    def copied_share(self, targets_M: Tensor, probability_M: Tensor) -> Tensor:
        """Return the share of each target token's probability that comes from copying it, [M].

        Args:
            targets_M: the next tokens.
            probability_M: their probabilities under the mixture.
        """
        copied_M = upcast(self.gate_M).sigmoid() * self._copy_probability(targets_M)
        return (copied_M / probability_M.clamp_min(EPSILON)).clamp(0, 1)

    def _log_mixture(self, log_vocabulary_MV: Tensor, targets_M: Tensor) -> Tensor:
        """Return the log-probability of each target token under the mixture, [M].

        It is computed for the targets only, not for the vocabulary.
        """
        log_generated_M = log_vocabulary_MV.gather(1, targets_M[:, None])[:, 0]
        return mix(log_generated_M, self._copy_probability(targets_M), self.gate_M)

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


def with_copying(
    output: ModelOutput,
    gate_M1: Tensor,
    last_weights: list[Tensor],
    last_gates_H: Tensor | None,
    document_ids_N: Tensor,
    document_layout: BatchLayout,
) -> CopyOutput:
    """Return the output of a model mixed with what it copies.

    Args:
        output: of the vocabulary.
        gate_M1: logit of the probability to copy.
        last_weights: attention of the last layer to the document, [H, T, S] for each example.
        last_gates_H: gates of the heads of that layer.
        document_ids_N: the documents' tokens, end to end.
        document_layout: where each document begins and ends.
    """
    return CopyOutput(
        logits_MV=output.logits_MV,
        weights=output.weights,
        gate_M=gate_M1[:, 0],
        pointers=[average_heads(weights_HTS, last_gates_H) for weights_HTS in last_weights],
        document_ids=list(document_ids_N.split(document_layout.lengths)),
    )


def mix_next_logits(
    logits_BWV: Tensor, gate_BW1: Tensor, pointer_BWS: Tensor, document_ids_BS: Tensor
) -> Tensor:
    """Return the log-probabilities of the mixed distribution of each hypothesis, [B, W, V].

    Args:
        logits_BWV: of the vocabulary.
        gate_BW1: logit of the probability to copy.
        pointer_BWS: attention to the document.
        document_ids_BS: the documents' tokens.
    """
    # Each hypothesis is a row of its own: R = B x W.
    width = logits_BWV.shape[1]
    mixture_RV = next_token_mixture(
        logits_BWV.flatten(0, 1),
        gate_BW1.flatten(),
        pointer_BWS.flatten(0, 1),
        document_ids_BS[:, None].expand(-1, width, -1).flatten(0, 1),
    )
    return mixture_RV.view_as(logits_BWV)


def mixture(logits_RV: Tensor, gate_R: Tensor, pointer_RS: Tensor, ids_S: Tensor) -> Tensor:
    """Return the log-probabilities of the mixed distribution, [R, V].

    Args:
        logits_RV: of the vocabulary.
        gate_R: logit of the probability to copy.
        pointer_RS: attention to the document.
        ids_S: the document's tokens; [R, S] if the rows have different documents.
    """
    copied_RV = torch.zeros_like(upcast(logits_RV))
    copied_RV.scatter_add_(
        1, ids_S.expand(pointer_RS.shape).long(), pointer_RS.to(copied_RV.dtype)
    )
    return mix(upcast(logits_RV).log_softmax(-1), copied_RV, gate_R[:, None])


@torch.no_grad()
def next_token_mixture(
    logits_RV: Tensor, gate_R: Tensor, pointer_RS: Tensor, ids_S: Tensor
) -> Tensor:
    """Return what ``mixture`` returns, without a gradient, about four times as fast.

    Only the tokens of the document are mixed; of any other one nothing is copied. ``mixture``
    gives those ``EPSILON`` instead of zero, which in fp32 makes a difference for log-probabilities
    below -25 only.

    Args:
        logits_RV: as in ``mixture``.
        gate_R: likewise.
        pointer_RS: likewise.
        ids_S: likewise.
    """
    log_generated_RV = upcast(logits_RV).log_softmax(-1)
    ids_RS = ids_S.expand(pointer_RS.shape).long()
    copied_RV = torch.zeros_like(log_generated_RV)
    copied_RV.scatter_add_(1, ids_RS, pointer_RS.to(copied_RV.dtype))

    # A token that is several times in the document gets the same value each time.
    gate_R1 = gate_R[:, None]
    mixed_RS = mix(log_generated_RV.gather(1, ids_RS), copied_RV.gather(1, ids_RS), gate_R1)
    log_from_vocabulary_RV = F.logsigmoid(-upcast(gate_R1)) + log_generated_RV
    return log_from_vocabulary_RV.scatter_(1, ids_RS, mixed_RS)


def mix(log_generated: Tensor, copied: Tensor, gate: Tensor) -> Tensor:
    """Return log((1 - p) x generated + p x copied), with p the sigmoid of the gate."""
    gate = upcast(gate)
    log_from_vocabulary = F.logsigmoid(-gate) + log_generated
    log_from_document = F.logsigmoid(gate) + copied.clamp_min(EPSILON).log()
    return torch.logaddexp(log_from_vocabulary, log_from_document)
