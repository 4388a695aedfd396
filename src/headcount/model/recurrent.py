"""The recurrent encoder-decoder with additive attention (Bahdanau et al. 2015).

A bidirectional GRU (Cho et al. 2014) or LSTM reads the document. At each step the decoder attends
to the document with its last state, reads the context vector together with the last token, and
updates its state.

The encoder computes no padding: it reads the ragged tokens in time-major order. The decoder pads
the documents of a batch, not the summaries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from headcount.config.sections.model import Cell
from headcount.model.additive_attention import AdditiveAttention
from headcount.model.base import Embedding, SummaryModel
from headcount.model.copying import with_copying
from headcount.model.decoder_cache import additive_bias
from headcount.model.dropout import Dropout
from headcount.model.output import ModelOutput
from headcount.model.ragged import BatchLayout

CELLS: dict[Cell, tuple[type[nn.GRU | nn.LSTM], type[nn.GRUCell | nn.LSTMCell]]] = {
    "gru": (nn.GRU, nn.GRUCell),
    "lstm": (nn.LSTM, nn.LSTMCell),
}


@dataclass(kw_only=True)
class RecurrentState:
    """The state of recurrent generation between two steps.

    Attributes:
        hidden: state of each layer and hypothesis, [B, W, D]; for an LSTM [B, W, 2 D], with the
            cell in the second half.
        key_BHSK: keys of the documents, computed once.
        value_BHSK: values of the documents.
        document_ids_BS: the documents' tokens.
        document_bias_B11S: added to scores, -inf in the padding.
        track_attention: not needed, because additive attention always returns its weights.
        attention_BWS: attention of the last step to the documents.
    """

    hidden: list[Tensor]
    key_BHSK: Tensor
    value_BHSK: Tensor
    document_ids_BS: Tensor
    document_bias_B11S: Tensor
    track_attention: bool = False
    attention_BWS: Tensor | None = None

    def select(self, documents: Tensor | slice) -> None:
        """Keep only these documents."""
        self.hidden = [layer[documents] for layer in self.hidden]
        self.key_BHSK = self.key_BHSK[documents]
        self.value_BHSK = self.value_BHSK[documents]
        self.document_ids_BS = self.document_ids_BS[documents]
        self.document_bias_B11S = self.document_bias_B11S[documents]

    def reorder(self, parents_BW: Tensor) -> None:
        """Let each hypothesis continue another one of its document."""
        self.hidden = [
            layer.gather(1, parents_BW[:, :, None].expand_as(layer)) for layer in self.hidden
        ]


class Recurrent(SummaryModel[RecurrentState]):
    """A bidirectional recurrent encoder, additive attention, and a recurrent decoder.

    Every state is embedding_size wide; in the encoder each direction has half of it.

    Args:
        summary_embedding: embedding of summary tokens.
        document_embedding: embedding of document tokens.
        output: the logits of the vocabulary.
        copy_gate: logit of the probability to copy from the document; None: nothing is copied.
        cell: gru or lstm.
        encoder_layers: number of encoder layers.
        decoder_layers: number of decoder layers; the first one reads token and context vector.
        num_heads: heads of the attention; 1 in the paper.
        kept_heads: of a pruned model, the indices of the heads that remain; None: all.
        dropout: probability that a value is dropped between layers and before the output.

    Raises:
        ValueError: embedding_size is odd.
    """

    def __init__(
        self,
        *,
        summary_embedding: Embedding,
        document_embedding: Embedding,
        output: nn.Linear,
        copy_gate: nn.Linear | None,
        cell: Cell,
        encoder_layers: int,
        decoder_layers: int,
        num_heads: int,
        kept_heads: Sequence[int] | None = None,
        dropout: float,
    ) -> None:
        super().__init__(
            summary_embedding=summary_embedding,
            document_embedding=document_embedding,
            output=output,
            copy_gate=copy_gate,
        )
        size = summary_embedding.tokens.embedding_dim
        if size % 2:
            raise ValueError(f"embedding_size={size} is odd; a bidirectional encoder halves it")
        network_class, cell_class = CELLS[cell]
        self.is_lstm = cell == "lstm"

        # Each direction of the encoder has half of the width.
        self.encoder = network_class(
            size,
            size // 2,
            encoder_layers,
            bidirectional=True,
            dropout=dropout if encoder_layers > 1 else 0.0,
        )
        self.initial_state = nn.Linear(size // 2, decoder_layers * size)
        self.attention = AdditiveAttention(
            embedding_size=size, num_heads=num_heads, kept_heads=kept_heads
        )

        # The first decoder cell reads token and context vector, the others the layer below.
        context_size = self.attention.context_size
        cells = [
            cell_class(size + context_size if index == 0 else size, size)
            for index in range(decoder_layers)
        ]
        self.decoder = cast(list[nn.GRUCell | nn.LSTMCell], nn.ModuleList(cells))
        self.readout = nn.Linear(2 * size + context_size, size)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        document_ids_N: Tensor,
        document_layout: BatchLayout,
        summary_ids_M: Tensor,
        summary_layout: BatchLayout,
        *,
        return_weights: bool = False,
    ) -> ModelOutput:
        """See ``SummaryModel.forward``.

        Each step computes only the summaries that have not ended.
        """
        # The longest summaries come first, so that those that have ended are at the end of the
        # batch.
        order = _longest_first(summary_layout.lengths)
        lengths = [summary_layout.lengths[example] for example in order]
        state = self.start(document_ids_N, document_layout)
        state.select(torch.tensor(order, device=document_ids_N.device))
        x_MD = self.summary_embedding(summary_ids_M, summary_layout.positions)
        x_BTD = summary_layout.pad(x_MD)[0][order]

        hidden_by_time = []
        attention_by_time = []
        for time in range(lengths[0]):
            unfinished = sum(length > time for length in lengths)
            if unfinished < len(state.document_ids_BS):
                state.select(slice(unfinished))
            hidden_BWD, weights_BHWS = self._advance(x_BTD[:unfinished, time, None], state)
            hidden_by_time.append(hidden_BWD[:, 0])
            attention_by_time.append(weights_BHWS[:, :, 0])

        # Back from time-major order to the order of the ragged batch.
        ragged_order_M = time_major_order(order, summary_layout).argsort()
        weights = []
        if return_weights or self.copy_gate is not None:
            weights_MHS = torch.cat(attention_by_time)[ragged_order_M]
            examples = weights_MHS.split(summary_layout.lengths)
            for weights_THS, sources in zip(examples, document_layout.lengths, strict=True):
                weights.append(weights_THS[:, :, :sources].transpose(0, 1))

        hidden_MD = torch.cat(hidden_by_time)[ragged_order_M]
        output = ModelOutput(
            logits_MV=self.output(hidden_MD), weights=[weights] if return_weights else []
        )
        if self.copy_gate is not None:
            output = with_copying(
                output,
                self.copy_gate(hidden_MD),
                weights,
                self.attention.head_gates,
                document_ids_N,
                document_layout,
            )
        return output

    def start(
        self, document_ids_N: Tensor, layout: BatchLayout, *, capacity: int = 0, width: int = 1
    ) -> RecurrentState:
        """See ``SummaryModel.start``. The state has a fixed size, so the capacity is not used."""
        memory_ND, backward_BD = self.encode(document_ids_N, layout)
        memory_BSD, is_token_BS = layout.pad(self.dropout(memory_ND))
        key_BHSK, value_BHSK = self.attention.project_memory(memory_BSD)
        ids_BS, _ = layout.pad(document_ids_N)
        return RecurrentState(
            hidden=self._initial_hidden(backward_BD, width),
            key_BHSK=key_BHSK,
            value_BHSK=value_BHSK,
            document_ids_BS=ids_BS,
            document_bias_B11S=additive_bias(is_token_BS, memory_BSD.dtype)[:, None, None],
        )

    def encode(self, document_ids_N: Tensor, layout: BatchLayout) -> tuple[Tensor, Tensor]:
        """Read the documents.

        Returns:
            The encoder's output for each token [N, D], and the last state of its backward
            direction [B, D / 2], which has read the document's beginning last.
        """
        # A PackedSequence has the tokens of all documents at the first position, then those at the
        # second position, and so on; the longest document comes first.
        order = _longest_first(layout.lengths)
        time_major_N = time_major_order(order, layout)
        batch_sizes = [0] * layout.max_length
        for length in layout.lengths:
            for time in range(length):
                batch_sizes[time] += 1

        x_ND = self.document_embedding(document_ids_N, layout.positions)
        packed, final = self.encoder(PackedSequence(x_ND[time_major_N], torch.tensor(batch_sizes)))

        # Back to the order of the ragged batch. The last direction of the last layer is the
        # backward one.
        final_YBD = final[0] if self.is_lstm else final
        original_order_B = torch.tensor(order, device=x_ND.device).argsort()
        return packed.data[time_major_N.argsort()], final_YBD[-1][original_order_B]

    def _initial_hidden(self, backward_BD: Tensor, width: int) -> list[Tensor]:
        """Return the state of each decoder layer before the first step; an LSTM's cell is zero."""
        initial_BD = torch.tanh(self.initial_state(backward_BD))
        hidden = []
        for state_BD in initial_BD.chunk(len(self.decoder), -1):
            if self.is_lstm:
                state_BD = torch.cat([state_BD, torch.zeros_like(state_BD)], -1)
            hidden.append(state_BD[:, None].expand(-1, width, -1))
        return hidden

    def step(self, token_ids_BW: Tensor, state: RecurrentState) -> Tensor:
        """See ``SummaryModel.step``."""
        x_BWD = self.summary_embedding(token_ids_BW, torch.zeros_like(token_ids_BW))
        hidden_BWD, weights_BHWS = self._advance(x_BWD, state)
        return self.next_logits(hidden_BWD, weights_BHWS, self.attention.head_gates, state)

    def _advance(self, x_BWD: Tensor, state: RecurrentState) -> tuple[Tensor, Tensor]:
        """Read a token of each hypothesis and update the state.

        Returns:
            The hidden states before the output layer [B, W, D] and the attention [B, H, W, S].
        """
        # Attend with the last layer's state. An LSTM has its cell in the second half of it.
        documents, width, size = x_BWD.shape
        context_BWD, weights_BHWS = self.attention.step(
            state.hidden[-1][..., :size],
            state.key_BHSK,
            state.value_BHSK,
            state.document_bias_B11S,
        )

        # Each cell reads the output of the one below; the first reads token and context vector.
        input_RD = torch.cat([x_BWD, context_BWD], -1).flatten(0, 1)
        hidden = []
        for cell, previous_BWD in zip(self.decoder, state.hidden, strict=True):
            if self.is_lstm:
                state_BWD, cell_BWD = previous_BWD.chunk(2, -1)
                previous = (state_BWD.flatten(0, 1), cell_BWD.flatten(0, 1))
                output_RD, cell_RD = cell(input_RD, previous)
                updated_RD = torch.cat([output_RD, cell_RD], -1)
            else:
                output_RD = cell(input_RD, previous_BWD.flatten(0, 1))
                updated_RD = output_RD
            hidden.append(updated_RD.unflatten(0, (documents, width)))
            input_RD = self.dropout(output_RD)
        state.hidden = hidden

        # The output layer reads state, context vector and token.
        features_BWD = torch.cat([hidden[-1][..., :size], context_BWD, x_BWD], -1)
        return self.dropout(torch.tanh(self.readout(features_BWD))), weights_BHWS


def _longest_first(lengths: list[int]) -> list[int]:
    """Return the indices of the examples, the longest first."""
    return sorted(range(len(lengths)), key=lambda example: -lengths[example])


def time_major_order(order: list[int], layout: BatchLayout) -> Tensor:
    """Return the indices [N] that sort ragged tokens by position, and within a position by this
    order of examples."""
    rank_B = torch.tensor(order, device=layout.offsets.device).argsort()
    return (layout.positions * len(order) + layout.repeat_per_example(rank_B)).argsort()
