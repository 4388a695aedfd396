"""Multi-head attention over ragged batches (Vaswani et al. 2017, section 3.2) and its family: grouped queries (Ainslie
et al. 2023; one key-value head: Shazeer 2019), heads of any width (Bhojanapalli et al. 2020), rotary and ALiBi places.

A batch holds its examples end to end in one vector of tokens, so that nothing is padded; only attention needs to know
where an example begins and ends. Shapes are suffixes of names:

    B examples, N query tokens and M memory tokens of all examples together, T and S those of one example,
    D embedding_size, H num_heads, J num_kv_heads, G heads that share a key-value head (H = J x G), K head_dim,
    W hypotheses of one document, C cache slots
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.config.schema import Attention
from headcount.model.attention_kernels import Masks, Projected, attend, attention_formula, fused
from headcount.model.positions import alibi_slopes, rotate, rotation_table
from headcount.model.ragged import Rows


class MultiHeadAttention(nn.Module):
    """Attend from several learned points of view at once (Vaswani et al. 2017, section 3.2.2).

    The queries come from ``x``; keys and values from ``memory``, which is ``x`` itself in self-attention. Projections
    have the layout of ``torch.nn.MultiheadAttention``: query, key and value weights on top of each other.

    ``head_gates`` [H] multiplies what each head says; None, the default, costs nothing. Set it to zeros and ones to
    mask heads, or to a tensor that requires a gradient to learn how much each head matters (Michel et al. 2019).
    """

    head_gates: Tensor | None
    slopes_H: Tensor | None
    rotations: Tensor | None

    def __init__(
        self,
        *,
        embedding_size: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        dropout: float = 0.0,
        positions: Literal["none", "rotary", "alibi"] = "none",
        max_positions: int = 0,
    ) -> None:
        """Make the projections.

        Args:
            embedding_size: width of tokens in and out.
            num_heads: number of heads.
            num_kv_heads: number of key-value heads, each shared by num_heads / num_kv_heads heads; None: num_heads.
            head_dim: width of each head; None: embedding_size / num_heads.
            dropout: share of the weights dropped in training.
            positions: how the attention itself tells places, if it does; for self-attention alone.
            max_positions: longest example, where positions are rotary.

        Raises:
            ValueError: num_heads does not divide embedding_size and head_dim is None, num_kv_heads does not divide
                num_heads, or head_dim is odd where positions are rotary.
        """
        super().__init__()
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if head_dim is None and embedding_size % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide embedding_size={embedding_size}")
        if num_heads % kv_heads:
            raise ValueError(f"num_kv_heads={kv_heads} does not divide num_heads={num_heads}")
        self.embedding_size, self.num_heads, self.num_kv_heads = embedding_size, num_heads, kv_heads
        self.head_dim = embedding_size // num_heads if head_dim is None else head_dim
        if positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"positions=rotary turns pairs of dimensions; head_dim={self.head_dim} is odd")
        self.dropout, self.positions = dropout, positions
        self.sizes = [num_heads * self.head_dim, kv_heads * self.head_dim, kv_heads * self.head_dim]
        self.input_projection = nn.Linear(embedding_size, sum(self.sizes))
        self.output_projection = nn.Linear(num_heads * self.head_dim, embedding_size)
        for weight in (*self.input_projection.weight.split(self.sizes), self.output_projection.weight):
            nn.init.xavier_uniform_(weight)
        for linear in (self.input_projection, self.output_projection):
            nn.init.zeros_(linear.bias)
        rotations = rotation_table(max_positions, self.head_dim) if positions == "rotary" else None
        self.register_buffer("rotations", rotations, persistent=False)
        self.register_buffer("slopes_H", alibi_slopes(num_heads) if positions == "alibi" else None, persistent=False)
        self.register_buffer("head_gates", None, persistent=False)

    def forward(
        self,
        x_ND: Tensor,
        rows: Rows,
        memory: tuple[Tensor, Rows] | None = None,
        *,
        causal: bool = False,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Attend within each example of a ragged batch.

        Args:
            x_ND: the tokens that ask.
            rows: where their examples begin and end.
            memory: the tokens [M, D] that are asked, and their rows; None: the same, self-attention.
            causal: a token sees itself and what stands before it; with a memory, its examples end with x's.
            return_weights: use the written-out formula and return its weights, before dropout.

        Returns:
            The tokens [N, D] and, if asked for, each example's weights [H, T, S].
        """
        if memory is None:
            (query_NHK, key_MJK, value_MJK), memory_rows = self.project(x_ND), rows
        else:
            memory_MD, memory_rows = memory
            query_NHK, (key_MJK, value_MJK) = self.project_query(x_ND), self.project_memory(memory_MD)
        if self.positions == "rotary":
            query_NHK = self.rotate(query_NHK, rows.positions_at_end_of(memory_rows))
            key_MJK = self.rotate(key_MJK, memory_rows.positions)
        x = Projected(query_NHK, key_MJK, value_MJK, rows, memory_rows)
        weights, share = None, self.dropout if self.training else 0.0
        if return_weights:
            masks = Masks(memory_rows, causal, self.slopes_H, query_NHK.dtype)
            results = [
                attention_formula(q, k, v, mask_HTS=masks.of(len(q), len(k)), dropout_share=share)
                for q, k, v in x.examples()
            ]
            mixed_NHK, weights = torch.cat([mixed for mixed, _ in results]), [weight for _, weight in results]
        else:
            mixed_NHK = attend(x, causal=causal, slopes_H=self.slopes_H, dropout_share=share)
        return self.project_output(mixed_NHK), weights

    def project(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries [..., H, K], keys and values [..., J, K] of tokens [..., D] that attend to each other."""
        query, key, value = map(self._heads, self.input_projection(x_ND).split(self.sizes, -1))
        return self.shape_query(query), self.shape_key(key), value

    def project_query(self, x_ND: Tensor) -> Tensor:
        """Return the queries [..., H, K] of tokens [..., D]."""
        weight, bias = self.input_projection.weight, self.input_projection.bias
        return self.shape_query(self._heads(F.linear(x_ND, weight[: self.sizes[0]], bias[: self.sizes[0]])))

    def project_memory(self, memory_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and the values, [..., J, K] each, of tokens [..., D]."""
        weight, bias = self.input_projection.weight, self.input_projection.bias
        key, value = F.linear(memory_MD, weight[self.sizes[0] :], bias[self.sizes[0] :]).chunk(2, -1)
        return self.shape_key(self._heads(key)), self._heads(value)

    def shape_query(self, query_NHK: Tensor) -> Tensor:
        """Change queries before they are matched; a variant's place to do so."""
        return query_NHK

    def shape_key(self, key_NJK: Tensor) -> Tensor:
        """Change keys before they are matched; a variant's place to do so."""
        return key_NJK

    def project_output(self, mixed_NHK: Tensor) -> Tensor:
        """Return tokens [..., D] of what the heads say, each multiplied by its gate."""
        if self.head_gates is not None:
            mixed_NHK = mixed_NHK * self.head_gates[:, None]
        return self.output_projection(mixed_NHK.flatten(-2))

    def rotate(self, x_NHK: Tensor, positions_N: Tensor) -> Tensor:
        """Turn queries or keys by their tokens' places, where positions are rotary."""
        return x_NHK if self.rotations is None else rotate(x_NHK, self.rotations, positions_N)

    def step(
        self,
        query_BWHK: Tensor,
        key_BJCK: Tensor,
        value_BJCK: Tensor,
        mask_BHWC: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from one new token a hypothesis to cached keys and values, which the hypotheses of a document share.

        Args:
            query_BWHK: queries of the new tokens, of W hypotheses a document.
            key_BJCK: cached keys.
            value_BJCK: cached values.
            mask_BHWC: added to the scores, -inf where a hypothesis may not attend; H and W may be 1; None: nothing.
            return_weights: use the formula and return its weights.

        Returns:
            The tokens [B, W, D] and, if asked for, the weights [B, H, W, C].
        """
        query_BHWK = query_BWHK.transpose(1, 2)
        if not return_weights:
            mixed_BHWK = fused(query_BHWK, key_BJCK, value_BJCK, mask=mask_BHWC)
            return self.project_output(mixed_BHWK.transpose(1, 2)), None
        grouped_BJXK = query_BHWK.unflatten(1, (self.num_kv_heads, -1)).flatten(2, 3)  # X = G x W
        scores_BJXC = grouped_BJXK / math.sqrt(self.head_dim) @ key_BJCK.transpose(-1, -2)
        scores_BHWC = scores_BJXC.unflatten(2, (-1, query_BHWK.shape[2])).flatten(1, 2)
        weights_BHWC = (scores_BHWC if mask_BHWC is None else scores_BHWC + mask_BHWC).softmax(-1)
        weights_BJXC = weights_BHWC.unflatten(1, (self.num_kv_heads, -1)).flatten(2, 3)
        mixed_BHWK = (weights_BJXC @ value_BJCK).unflatten(2, (-1, query_BHWK.shape[2])).flatten(1, 2)
        return self.project_output(mixed_BHWK.transpose(1, 2)), weights_BHWC

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, self.head_dim))

    def extra_repr(self) -> str:
        """State the numbers that an ablation varies."""
        return (
            f"embedding_size={self.embedding_size}, num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}, "
            f"head_dim={self.head_dim}, positions={self.positions}"
        )


class QueryKeyNormAttention(MultiHeadAttention):
    """Multi-head attention with queries and keys of one length, so that no score can run away (Henry et al. 2020)."""

    def shape_query(self, query_NHK: Tensor) -> Tensor:
        """Give each query the length sqrt(head_dim)."""
        return F.rms_norm(query_NHK, (self.head_dim,)).to(query_NHK.dtype)

    def shape_key(self, key_NJK: Tensor) -> Tensor:
        """Give each key the length sqrt(head_dim)."""
        return F.rms_norm(key_NJK, (self.head_dim,)).to(key_NJK.dtype)


ATTENTIONS: dict[Attention, type[MultiHeadAttention]] = {
    "dot_product": MultiHeadAttention,
    "query_key_norm": QueryKeyNormAttention,
}
