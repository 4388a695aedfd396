"""A generated summary, and what all searches do with batches of them."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from headcount.model.ragged import BatchLayout


@dataclass(frozen=True)
class Hypothesis:
    """A generated summary.

    Attributes:
        tokens: without the start and the end token.
        score: what the summaries of a document are ranked by. Greedy search and sampling: the
            log-probability, at temperature 1 and of all tokens, but with the repetition penalty.
            Beam search: this minus diversity penalties, divided by the length penalty, plus the
            coverage term. Minimum Bayes risk: the expected utility.
        finished: whether the summary ended with the end token, not at the maximum length.
    """

    tokens: list[int]
    score: float
    finished: bool

    @classmethod
    def from_tokens(cls, tokens: list[int], score: float, end_id: int) -> "Hypothesis":
        """Return the hypothesis of generated tokens, which may be padded with end tokens."""
        if end_id not in tokens:
            return cls(tokens, score, finished=False)
        return cls(tokens[: tokens.index(end_id)], score, finished=True)

    def generated(self, end_id: int) -> list[int]:
        """Return the tokens that the model chose: with the end token, unless it was cut before.

        A model that reads its summary again has positions for no more than these.
        """
        return [*self.tokens, end_id] if self.finished else list(self.tokens)


@dataclass
class OpenDocuments:
    """Tensors about the documents that are still in the batch; the first dimension of each counts
    the documents."""

    def select(self, documents: Tensor) -> None:
        """Keep only these documents."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name)[documents])


def log_normalizer(logits_BWV: Tensor) -> Tensor:
    """Return the logarithm of the sum of exponentials, [B, W], in one pass over the logits.

    The logit of the first token must be finite and not much smaller than the others, so this comes
    before the constraints.
    """
    first_BW = logits_BWV[..., 0].float()
    return first_BW - logits_BWV.float().log_softmax(-1)[..., 0]


def sort_by_length(
    document_ids_N: Tensor, layout: BatchLayout
) -> tuple[Tensor, BatchLayout, list[int]]:
    """Sort documents by descending length, which saves padding.

    Returns:
        The sorted documents, their layout, and the original index of each.
    """
    order = sorted(range(len(layout.lengths)), key=lambda document: -layout.lengths[document])
    documents = document_ids_N.split(layout.lengths)
    sorted_N = torch.cat([documents[document] for document in order])
    lengths = [layout.lengths[document] for document in order]
    return sorted_N, BatchLayout.from_lengths(lengths, document_ids_N.device), order
