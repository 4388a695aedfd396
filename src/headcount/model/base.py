"""What all summarizers have in common, for training and for generation.

- ``forward`` predicts each token of given summaries, for training
- ``start`` and ``step`` generate: read the documents once, then one token of each hypothesis at a
  time
"""

import math
from abc import abstractmethod
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.config.sections.model import Positions
from headcount.model.copying import mix_next_logits
from headcount.model.dropout import Dropout
from headcount.model.output import ModelOutput, average_heads
from headcount.model.positions import sinusoids
from headcount.model.ragged import BatchLayout


class State(Protocol):
    """The state of generation, as a search sees it. Each architecture has a class of its own.

    Attributes:
        document_ids_BS: the documents' tokens.
        document_bias_B11S: added to scores, -inf in the padding.
        track_attention: set by a search that needs the attention to the documents.
        attention_BWS: attention of the last step to the documents, if it was needed.
    """

    document_ids_BS: Tensor
    document_bias_B11S: Tensor
    track_attention: bool
    attention_BWS: Tensor | None

    def select(self, documents: Tensor) -> None:
        """Keep only these documents, in ascending order."""

    def reorder(self, parents_BW: Tensor) -> None:
        """Let each hypothesis continue another one of its document."""


AnyState = TypeVar("AnyState", bound=State)


class NextTokenModel(Protocol[AnyState]):
    """What a search needs: a summarizer, or several of them that generate as one."""

    def start(
        self, document_ids_N: Tensor, layout: BatchLayout, *, capacity: int, width: int = 1
    ) -> AnyState:
        """See ``SummaryModel.start``."""

    def step(self, token_ids_BW: Tensor, state: AnyState) -> Tensor:
        """See ``SummaryModel.step``."""


class Embedding(nn.Module):
    """Token embeddings, scaled as in Vaswani et al. 2017, section 3.4, plus positional embeddings.

    Args:
        vocabulary_size: number of tokens.
        embedding_size: width.
        positions: sinusoidal and learned encodings are added here; others belong to the attention.
        max_positions: number of positions.
        dropout: probability that a value is dropped.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_size: int,
        positions: Positions,
        max_positions: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary_size, embedding_size)
        self.scale = math.sqrt(embedding_size)

        self.position_table: Tensor | None
        if positions == "learned":
            self.position_table = nn.Parameter(torch.randn(max_positions, embedding_size) * 0.02)
        else:
            table_CD = None
            if positions == "sinusoidal":
                table_CD = sinusoids(max_positions, embedding_size)
            self.register_buffer("position_table", table_CD, persistent=False)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.tokens.weight, std=embedding_size**-0.5)

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return the embeddings [..., D] of tokens at these positions."""
        x = self.tokens(ids) * self.scale
        if self.position_table is not None:
            x = x + F.embedding(positions, self.position_table)
        return self.dropout(x)


def output_layer(embedding: Embedding, *, tied: bool) -> nn.Linear:
    """Return the layer that maps hidden states to logits of the vocabulary.

    Args:
        embedding: of summary tokens.
        tied: whether the layer has the embedding's matrix (Press and Wolf 2017).
    """
    vocabulary_size, embedding_size = embedding.tokens.weight.shape
    output = nn.Linear(embedding_size, vocabulary_size, bias=False)
    if tied:
        output.weight = embedding.tokens.weight
    else:
        nn.init.normal_(output.weight, std=embedding_size**-0.5)
    return output


class SummaryModel(nn.Module, Generic[AnyState]):
    """Base class of the summarizers.

    Args:
        summary_embedding: embedding of summary tokens.
        document_embedding: embedding of document tokens; the same module if they are tied.
        output: the logits of the vocabulary, from ``output_layer``.
        copy_gate: logit of the probability to copy from the document; None: nothing is copied.

    Attributes:
        is_decoder_only: whether document and summary are one text to the model.
    """

    is_decoder_only = False

    def __init__(
        self,
        *,
        summary_embedding: Embedding,
        document_embedding: Embedding,
        output: nn.Linear,
        copy_gate: nn.Linear | None,
    ) -> None:
        super().__init__()
        self.summary_embedding = summary_embedding
        self.document_embedding = document_embedding
        self.output = output
        self.copy_gate = copy_gate

    @abstractmethod
    def forward(
        self,
        document_ids_N: Tensor,
        document_layout: BatchLayout,
        summary_ids_M: Tensor,
        summary_layout: BatchLayout,
        *,
        return_weights: bool = False,
    ) -> ModelOutput:
        """Predict the token after each summary token.

        Args:
            document_ids_N: the documents' tokens, end to end.
            document_layout: where each document begins and ends.
            summary_ids_M: the summaries' tokens, from the start token on.
            summary_layout: where each summary begins and ends.
            return_weights: return the attention to the document in every layer.
        """

    def encode(self, document_ids_N: Tensor, layout: BatchLayout) -> Any:
        """Return what the encoder makes of the documents, which ``forward`` and ``start`` begin
        with; a decoder-only model has no encoder.

        Args:
            document_ids_N: the documents' tokens, end to end.
            layout: where each document begins and ends.

        Raises:
            NotImplementedError: the model is decoder-only.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encoder")

    @abstractmethod
    def start(
        self, document_ids_N: Tensor, layout: BatchLayout, *, capacity: int, width: int = 1
    ) -> AnyState:
        """Read the documents and return the state from which generation starts.

        Args:
            document_ids_N: the documents' tokens, end to end.
            layout: where each document begins and ends.
            capacity: maximum number of tokens of a summary.
            width: number of hypotheses of each document.
        """

    @abstractmethod
    def step(self, token_ids_BW: Tensor, state: AnyState) -> Tensor:
        """Read one token of each hypothesis; return the logits [B, W, V] of the next one and
        advance the state."""

    def next_logits(
        self,
        hidden_BWD: Tensor,
        weights_BHWS: Tensor | None,
        gates_H: Tensor | None,
        state: AnyState,
    ) -> Tensor:
        """Return the logits [B, W, V] of the next token of each hypothesis.

        Args:
            hidden_BWD: hidden states of the last layer.
            weights_BHWS: its attention to the document, if it was needed.
            gates_H: gates of its heads.
            state: it gets the attention, averaged over the heads.
        """
        logits_BWV = self.output(hidden_BWD)
        if weights_BHWS is not None:
            state.attention_BWS = average_heads(weights_BHWS, gates_H)
        if self.copy_gate is not None:
            assert state.attention_BWS is not None
            gate_BW1 = self.copy_gate(hidden_BWD)
            logits_BWV = mix_next_logits(
                logits_BWV, gate_BW1, state.attention_BWS, state.document_ids_BS
            )
        return logits_BWV
