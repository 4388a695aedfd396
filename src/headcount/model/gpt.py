"""The decoder-only summarizer (Radford et al. 2018; for summaries Khandelwal et al. 2019): one causal Transformer reads
the document, a separator and the summary as one text. The separator is the token that a summary starts from.

Shapes are suffixes of names: B documents, N document tokens and M summary tokens of all examples together, L tokens of
both, T and S summary and document tokens of one example, W hypotheses of one document, C cache slots, D embedding_size,
J num_kv_heads, K head_dim.
"""

import torch
from torch import Tensor

from headcount.model.base import SummaryModel, Vocabulary
from headcount.model.copying import LEAST, Prediction
from headcount.model.decoder_cache import DecoderState, additive_mask, open_caches
from headcount.model.layers import Stack
from headcount.model.ragged import Rows, interleave


class GPT(SummaryModel[DecoderState]):
    """Document and summary are one text; the loss is on the summary alone."""

    def __init__(self, vocabulary: Vocabulary, decoder: Stack, *, copying: bool = False) -> None:
        """Make the layers.

        Args:
            vocabulary: the way in and out.
            decoder: what the layers are made of, without cross-attention.
            copying: mix in the document's tokens, by what the last layer's self-attention gives to the document.
        """
        super().__init__(vocabulary, copying=copying)
        self.document_embedding = self.summary_embedding  # one text
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
        """See ``SummaryModel.forward``. The last layer works on the summaries' tokens alone: no other is asked."""
        ids_L, rows = interleave([(document_ids_N, document_rows), (summary_ids_M, summary_rows)])
        x_LD = self.summary_embedding(ids_L, rows.positions)
        per_layer = []
        for layer in self.decoder[:-1]:
            x_LD, weights = layer(x_LD, rows, return_weights=return_weights)
            per_layer.append(weights)
        summary_L = rows.positions >= rows.spread(document_rows.bounds.diff())
        wanted = return_weights or self.copy_gate is not None
        x_MD, weights = self.decoder[-1](x_LD[summary_L], summary_rows, before=(x_LD, rows), return_weights=wanted)
        per_layer.append(weights)
        looks = [
            self._on_documents(weights, document_rows, summary_rows) for weights in per_layer if weights is not None
        ]
        return self.predict(
            self.decoder_norm(x_MD),
            looks[-1] if looks else None,
            self.decoder[-1].attention.head_gates,
            document_ids_N,
            document_rows,
            looks if return_weights else [],
        )

    def _on_documents(self, weights: list[Tensor], document_rows: Rows, summary_rows: Rows) -> list[Tensor]:
        """Return where the summary's tokens look in the document, [H, T, S], as shares of what they give to it."""
        lengths = zip(summary_rows.lengths, document_rows.lengths, strict=True)
        parts = [each[:, -target:, :source] for each, (target, source) in zip(weights, lengths, strict=True)]
        return [part_HTS / part_HTS.sum(-1, keepdim=True).clamp_min(LEAST) for part_HTS in parts]

    def start(self, document_ids_N: Tensor, rows: Rows, *, capacity: int, width: int = 1) -> DecoderState:
        """See ``SummaryModel.start``. The documents' keys and values are the beginning of each layer's cache."""
        x_ND = self.summary_embedding(document_ids_N, rows.positions)
        ids_BS, real_BS = rows.pad(document_ids_N)
        documents, prefix = real_BS.shape
        sizes = [(layer.attention.num_kv_heads, layer.attention.head_dim) for layer in self.decoder]
        slots = prefix + capacity * width
        keys, values = open_caches(sizes, documents=documents, width=width, slots=slots, like=x_ND)
        for index, layer in enumerate(self.decoder):
            key_NJK, value_NJK = layer.project_memory(x_ND, rows)
            keys[index][:, :, :prefix] = rows.pad(key_NJK)[0].transpose(1, 2)
            values[index][:, :, :prefix] = rows.pad(value_NJK)[0].transpose(1, 2)
            if layer is not self.decoder[-1]:
                x_ND, _ = layer(x_ND, rows)
        allowed_BWC = torch.zeros(documents, width, slots, dtype=torch.bool, device=x_ND.device)
        allowed_BWC[:, :, :prefix] = real_BS[:, None]
        return DecoderState(
            self_keys=keys,
            self_values=values,
            cross_keys=[],
            cross_values=[],
            document_ids_BS=ids_BS,
            document_mask_B11S=additive_mask(real_BS, x_ND.dtype)[:, None, None],
            slot_mask_BWC=additive_mask(allowed_BWC, x_ND.dtype),
            slot_places_BC=torch.arange(slots, dtype=torch.int32, device=x_ND.device).repeat(documents, 1),
            places_B=rows.bounds.diff(),
            prefix=prefix,
        )

    def step(self, token_ids_BW: Tensor, state: DecoderState) -> Tensor:
        """See ``SummaryModel.step``."""
        state.begin_step()
        x_BWD = self.summary_embedding(token_ids_BW, state.places_B[:, None].expand_as(token_ids_BW))
        for index, layer in enumerate(self.decoder):
            wanted = (self.copy_gate is not None or state.track_attention) and layer is self.decoder[-1]
            x_BWD, weights_BHWC = layer.step(x_BWD, state, index, return_weights=wanted)
        state.end_step()
        weights_BHWS = None
        if weights_BHWC is not None:
            weights_BHWS = weights_BHWC[..., : state.prefix]
            weights_BHWS = weights_BHWS / weights_BHWS.sum(-1, keepdim=True).clamp_min(LEAST)
        gates_H = self.decoder[-1].attention.head_gates
        return self.predict_step(self.decoder_norm(x_BWD), weights_BHWS, gates_H, state)
