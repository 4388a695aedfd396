"""The decoder-only summarizer (Radford et al. 2018; for summarization Khandelwal et al. 2019).

One causal Transformer reads the document, a separator and the summary as one text. The separator
is the token that a summary starts from. The loss is computed on the summary only.
"""

from typing import cast

import torch
from torch import Tensor, nn

from headcount.model.base import Embedding, SummaryModel
from headcount.model.copying import with_copying
from headcount.model.decoder_cache import DecoderState, additive_bias, allocate_caches
from headcount.model.layers import Layer, step_layers
from headcount.model.output import EPSILON, ModelOutput
from headcount.model.ragged import BatchLayout, interleave


class GPT(SummaryModel[DecoderState]):
    """The decoder-only form: document and summary are one text.

    Args:
        embedding: embedding of all tokens.
        output: the logits of the vocabulary.
        copy_gate: logit of the probability to copy from the document, by the last layer's
            self-attention to it; None: nothing is copied.
        decoder: the layers, without cross-attention.
        decoder_norm: normalization after them.
    """

    is_decoder_only = True

    def __init__(
        self,
        *,
        embedding: Embedding,
        output: nn.Linear,
        copy_gate: nn.Linear | None,
        decoder: list[Layer],
        decoder_norm: nn.Module,
    ) -> None:
        super().__init__(
            summary_embedding=embedding,
            document_embedding=embedding,
            output=output,
            copy_gate=copy_gate,
        )
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
        ids_L, layout = interleave(
            [(document_ids_N, document_layout), (summary_ids_M, summary_layout)]
        )
        x_LD = self.summary_embedding(ids_L, layout.positions)
        layer_weights = []
        for layer in self.decoder[:-1]:
            x_LD, weights = layer(x_LD, layout, return_weights=return_weights)
            layer_weights.append(weights)

        # The last layer computes only the summary tokens: no other output is needed.
        is_summary_L = layout.positions >= layout.repeat_per_example(document_layout.lengths_B)
        x_MD, weights = self.decoder[-1](
            x_LD[is_summary_L],
            summary_layout,
            context=(x_LD, layout),
            return_weights=return_weights or self.copy_gate is not None,
        )
        layer_weights.append(weights)

        attentions = [
            self._attention_to_documents(weights, document_layout, summary_layout)
            for weights in layer_weights
            if weights is not None
        ]
        hidden_MD = self.decoder_norm(x_MD)
        output = ModelOutput(
            logits_MV=self.output(hidden_MD), weights=attentions if return_weights else []
        )
        if self.copy_gate is not None:
            output = with_copying(
                output,
                self.copy_gate(hidden_MD),
                attentions[-1],
                self.decoder[-1].attention.head_gates,
                document_ids_N,
                document_layout,
            )
        return output

    def _attention_to_documents(
        self, weights: list[Tensor], document_layout: BatchLayout, summary_layout: BatchLayout
    ) -> list[Tensor]:
        """Return the attention of the summary tokens to the document, [H, T, S], normalized over
        the document."""
        attentions = []
        for weights_HTS, targets, sources in zip(
            weights, summary_layout.lengths, document_layout.lengths, strict=True
        ):
            attentions.append(_normalize(weights_HTS[:, -targets:, :sources]))
        return attentions

    def start(
        self, document_ids_N: Tensor, layout: BatchLayout, *, capacity: int, width: int = 1
    ) -> DecoderState:
        """See ``SummaryModel.start``.

        The documents' keys and values fill the first slots of each cache.
        """
        ids_BS, is_token_BS = layout.pad(document_ids_N)
        documents, prefix = is_token_BS.shape
        slots = prefix + capacity * width

        # Read the documents. The output of the last layer is not needed.
        x_ND = self.summary_embedding(document_ids_N, layout.positions)
        sizes = [
            (layer.attention.num_kv_heads, layer.attention.head_dim) for layer in self.decoder
        ]
        keys, values = allocate_caches(sizes, documents=documents, slots=slots, like=x_ND)
        for index, layer in enumerate(self.decoder):
            key_NJK, value_NJK = layer.project_memory(x_ND, layout)
            keys[index][:, :, :prefix] = layout.pad(key_NJK)[0].transpose(1, 2)
            values[index][:, :, :prefix] = layout.pad(value_NJK)[0].transpose(1, 2)
            if layer is not self.decoder[-1]:
                x_ND, _ = layer(x_ND, layout)

        # Every hypothesis may attend to the document's tokens, but not to its padding.
        allowed_BWC = torch.zeros(documents, width, slots, dtype=torch.bool, device=x_ND.device)
        allowed_BWC[:, :, :prefix] = is_token_BS[:, None]
        slot_positions_C = torch.arange(slots, dtype=torch.int32, device=x_ND.device)
        return DecoderState(
            self_keys=keys,
            self_values=values,
            cross_keys=[],
            cross_values=[],
            document_ids_BS=ids_BS,
            document_bias_B11S=additive_bias(is_token_BS, x_ND.dtype)[:, None, None],
            slot_bias_BWC=additive_bias(allowed_BWC, x_ND.dtype),
            slot_positions_BC=slot_positions_C.repeat(documents, 1),
            positions_B=layout.lengths_B,
            prefix=prefix,
        )

    def step(self, token_ids_BW: Tensor, state: DecoderState) -> Tensor:
        """See ``SummaryModel.step``."""
        positions_BW = state.positions_B[:, None].expand_as(token_ids_BW)
        x_BWD, weights_BHWC = step_layers(
            self.decoder,
            self.summary_embedding(token_ids_BW, positions_BW),
            state,
            return_weights=self.copy_gate is not None or state.track_attention,
        )

        # The document's slots come first.
        weights_BHWS = None
        if weights_BHWC is not None:
            weights_BHWS = _normalize(weights_BHWC[..., : state.prefix])
        gates_H = self.decoder[-1].attention.head_gates
        return self.next_logits(self.decoder_norm(x_BWD), weights_BHWS, gates_H, state)


def _normalize(weights: Tensor) -> Tensor:
    """Return attention weights that sum to one over the last axis."""
    return weights / weights.sum(-1, keepdim=True).clamp_min(EPSILON)
