"""Copying from the document: pointer-generator networks (See et al. 2017, section 2.2) on subwords.

The next token comes from the vocabulary or from the document; a learned gate mixes the two, and the document's tokens
are as likely as the attention on them, averaged over the heads of the last layer that looks at the document. The
mixture is taken for the targets alone in training and as [rows, V] in decoding; no tensor has target, source and
vocabulary at once.

Shapes are suffixes of names: M summary tokens of all examples together, T and S summary and document tokens of one,
H num_heads, V vocabulary_size, R rows of any kind.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST = 1e-20  # a probability that stands for none, so that its logarithm has a gradient


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model expects to follow each summary token of a ragged batch.

    Attributes:
        logits_MV: of the vocabulary.
        weights: for each decoder layer and example where its heads look in the document, [H, T, S]; empty if not
            asked for.
        gate_M: logit of the probability to copy; None: the model does not copy.
        pointers: for each example the attention that copying goes by, [T, S]; empty if the model does not copy.
        document_ids: each document's tokens, [S]; likewise.
    """

    logits_MV: Tensor
    weights: list[list[Tensor]]
    gate_M: Tensor | None = None
    pointers: list[Tensor]
    document_ids: list[Tensor]

    def loss(self, targets_M: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy; smoothing spreads its share over the vocabulary alone."""
        if self.gate_M is None:
            return F.cross_entropy(widen(self.logits_MV), targets_M, label_smoothing=label_smoothing)
        log_vocabulary_MV = widen(self.logits_MV).log_softmax(-1)
        generated_M = log_vocabulary_MV.gather(1, targets_M[:, None])[:, 0]
        likelihood_M = _mix(generated_M, self._copied(targets_M), self.gate_M)
        smooth = log_vocabulary_MV.mean() if label_smoothing else 0.0
        return -(1 - label_smoothing) * likelihood_M.mean() - label_smoothing * smooth

    def coverage_loss(self) -> Tensor:
        """Return how much is looked at again: mean over tokens of sum_s min(a_ts, sum_t'<t a_t's) (section 2.3)."""
        again = [torch.minimum(pointer_TS, pointer_TS.cumsum(0) - pointer_TS).sum() for pointer_TS in self.pointers]
        return torch.stack(again).sum() / len(self.logits_MV)

    def log_probabilities(self) -> Tensor:
        """Return the logarithms of the whole distribution, [M, V]."""
        if self.gate_M is None:
            return widen(self.logits_MV).log_softmax(-1)
        parts = self.logits_MV.split([len(pointer_TS) for pointer_TS in self.pointers])
        gates = self.gate_M.split([len(pointer_TS) for pointer_TS in self.pointers])
        return torch.cat(list(map(mixture, parts, gates, self.pointers, self.document_ids)))

    def likeliest(self) -> Tensor:
        """Return the likeliest tokens, [M]."""
        return (self.logits_MV if self.gate_M is None else self.log_probabilities()).argmax(-1)

    def _copied(self, targets_M: Tensor) -> Tensor:
        """Return the attention mass on each target token, [M]."""
        targets = targets_M.split([len(pointer_TS) for pointer_TS in self.pointers])
        return torch.cat(
            [
                (widen(pointer_TS) * (target_T[:, None] == ids_S)).sum(1)
                for pointer_TS, target_T, ids_S in zip(self.pointers, targets, self.document_ids, strict=True)
            ]
        )


def mixture(logits_RV: Tensor, gate_R: Tensor, pointer_RS: Tensor, ids_S: Tensor) -> Tensor:
    """Return the logarithms of the mixed distribution, [R, V].

    Args:
        logits_RV: of the vocabulary.
        gate_R: logit of the probability to copy.
        pointer_RS: attention on the document.
        ids_S: the document's tokens; where rows have documents of their own, [R, S].
    """
    copied_RV = torch.zeros_like(widen(logits_RV))
    copied_RV.scatter_add_(1, ids_S.expand(pointer_RS.shape).long(), pointer_RS.to(copied_RV.dtype))
    return _mix(widen(logits_RV).log_softmax(-1), copied_RV, gate_R[:, None])


def _mix(log_generated: Tensor, copied: Tensor, gate: Tensor) -> Tensor:
    """Return log(p_gen x generated + (1 - p_gen) x copied)."""
    gate = widen(gate)
    return torch.logaddexp(F.logsigmoid(-gate) + log_generated, F.logsigmoid(gate) + copied.clamp_min(LEAST).log())


def widen(x: Tensor) -> Tensor:
    """Return half precision as fp32, in which probabilities are safe, and anything wider as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pointer(weights_HTS: Tensor, gates_H: Tensor | None) -> Tensor:
    """Return the mean of the heads' attention, [..., T, S]; a gated head has its gate's share in it.

    Where all gates are closed nothing decides among the heads, and all have the same share.
    """
    if gates_H is None:
        return weights_HTS.mean(-3)
    open_H = gates_H.clamp_min(0.0)
    shares_H = torch.where(open_H.sum() > 0, open_H / open_H.sum().clamp_min(LEAST), 1 / len(open_H))
    return (weights_HTS * shares_H[:, None, None]).sum(-3)
