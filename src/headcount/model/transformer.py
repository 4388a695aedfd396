"""The encoder-decoder Transformer (Vaswani et al. 2017) on ragged batches.

Shapes are suffixes of names: B documents, N document tokens and M summary tokens of all examples together, S document
tokens of one example, W hypotheses of one document, C cache slots, J num_kv_heads, K head_dim, D embedding_size.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from headcount.model.base import SummaryModel, Vocabulary
from headcount.model.copying import Prediction
from headcount.model.decoder_cache import DecoderState, additive_mask, groups_of, open_caches
from headcount.model.layers import Stack
from headcount.model.ragged import Rows


class Transformer(SummaryModel[DecoderState]):
    """The encoder reads the document, the decoder writes the summary."""

    def __init__(self, vocabulary: Vocabulary, encoder: Stack, decoder: Stack, *, copying: bool = False) -> None:
        """Make the layers.

        Args:
            vocabulary: the way in and out.
            encoder: what the encoder is made of.
            decoder: what the decoder is made of, cross-attention included.
            copying: mix in the document's tokens, by the last layer's cross-attention.
        """
        super().__init__(vocabulary, copying=copying)
        self.encoder, self.encoder_norm = encoder.build(causal=False), encoder.final_norm()
        self.decoder, self.decoder_norm = decoder.build(causal=True), decoder.final_norm()

    def forward(
        self,
        document_ids_N: Tensor,
        document_rows: Rows,
        summary_ids_M: Tensor,
        summary_rows: Rows,
        *,
        return_weights: bool = False,
    ) -> Prediction:
        """See ``SummaryModel.forward``."""
        memory = self.encode(document_ids_N, document_rows), document_rows
        x_MD = self.summary_embedding(summary_ids_M, summary_rows.positions)
        per_layer = []
        for layer in self.decoder:
            wanted = return_weights or (self.copy_gate is not None and layer is self.decoder[-1])
            x_MD, weights = layer(x_MD, summary_rows, memory=memory, return_weights=wanted)
            per_layer.append(weights)
        return self.predict(
            self.decoder_norm(x_MD),
            per_layer[-1],
            self.decoder[-1].cross_attention.head_gates,
            document_ids_N,
            document_rows,
            per_layer if return_weights else [],
        )

    def encode(self, document_ids_N: Tensor, rows: Rows) -> Tensor:
        """Read the documents; return their tokens in context, [N, D]."""
        x_ND = self.document_embedding(document_ids_N, rows.positions)
        for layer in self.encoder:
            x_ND, _ = layer(x_ND, rows)
        return self.encoder_norm(x_ND)

    def start(self, document_ids_N: Tensor, rows: Rows, *, capacity: int, width: int = 1) -> DecoderState:
        """See ``SummaryModel.start``."""
        memory_ND, (ids_BS, real_BS) = self.encode(document_ids_N, rows), rows.pad(document_ids_N)
        documents, slots = len(rows.lengths), capacity * width
        groups = groups_of(rows.lengths)
        cross = [layer.cross_attention.project_memory(memory_ND) for layer in self.decoder]
        sizes = [(layer.attention.num_kv_heads, layer.attention.head_dim) for layer in self.decoder]
        keys, values = open_caches(sizes, documents=documents, width=width, slots=slots, like=memory_ND)
        nothing_BWC = torch.zeros(documents, width, slots, dtype=torch.bool, device=memory_ND.device)
        return DecoderState(
            self_keys=keys,
            self_values=values,
            cross_keys=[_padded(key_NJK, rows, groups) for key_NJK, _ in cross],
            cross_values=[_padded(value_NJK, rows, groups) for _, value_NJK in cross],
            document_ids_BS=ids_BS,
            document_mask_B11S=additive_mask(real_BS, memory_ND.dtype)[:, None, None],
            slot_mask_BWC=additive_mask(nothing_BWC, memory_ND.dtype),
            slot_places_BC=rows.bounds.new_zeros(documents, slots),
            places_B=rows.bounds.new_zeros(documents),
            prefix=0,
        )

    def step(self, token_ids_BW: Tensor, state: DecoderState) -> Tensor:
        """See ``SummaryModel.step``."""
        state.begin_step()
        x_BWD = self.summary_embedding(token_ids_BW, state.places_B[:, None].expand_as(token_ids_BW))
        for index, layer in enumerate(self.decoder):
            wanted = (self.copy_gate is not None or state.track_attention) and layer is self.decoder[-1]
            x_BWD, weights_BHWS = layer.step(x_BWD, state, index, return_weights=wanted)
        state.end_step()
        gates_H = self.decoder[-1].cross_attention.head_gates
        return self.predict_step(self.decoder_norm(x_BWD), weights_BHWS, gates_H, state)


def _padded(values_NJK: Tensor, rows: Rows, groups: list[slice]) -> list[Tensor]:
    """Return the documents' keys or values as a rectangle [B, J, S, K] for each group of documents."""
    values = values_NJK.split(rows.lengths)
    return [pad_sequence(values[group], batch_first=True).transpose(1, 2).contiguous() for group in groups]
