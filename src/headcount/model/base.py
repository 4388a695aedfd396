"""What every summarizer is to training and to search: one forward pass, one cached step, one way to the next token.

Shapes are suffixes of names: B documents, N document tokens and M summary tokens of all examples together, T and S
those of one example, W hypotheses of one document, D embedding_size, H num_heads, V vocabulary_size.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.config.schema import Positions, Tie
from headcount.model.copying import Prediction, mixture, pointer
from headcount.model.dropout import Dropout
from headcount.model.positions import sinusoids
from headcount.model.ragged import Rows


class State(Protocol):
    """What a search may do with the memory of decoding; each model has a kind of its own."""

    document_ids_BS: Tensor
    document_mask_B11S: Tensor
    track_attention: bool  # set by a search that asks where hypotheses look
    look_BWS: Tensor | None  # where the last step looked, if it was asked

    def keep(self, documents: Tensor) -> None:
        """Keep these documents alone, in the order that they have."""

    def branch(self, parents_BW: Tensor) -> None:
        """Make each hypothesis go on from another one of its document."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The tokens' vectors, on the way in and out.

    Attributes:
        vocabulary_size: V.
        embedding_size: D.
        tie_embeddings: one matrix for documents, summaries and output (all), one for summaries and output (output), or
            one for each (none).
        dropout: of what comes in.
        positions: sinusoidal and learned ones are added to what comes in.
        max_positions: how many of those there are.
    """

    vocabulary_size: int
    embedding_size: int
    tie_embeddings: Tie
    dropout: float
    positions: Positions
    max_positions: int


class Embedding(nn.Module):
    """Vectors of tokens, scaled as in Vaswani et al. 2017, section 3.4, with those of their places added."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Make the tables."""
        super().__init__()
        size = vocabulary.embedding_size
        self.tokens = nn.Embedding(vocabulary.vocabulary_size, size)
        self.scale = math.sqrt(size)
        self.places: Tensor | None
        if vocabulary.positions == "learned":
            self.places = nn.Parameter(torch.randn(vocabulary.max_positions, size) * 0.02)
        else:
            table_CD = sinusoids(vocabulary.max_positions, size) if vocabulary.positions == "sinusoidal" else None
            self.register_buffer("places", table_CD, persistent=False)
        self.dropout = Dropout(vocabulary.dropout)
        nn.init.normal_(self.tokens.weight, std=size**-0.5)

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        """Return the vectors [..., D] of tokens that stand at these places."""
        x = self.tokens(ids) * self.scale
        return self.dropout(x if self.places is None else x + F.embedding(places, self.places))


AnyState = TypeVar("AnyState", bound=State)


class SummaryModel(nn.Module, Generic[AnyState]):
    """A summarizer; its subclasses are the architectures."""

    def __init__(self, vocabulary: Vocabulary, *, copying: bool) -> None:
        """Make the embeddings, the output layer and, for copying, its gate."""
        super().__init__()
        self.summary_embedding = Embedding(vocabulary)
        tied = vocabulary.tie_embeddings == "all"
        self.document_embedding = self.summary_embedding if tied else Embedding(vocabulary)
        self.output = nn.Linear(vocabulary.embedding_size, vocabulary.vocabulary_size, bias=False)
        if vocabulary.tie_embeddings == "none":
            nn.init.normal_(self.output.weight, std=vocabulary.embedding_size**-0.5)
        else:
            self.output.weight = self.summary_embedding.tokens.weight
        self.copy_gate = nn.Linear(vocabulary.embedding_size, 1) if copying else None

    @abstractmethod
    def forward(
        self,
        document_ids_N: Tensor,
        document_rows: Rows,
        summary_ids_M: Tensor,
        summary_rows: Rows,
        *,
        return_weights: bool = False,
    ) -> Prediction:
        """Read documents and the beginnings of their summaries.

        Args:
            document_ids_N: the documents' tokens, end to end.
            document_rows: where each document begins and ends.
            summary_ids_M: the summaries' tokens, from the start token.
            summary_rows: where each summary begins and ends.
            return_weights: return where each head looks in the document, too.

        Returns:
            What is expected to follow each summary token.
        """

    @abstractmethod
    def start(self, document_ids_N: Tensor, rows: Rows, *, capacity: int, width: int = 1) -> AnyState:
        """Read documents, once, and make room to write ``width`` summaries of up to ``capacity`` tokens for each."""

    @abstractmethod
    def step(self, token_ids_BW: Tensor, state: AnyState) -> Tensor:
        """Write one token of each hypothesis; return the logits of the next, [B, W, V]. The state moves on.

        With copying the logits are logarithms of the mixed distribution.
        """

    def predict(
        self,
        hidden_MD: Tensor,
        last_weights: list[Tensor] | None,
        last_gates_H: Tensor | None,
        document_ids_N: Tensor,
        document_rows: Rows,
        weights: list[list[Tensor]],
    ) -> Prediction:
        """Make a prediction of the last layer's tokens.

        Args:
            hidden_MD: the tokens.
            last_weights: for copying, where the last layer looks in each document, [H, T, S] an example.
            last_gates_H: the gates of that layer's heads.
            document_ids_N: the documents.
            document_rows: where they begin and end.
            weights: those of every layer, if they were asked for.
        """
        if self.copy_gate is None:
            return Prediction(logits_MV=self.output(hidden_MD), weights=weights, pointers=[], document_ids=[])
        assert last_weights is not None
        return Prediction(
            logits_MV=self.output(hidden_MD),
            weights=weights,
            gate_M=self.copy_gate(hidden_MD)[:, 0],
            pointers=[pointer(weights_HTS, last_gates_H) for weights_HTS in last_weights],
            document_ids=list(document_ids_N.split(document_rows.lengths)),
        )

    def predict_step(
        self, hidden_BWD: Tensor, weights_BHWS: Tensor | None, gates_H: Tensor | None, state: AnyState
    ) -> Tensor:
        """Return the logits [B, W, V] of what follows each hypothesis; with copying, mixed with the document's."""
        logits_BWV = self.output(hidden_BWD)
        if weights_BHWS is not None:
            state.look_BWS = pointer(weights_BHWS, gates_H)
        if self.copy_gate is None:
            return logits_BWV
        assert state.look_BWS is not None
        documents, width, _ = logits_BWV.shape
        ids_RS = state.document_ids_BS[:, None].expand(-1, width, -1).flatten(0, 1)
        gate_R = self.copy_gate(hidden_BWD).flatten()
        pointer_RS = state.look_BWS.flatten(0, 1)
        return mixture(logits_BWV.flatten(0, 1), gate_R, pointer_RS, ids_RS).view(documents, width, -1)
