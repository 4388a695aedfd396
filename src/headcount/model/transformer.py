"""The encoder-decoder Transformer (Vaswani et al. 2017) on ragged batches."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from headcount.model.base import Embedding, SummaryModel
from headcount.model.copying import with_copying
from headcount.model.decoder_cache import (
    DecoderState,
    additive_bias,
    allocate_caches,
    group_by_length,
)
from headcount.model.layers import Layer, step_layers
from headcount.model.output import ModelOutput
from headcount.model.ragged import BatchLayout


class Transformer(SummaryModel[DecoderState]):
    """The encoder reads the document; the decoder generates the summary with cross-attention to
    it.

    Args:
        summary_embedding: embedding of summary tokens.
        document_embedding: embedding of document tokens.
        output: the logits of the vocabulary.
        copy_gate: logit of the probability to copy from the document, by the cross-attention of
            the last layer; None: nothing is copied.
        encoder: its layers.
        encoder_norm: normalization after them.
        decoder: its layers, with cross-attention.
        decoder_norm: normalization after them.
    """

    def __init__(
        self,
        *,
        summary_embedding: Embedding,
        document_embedding: Embedding,
        output: nn.Linear,
        copy_gate: nn.Linear | None,
        encoder: list[Layer],
        encoder_norm: nn.Module,
        decoder: list[Layer],
        decoder_norm: nn.Module,
    ) -> None:
        super().__init__(
            summary_embedding=summary_embedding,
            document_embedding=document_embedding,
            output=output,
            copy_gate=copy_gate,
        )

        # The encoder reads the document, the decoder the summary.
        self.encoder = cast(list[Layer], nn.ModuleList(encoder))
        self.encoder_norm = encoder_norm
        self.decoder = cast(list[Layer], nn.ModuleList(decoder))
        self.decoder_norm = decoder_norm

    def forward(
        self,
        document_ids_N: Tensor,
        document_layout: BatchLayout,
        summary_ids_M: Tensor,
        summary_layout: BatchLayout,
        *,
        return_weights: bool = False,
    ) -> ModelOutput:
        """See ``SummaryModel.forward``."""
        memory = self.encode(document_ids_N, document_layout), document_layout
        x_MD = self.summary_embedding(summary_ids_M, summary_layout.positions)
        layer_weights = []
        for layer in self.decoder:
            is_copying_layer = self.copy_gate is not None and layer is self.decoder[-1]
            x_MD, weights = layer(
                x_MD,
                summary_layout,
                memory=memory,
                return_weights=return_weights or is_copying_layer,
            )
            layer_weights.append(weights)

        hidden_MD = self.decoder_norm(x_MD)
        output = ModelOutput(
            logits_MV=self.output(hidden_MD), weights=layer_weights if return_weights else []
        )
        if self.copy_gate is not None:
            output = with_copying(
                output,
                self.copy_gate(hidden_MD),
                layer_weights[-1],
                self.decoder[-1].cross_attention.head_gates,
                document_ids_N,
                document_layout,
            )
        return output

    def encode(self, document_ids_N: Tensor, layout: BatchLayout) -> Tensor:
        """Return the encoder's output for the documents' tokens, [N, D]."""
        x_ND = self.document_embedding(document_ids_N, layout.positions)
        for layer in self.encoder:
            x_ND, _ = layer(x_ND, layout)
        return self.encoder_norm(x_ND)

    def start(
        self, document_ids_N: Tensor, layout: BatchLayout, *, capacity: int, width: int = 1
    ) -> DecoderState:
        """See ``SummaryModel.start``.

        Keys and values of the documents are computed once for each layer.
        """
        memory_ND = self.encode(document_ids_N, layout)
        ids_BS, is_token_BS = layout.pad(document_ids_N)

        # Cross-attention: the documents' keys and values.
        groups = group_by_length(layout.lengths)
        cross_keys = []
        cross_values = []
        for layer in self.decoder:
            key_NJK, value_NJK = layer.cross_attention.project_memory(memory_ND)
            cross_keys.append(_pad_in_groups(key_NJK, layout, groups))
            cross_values.append(_pad_in_groups(value_NJK, layout, groups))

        # Self-attention: an empty cache, to which no hypothesis may attend yet.
        documents = len(layout.lengths)
        slots = capacity * width
        sizes = [
            (layer.attention.num_kv_heads, layer.attention.head_dim) for layer in self.decoder
        ]
        self_keys, self_values = allocate_caches(
            sizes, documents=documents, slots=slots, like=memory_ND
        )
        nothing_BWC = torch.zeros(
            documents, width, slots, dtype=torch.bool, device=memory_ND.device
        )
        return DecoderState(
            self_keys=self_keys,
            self_values=self_values,
            cross_keys=cross_keys,
            cross_values=cross_values,
            document_ids_BS=ids_BS,
            document_bias_B11S=additive_bias(is_token_BS, memory_ND.dtype)[:, None, None],
            slot_bias_BWC=additive_bias(nothing_BWC, memory_ND.dtype),
            slot_positions_BC=layout.offsets.new_zeros(documents, slots),
            positions_B=layout.offsets.new_zeros(documents),
            prefix=0,
        )

    def step(self, token_ids_BW: Tensor, state: DecoderState) -> Tensor:
        """See ``SummaryModel.step``."""
        positions_BW = state.positions_B[:, None].expand_as(token_ids_BW)
        x_BWD, weights_BHWS = step_layers(
            self.decoder,
            self.summary_embedding(token_ids_BW, positions_BW),
            state,
            return_weights=self.copy_gate is not None or state.track_attention,
        )
        gates_H = self.decoder[-1].cross_attention.head_gates
        return self.next_logits(self.decoder_norm(x_BWD), weights_BHWS, gates_H, state)


def _pad_in_groups(values_NJK: Tensor, layout: BatchLayout, groups: list[slice]) -> list[Tensor]:
    """Return the documents' keys or values as a padded tensor [B, J, S, K] for each group of
    documents."""
    values = values_NJK.split(layout.lengths)
    padded = []
    for group in groups:
        values_BSJK = pad_sequence(values[group], batch_first=True)
        padded.append(values_BSJK.transpose(1, 2).contiguous())
    return padded
