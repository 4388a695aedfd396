"""The residual layer of Transformers, and the feed-forward block in it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.config.sections.model import Activation, Norm, NormPosition
from headcount.model.attention import MultiHeadAttention
from headcount.model.decoder_cache import DecoderState
from headcount.model.dropout import Dropout
from headcount.model.ragged import BatchLayout

NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "layernorm": nn.LayerNorm,  # Ba et al. 2016
    "rmsnorm": lambda size: nn.RMSNorm(size, eps=1e-5),  # Zhang and Sennrich 2019
}
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "swiglu": F.silu,
}


class FeedForward(nn.Module):
    """Position-wise feed-forward network (Vaswani et al. 2017, section 3.3); SwiGLU has a gate
    (Shazeer 2020).

    Args:
        embedding_size: width of the tokens.
        feedforward_size: hidden width.
        activation: relu, gelu or swiglu.
    """

    def __init__(
        self, *, embedding_size: int, feedforward_size: int, activation: Activation
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up_projection = nn.Linear(embedding_size, feedforward_size)
        self.gate = nn.Linear(embedding_size, feedforward_size) if activation == "swiglu" else None
        self.down_projection = nn.Linear(feedforward_size, embedding_size)
        for linear in (self.up_projection, self.gate, self.down_projection):
            if linear is not None:
                nn.init.xavier_uniform_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed tokens [..., D]."""
        activation = ACTIVATIONS[self.activation]
        if self.gate is None:
            hidden = activation(self.up_projection(x))
        else:
            hidden = activation(self.gate(x)) * self.up_projection(x)
        return self.down_projection(hidden)


class Layer(nn.Module):
    """A residual layer: self-attention, optional cross-attention to the document, feed-forward.

    Each block is normalized before (pre-norm; Xiong et al. 2020) or after its addition (post-norm;
    Vaswani et al. 2017).

    Args:
        attention: self-attention.
        cross_attention: attention to the document; None: the layer has none.
        feedforward: the feed-forward block.
        norm: kind of the normalization layers.
        norm_position: before each block or after it.
        dropout: probability that a value of a block's output is dropped.
        layer_dropout: probability that an example skips a block in training.
        causal: whether self-attention is causal.
    """

    def __init__(
        self,
        *,
        attention: MultiHeadAttention,
        cross_attention: MultiHeadAttention | None,
        feedforward: FeedForward,
        norm: Norm,
        norm_position: NormPosition,
        dropout: float,
        layer_dropout: float,
        causal: bool,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.norm_position = norm_position
        self.dropout = Dropout(dropout)
        self.layer_dropout = layer_dropout

        # Each block has a normalization of its own.
        embedding_size = attention.embedding_size
        self.attention_norm = NORMS[norm](embedding_size)
        self.attention = attention
        if cross_attention is not None:
            self.cross_attention_norm = NORMS[norm](embedding_size)
            self.cross_attention = cross_attention
        self.feedforward_norm = NORMS[norm](embedding_size)
        self.feedforward = feedforward

    def forward(
        self,
        x_ND: Tensor,
        layout: BatchLayout,
        *,
        context: tuple[Tensor, BatchLayout] | None = None,
        memory: tuple[Tensor, BatchLayout] | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Apply the layer to ragged tokens.

        Args:
            x_ND: the tokens.
            layout: their layout.
            context: the complete examples [M, D] and their layout, when x holds only their last
                tokens (GPT's last layer).
            memory: the documents' tokens [M, D] and their layout, for cross-attention.
            return_weights: return the attention weights to the document: of cross-attention, or of
                self-attention in a layer without it.

        Returns:
            The tokens [N, D] and, if asked for, the weights [H, T, S] of each example.
        """
        # Self-attention.
        if context is not None:
            context_MD, context_layout = context
            context = self._pre_norm(self.attention_norm, context_MD), context_layout
        attended_ND, weights = self.attention(
            self._pre_norm(self.attention_norm, x_ND),
            layout,
            context,
            causal=self.causal,
            return_weights=return_weights and memory is None,
        )
        x_ND = self._add_and_norm(self.attention_norm, x_ND, attended_ND, layout)

        # Cross-attention to the document.
        if memory is not None:
            query_ND = self._pre_norm(self.cross_attention_norm, x_ND)
            attended_ND, weights = self.cross_attention(
                query_ND, layout, memory, return_weights=return_weights
            )
            x_ND = self._add_and_norm(self.cross_attention_norm, x_ND, attended_ND, layout)

        # Feed-forward.
        transformed_ND = self.feedforward(self._pre_norm(self.feedforward_norm, x_ND))
        return self._add_and_norm(self.feedforward_norm, x_ND, transformed_ND, layout), weights

    def step(
        self, x_BWD: Tensor, state: DecoderState, layer: int, *, return_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Apply the layer to one new token of each hypothesis, with the cached keys and values of
        earlier ones.

        Args:
            x_BWD: the new tokens.
            state: the caches of all layers.
            layer: which of them is this one's.
            return_weights: return the attention weights to the document, as in ``forward``.

        Returns:
            The tokens [B, W, D] and, if asked for, the weights: [B, H, W, S] of cross-attention,
            otherwise [B, H, W, C] over the slots of the cache, the document's first.
        """
        has_cross_attention = bool(state.cross_keys)
        positions_BW = state.positions_B[:, None].expand(x_BWD.shape[:2])

        # Self-attention. The bias lets a hypothesis attend to its own tokens only.
        query_BWHK, key_BWJK, value_BWJK = self.attention.project(
            self._pre_norm(self.attention_norm, x_BWD)
        )
        query_BWHK = self.attention.rotate(query_BWHK, positions_BW)
        key_BWJK = self.attention.rotate(key_BWJK, positions_BW)
        key_BJCK, value_BJCK = state.append(layer, key_BWJK, value_BWJK)
        attended_BWD, weights = self.attention.step(
            query_BWHK,
            key_BJCK,
            value_BJCK,
            state.self_bias(self.attention.slopes_H),
            return_weights=return_weights and not has_cross_attention,
        )
        x_BWD = self._add_and_norm(self.attention_norm, x_BWD, attended_BWD)

        # Cross-attention to the document.
        if has_cross_attention:
            query_BWD = self._pre_norm(self.cross_attention_norm, x_BWD)
            attended_BWD, weights = self._cross_step(
                query_BWD, state, layer, return_weights=return_weights
            )
            x_BWD = self._add_and_norm(self.cross_attention_norm, x_BWD, attended_BWD)

        # Feed-forward.
        transformed_BWD = self.feedforward(self._pre_norm(self.feedforward_norm, x_BWD))
        return self._add_and_norm(self.feedforward_norm, x_BWD, transformed_BWD), weights

    def _cross_step(
        self, x_BWD: Tensor, state: DecoderState, layer: int, *, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the documents, in groups of similar length.

        The weights of a shorter group are padded to the length of the longest document.
        """
        query_BWHK = self.cross_attention.project_query(x_BWD)
        outputs = []
        weights = []
        for group, key_BJSK, value_BJSK, bias_B11S in state.cross(layer):
            attended_BWD, weights_BHWS = self.cross_attention.step(
                query_BWHK[group], key_BJSK, value_BJSK, bias_B11S, return_weights=return_weights
            )
            outputs.append(attended_BWD)
            if weights_BHWS is not None:
                padding = state.document_bias_B11S.shape[3] - weights_BHWS.shape[3]
                weights.append(F.pad(weights_BHWS, (0, padding)))
        return torch.cat(outputs), torch.cat(weights) if return_weights else None

    def project_memory(self, x_ND: Tensor, layout: BatchLayout) -> tuple[Tensor, Tensor]:
        """Return keys and values [N, J, K] of self-attention, as a cache keeps them."""
        key_NJK, value_NJK = self.attention.project_memory(
            self._pre_norm(self.attention_norm, x_ND)
        )
        return self.attention.rotate(key_NJK, layout.positions), value_NJK

    def _pre_norm(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Return the input of a block, normalized if the norm comes before it."""
        return norm(x) if self.norm_position == "pre" else x

    def _add_and_norm(
        self, norm: nn.Module, x: Tensor, output: Tensor, layout: BatchLayout | None = None
    ) -> Tensor:
        """Add a block's output to its input x, and normalize the sum if the norm comes after it.

        Args:
            norm: of the block.
            x: what the block has read.
            output: of the block.
            layout: in training, the examples that may skip the block; None in generation.
        """
        output = self.dropout(output)
        if self.training and self.layer_dropout and layout is not None:
            output = self._skip_examples(output, layout)
        x = x + output
        return x if self.norm_position == "pre" else norm(x)

    def _skip_examples(self, output_ND: Tensor, layout: BatchLayout) -> Tensor:
        """Stochastic depth (Huang et al. 2016), drawn for each example: drop a block's output with
        probability ``layer_dropout`` and scale it otherwise, so that its mean stays the same."""
        kept_B = torch.rand(len(layout.lengths), device=output_ND.device) >= self.layer_dropout
        scale_B = kept_B.to(output_ND.dtype) / (1 - self.layer_dropout)
        return output_ND * layout.repeat_per_example(scale_B)[:, None]

    def extra_repr(self) -> str:
        """Return the position of the norms, and whether the layer is causal."""
        return f"norm_position={self.norm_position}, causal={self.causal}"


def step_layers(
    layers: Sequence[Layer], x_BWD: Tensor, state: DecoderState, *, return_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Apply all layers of a decoder to one new token of each hypothesis and advance the state.

    Args:
        layers: of the decoder, the first one first.
        x_BWD: the embedded tokens.
        state: the caches of the layers.
        return_weights: return the attention weights to the document in the last layer.

    Returns:
        The tokens [B, W, D] and, if asked for, the weights, see ``Layer.step``.
    """
    *lower_layers, last_layer = layers
    state.begin_step()
    for index, layer in enumerate(lower_layers):
        x_BWD, _ = layer.step(x_BWD, state, index)
    x_BWD, weights = last_layer.step(
        x_BWD, state, len(lower_layers), return_weights=return_weights
    )
    state.end_step()
    return x_BWD, weights
