"""The parts that Transformers are stacked from: norms, feed-forward blocks, residual layers.

Shapes are suffixes of names: B examples, N tokens and M memory tokens of all examples together, T and S those of one
example, D embedding_size, H num_heads, W hypotheses of one document.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.config.schema import Activation, Attention, Norm, NormPosition
from headcount.model.attention import ATTENTIONS, MultiHeadAttention
from headcount.model.decoder_cache import DecoderState
from headcount.model.dropout import Dropout
from headcount.model.ragged import Rows

NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "layernorm": nn.LayerNorm,  # Ba et al. 2016
    "rmsnorm": lambda size: nn.RMSNorm(size, eps=1e-5),  # Zhang and Sennrich 2019
}
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "swiglu": F.silu}


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The heads of one place: number, key-value heads (None: as many) and width (None: embedding_size / number)."""

    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None


class FeedForward(nn.Module):
    """Widen, activate, narrow (Vaswani et al. 2017, section 3.3); SwiGLU gates what it widens (Shazeer 2020)."""

    def __init__(self, *, embedding_size: int, feedforward_size: int, activation: Activation) -> None:
        """Make the layers, of feedforward_size in the middle; SwiGLU has three of them."""
        super().__init__()
        self.activation = activation
        self.widen = nn.Linear(embedding_size, feedforward_size)
        self.gate = nn.Linear(embedding_size, feedforward_size) if activation == "swiglu" else None
        self.narrow = nn.Linear(feedforward_size, embedding_size)
        for linear in filter(None, (self.widen, self.gate, self.narrow)):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return each token [..., D], worked on alone."""
        if self.gate is not None:
            return self.narrow(F.silu(self.gate(x)) * self.widen(x))
        return self.narrow(ACTIVATIONS[self.activation](self.widen(x)))


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What the layers of an encoder or a decoder are made of; the names are those of the config's ``model`` section.

    Attributes:
        layers: their number.
        attention: how queries are matched with keys.
        embedding_size: width of every token's vector.
        self_heads: of self-attention.
        cross_heads: of cross-attention; None: the layers have none.
        feedforward_size: hidden width of the feed-forward blocks.
        activation: of the feed-forward blocks.
        norm: kind of norm.
        norm_position: before each block (Xiong et al. 2020) or after each addition (Vaswani et al. 2017).
        positions: whether self-attention itself tells places.
        max_positions: longest example, where positions are rotary.
        dropout: of what each block adds.
        attention_dropout: of attention weights.
    """

    layers: int
    attention: Attention
    embedding_size: int
    self_heads: Heads
    cross_heads: Heads | None = None
    feedforward_size: int
    activation: Activation
    norm: Norm
    norm_position: NormPosition
    positions: Literal["none", "rotary", "alibi"]
    max_positions: int
    dropout: float
    attention_dropout: float

    def build(self, *, causal: bool) -> "list[Layer]":
        """Make the layers."""
        return cast(list[Layer], nn.ModuleList(Layer(self, causal=causal) for _ in range(self.layers)))

    def final_norm(self) -> nn.Module:
        """Make the norm after the last layer, which pre-norm layers need."""
        return NORMS[self.norm](self.embedding_size) if self.norm_position == "pre" else nn.Identity()

    def make_attention(self, heads: Heads, positions: Literal["none", "rotary", "alibi"]) -> MultiHeadAttention:
        """Make an attention block."""
        return ATTENTIONS[self.attention](
            embedding_size=self.embedding_size,
            num_heads=heads.num_heads,
            num_kv_heads=heads.num_kv_heads,
            head_dim=heads.head_dim,
            dropout=self.attention_dropout,
            positions=positions,
            max_positions=self.max_positions,
        )


class Layer(nn.Module):
    """Self-attention, cross-attention where a document stands outside, feed-forward; each added to what came in."""

    def __init__(self, stack: Stack, *, causal: bool) -> None:
        """Make the blocks."""
        super().__init__()
        self.causal, self.norm_position = causal, stack.norm_position
        norm, size = NORMS[stack.norm], stack.embedding_size
        self.attention_norm, self.attention = norm(size), stack.make_attention(stack.self_heads, stack.positions)
        if stack.cross_heads is not None:
            self.cross_attention_norm = norm(size)
            self.cross_attention = stack.make_attention(stack.cross_heads, "none")
        self.feedforward_norm = norm(size)
        self.feedforward = FeedForward(
            embedding_size=size, feedforward_size=stack.feedforward_size, activation=stack.activation
        )
        self.dropout = Dropout(stack.dropout)

    def forward(
        self,
        x_ND: Tensor,
        rows: Rows,
        *,
        before: tuple[Tensor, Rows] | None = None,
        memory: tuple[Tensor, Rows] | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Go through the layer with ragged tokens.

        Args:
            x_ND: the tokens.
            rows: where their examples begin and end.
            before: where x is but the ends of longer examples, all of their tokens [M, D] and their rows.
            memory: the documents' tokens [M, D] and their rows, for cross-attention.
            return_weights: return where the document is looked at: in cross-attention, or else in self-attention.

        Returns:
            The tokens [N, D] and, if asked for, each example's weights [H, T, S].
        """
        seen = None if before is None else (self._enter(self.attention_norm, before[0]), before[1])
        attended_ND, weights = self.attention(
            self._enter(self.attention_norm, x_ND),
            rows,
            seen,
            causal=self.causal,
            return_weights=return_weights and memory is None,
        )
        x_ND = self._leave(self.attention_norm, x_ND, attended_ND)
        if memory is not None:
            asking_ND = self._enter(self.cross_attention_norm, x_ND)
            attended_ND, weights = self.cross_attention(asking_ND, rows, memory, return_weights=return_weights)
            x_ND = self._leave(self.cross_attention_norm, x_ND, attended_ND)
        fed_ND = self.feedforward(self._enter(self.feedforward_norm, x_ND))
        return self._leave(self.feedforward_norm, x_ND, fed_ND), weights

    def step(
        self, x_BWD: Tensor, state: DecoderState, layer: int, *, return_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Do the same for one new token a hypothesis, with this layer's caches in the state.

        Returns:
            The tokens [B, W, D] and, if asked for, where they look: [B, H, W, slots], the document's slots first.
        """
        crossing, places_BW = bool(state.cross_keys), state.places_B[:, None].expand(x_BWD.shape[:2])
        query_BWHK, key_BWJK, value_BWJK = self.attention.project(self._enter(self.attention_norm, x_BWD))
        query_BWHK, key_BWJK = (self.attention.rotate(each, places_BW) for each in (query_BWHK, key_BWJK))
        key_BJCK, value_BJCK = state.remember(layer, key_BWJK, value_BWJK)
        mask = state.self_mask(self.attention.slopes_H)
        attended_BWD, weights = self.attention.step(
            query_BWHK, key_BJCK, value_BJCK, mask, return_weights=return_weights and not crossing
        )
        x_BWD = self._leave(self.attention_norm, x_BWD, attended_BWD)
        if crossing:
            query_BWHK = self.cross_attention.project_query(self._enter(self.cross_attention_norm, x_BWD))
            groups = [
                self.cross_attention.step(query_BWHK[group], key, value, mask, return_weights=return_weights)
                for group, key, value, mask in state.cross(layer)
            ]
            x_BWD = self._leave(self.cross_attention_norm, x_BWD, torch.cat([attended for attended, _ in groups]))
            if return_weights:
                longest = state.document_mask_B11S.shape[3]
                looks = [look for _, look in groups if look is not None]
                weights = torch.cat([F.pad(look, (0, longest - look.shape[3])) for look in looks])
        fed_BWD = self.feedforward(self._enter(self.feedforward_norm, x_BWD))
        return self._leave(self.feedforward_norm, x_BWD, fed_BWD), weights

    def project_memory(self, x_ND: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return the keys and values [N, J, K] that self-attention makes of tokens: what a cache keeps of them."""
        key_NJK, value_NJK = self.attention.project_memory(self._enter(self.attention_norm, x_ND))
        return self.attention.rotate(key_NJK, rows.positions), value_NJK

    def _enter(self, norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x) if self.norm_position == "pre" else x

    def _leave(self, norm: nn.Module, x: Tensor, changed: Tensor) -> Tensor:
        x = x + self.dropout(changed)
        return x if self.norm_position == "pre" else norm(x)

    def extra_repr(self) -> str:
        """State where the norms stand."""
        return f"norm_position={self.norm_position}, causal={self.causal}"
