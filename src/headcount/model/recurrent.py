"""The recurrent encoder-decoder with additive attention (Bahdanau et al. 2015).

A bidirectional GRU (Cho et al. 2014) or LSTM reads the document; at each step the decoder asks the document with its
last state, reads the answer together with the last token, and moves on. The encoder computes no padding: its time-major
rows are made of the ragged tokens. The decoder pads the documents of a batch, not the summaries.

Shapes are suffixes of names: B documents, N document tokens and M summary tokens of all examples together, T and S
those of one example, W hypotheses of one document, D embedding_size, H num_heads, K head_dim.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from headcount.config.schema import Cell
from headcount.model.additive_attention import AdditiveAttention
from headcount.model.base import SummaryModel, Vocabulary
from headcount.model.copying import Prediction
from headcount.model.decoder_cache import additive_mask
from headcount.model.dropout import Dropout
from headcount.model.ragged import Rows

CELLS: dict[Cell, tuple[type[nn.GRU | nn.LSTM], type[nn.GRUCell | nn.LSTMCell]]] = {
    "gru": (nn.GRU, nn.GRUCell),
    "lstm": (nn.LSTM, nn.LSTMCell),
}


@dataclass(kw_only=True)
class RecurrentState:
    """What recurrent decoding remembers between two steps.

    Attributes:
        hidden: each layer's state of each hypothesis, [B, W, D]; an LSTM's second half is its cell, [B, W, 2 D].
        key_BHSK: the document's keys, computed once.
        value_BHSK: likewise.
        document_ids_BS: the document's tokens.
        document_mask_B11S: added to scores, -inf where no token is.
        track_attention: additive attention always says where it looks.
        look_BWS: where the last step looked.
    """

    hidden: list[Tensor]
    key_BHSK: Tensor
    value_BHSK: Tensor
    document_ids_BS: Tensor
    document_mask_B11S: Tensor
    track_attention: bool = False
    look_BWS: Tensor | None = None

    def keep(self, documents: Tensor | slice) -> None:
        """Keep these documents alone."""
        self.hidden = [layer[documents] for layer in self.hidden]
        self.key_BHSK, self.value_BHSK = self.key_BHSK[documents], self.value_BHSK[documents]
        self.document_ids_BS, self.document_mask_B11S = (
            self.document_ids_BS[documents],
            self.document_mask_B11S[documents],
        )

    def branch(self, parents_BW: Tensor) -> None:
        """Make each hypothesis go on from another one of its document."""
        self.hidden = [layer.gather(1, parents_BW[:, :, None].expand_as(layer)) for layer in self.hidden]


class Recurrent(SummaryModel[RecurrentState]):
    """A bidirectional encoder, additive attention and a decoder that goes token by token."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        cell: Cell,
        encoder_layers: int,
        decoder_layers: int,
        num_heads: int,
        dropout: float,
        copying: bool = False,
    ) -> None:
        """Make the layers; every state is embedding_size wide.

        Args:
            vocabulary: the way in and out.
            cell: gru or lstm.
            encoder_layers: each with half its width for either direction.
            decoder_layers: the first one reads token and context.
            num_heads: of the attention; 1 is the paper's.
            dropout: between layers and before the output.
            copying: mix in the document's tokens.

        Raises:
            ValueError: embedding_size is odd.
        """
        super().__init__(vocabulary, copying=copying)
        size = vocabulary.embedding_size
        if size % 2:
            raise ValueError(f"embedding_size={size} is odd; a bidirectional encoder halves it")
        network, step = CELLS[cell]
        self.encoder = network(
            size, size // 2, encoder_layers, bidirectional=True, dropout=dropout if encoder_layers > 1 else 0.0
        )
        self.beginning = nn.Linear(size // 2, decoder_layers * size)
        self.attention = AdditiveAttention(embedding_size=size, num_heads=num_heads)
        cells = [step(2 * size if index == 0 else size, size) for index in range(decoder_layers)]
        self.decoder = cast(list[nn.GRUCell | nn.LSTMCell], nn.ModuleList(cells))
        self.readout = nn.Linear(3 * size, size)
        self.dropout = Dropout(dropout)
        self.halves = 2 if cell == "lstm" else 1

    def forward(
        self,
        document_ids_N: Tensor,
        document_rows: Rows,
        summary_ids_M: Tensor,
        summary_rows: Rows,
        *,
        return_weights: bool = False,
    ) -> Prediction:
        """See ``SummaryModel.forward``. At each step only the summaries that go on are worked on."""
        longest_first = sorted(range(len(summary_rows.lengths)), key=lambda example: -summary_rows.lengths[example])
        state = self.start(document_ids_N, document_rows)
        state.keep(torch.tensor(longest_first, device=document_ids_N.device))
        x_MD = self.summary_embedding(summary_ids_M, summary_rows.positions)
        x_BTD = summary_rows.pad(x_MD)[0][longest_first]
        lengths = [summary_rows.lengths[example] for example in longest_first]
        hidden, looks = [], []
        for time in range(lengths[0]):
            going = sum(length > time for length in lengths)
            if going < len(state.document_ids_BS):
                state.keep(slice(going))
            hidden_BWD, weights_BHWS = self._advance(x_BTD[:going, time, None], state)
            hidden.append(hidden_BWD[:, 0])
            looks.append(weights_BHWS[:, :, 0])
        order_M = time_major(longest_first, summary_rows).argsort()
        weights = []
        if return_weights or self.copy_gate is not None:
            look_MHS = torch.cat(looks)[order_M]
            examples = zip(look_MHS.split(summary_rows.lengths), document_rows.lengths, strict=True)
            weights = [look_THS[:, :, :source].transpose(0, 1) for look_THS, source in examples]
        return self.predict(
            torch.cat(hidden)[order_M],
            weights,
            self.attention.head_gates,
            document_ids_N,
            document_rows,
            [weights] if return_weights else [],
        )

    def start(self, document_ids_N: Tensor, rows: Rows, *, capacity: int = 0, width: int = 1) -> RecurrentState:
        """See ``SummaryModel.start``; no room needs to be made."""
        order = sorted(range(len(rows.lengths)), key=lambda example: -rows.lengths[example])
        time_major_N = time_major(order, rows)
        x_ND = self.document_embedding(document_ids_N, rows.positions)
        sizes = torch.tensor([sum(length > time for length in rows.lengths) for time in range(rows.longest)])
        packed, last = self.encoder(PackedSequence(x_ND[time_major_N], sizes))
        memory_ND = packed.data[time_major_N.argsort()]
        memory_BSD, real_BS = rows.pad(self.dropout(memory_ND))
        key_BHSK, value_BHSK = self.attention.project_memory(memory_BSD)
        final_LBD = last[0] if self.halves == 2 else last
        backward_BD = final_LBD[-1][torch.tensor(order, device=x_ND.device).argsort()]
        begun = torch.tanh(self.beginning(backward_BD)).chunk(len(self.decoder), -1)
        empty = [torch.cat([layer, torch.zeros_like(layer)], -1) if self.halves == 2 else layer for layer in begun]
        return RecurrentState(
            hidden=[layer[:, None].expand(-1, width, -1) for layer in empty],
            key_BHSK=key_BHSK,
            value_BHSK=value_BHSK,
            document_ids_BS=rows.pad(document_ids_N)[0],
            document_mask_B11S=additive_mask(real_BS, memory_BSD.dtype)[:, None, None],
        )

    def step(self, token_ids_BW: Tensor, state: RecurrentState) -> Tensor:
        """See ``SummaryModel.step``."""
        x_BWD = self.summary_embedding(token_ids_BW, torch.zeros_like(token_ids_BW))
        hidden_BWD, weights_BHWS = self._advance(x_BWD, state)
        return self.predict_step(hidden_BWD, weights_BHWS, self.attention.head_gates, state)

    def _advance(self, x_BWD: Tensor, state: RecurrentState) -> tuple[Tensor, Tensor]:
        """Read a token of each hypothesis; return what follows from it [B, W, D] and where it looked [B, H, W, S]."""
        documents, width, size = x_BWD.shape
        context_BWD, weights_BHWS = self.attention.step(
            state.hidden[-1][..., :size], state.key_BHSK, state.value_BHSK, state.document_mask_B11S
        )
        above_RD = torch.cat([x_BWD, context_BWD], -1).flatten(0, 1)
        hidden = []
        for cell, before in zip(self.decoder, state.hidden, strict=True):
            if self.halves == 2:
                both = cell(above_RD, tuple(half.flatten(0, 1) for half in before.chunk(2, -1)))
                above_RD, after = both[0], torch.cat(both, -1)
            else:
                above_RD = after = cell(above_RD, before.flatten(0, 1))
            hidden.append(after.unflatten(0, (documents, width)))
            above_RD = self.dropout(above_RD)
        state.hidden = hidden
        said_BWD = torch.tanh(self.readout(torch.cat([hidden[-1][..., :size], context_BWD, x_BWD], -1)))
        return self.dropout(said_BWD), weights_BHWS


def time_major(order: list[int], rows: Rows) -> Tensor:
    """Return the order [N] of ragged tokens by time: in this order of examples, first tokens first."""
    rank_B = torch.tensor(order, device=rows.bounds.device).argsort()
    return (rows.positions * len(order) + rows.spread(rank_B)).argsort()
