"""Multi-head attention over ragged batches (Vaswani et al. 2017, section 3.2) and its variants.

- grouped-query attention: several heads share a key-value head (Ainslie et al. 2023; one for all:
  Shazeer 2019)
- heads of any width (Bhojanapalli et al. 2020)
- rotary positions (Su et al. 2021) and ALiBi (Press et al. 2022)
- gates on heads, to mask them or to learn their importance (Michel et al. 2019)
- ``QueryKeyNormAttention``, as an example of a variant of one's own
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from headcount.config.sections.model_attention import Attention
from headcount.model.attention_kernels import QKV, attend, attend_by_formula, sdpa
from headcount.model.positions import alibi_slopes, rotate, rotation_table
from headcount.model.ragged import BatchLayout


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2).

    Queries are projected from ``x``; keys and values from ``memory``, which in self-attention is
    ``x`` itself. The projections have the layout of ``torch.nn.MultiheadAttention``: query, key
    and value weights stacked.

    ``head_gates`` [H] multiplies the output of each head. None, the default, costs nothing. Set it
    to zeros and ones to mask heads, or to a tensor that requires a gradient to learn how much each
    head matters. ``edit_heads``, a function from the gated outputs [..., H, K] to those that are
    projected, lets an experiment replace them.

    Args:
        embedding_size: width of the tokens.
        num_heads: number of heads.
        num_kv_heads: number of key-value heads, each shared by num_heads / num_kv_heads heads;
            None: num_heads.
        head_dim: width of each head; None: embedding_size / num_heads.
        kept_heads: of a pruned block, the indices of the heads that remain of ``num_heads``; None:
            all. ``num_heads`` and ``num_kv_heads`` of the block are then those that remain.
        dropout: probability that an attention weight is dropped in training.
        positions: positional encoding within the attention, for self-attention only.
        max_positions: number of positions of the rotation table.

    Raises:
        ValueError: num_heads does not divide embedding_size and head_dim is None, num_kv_heads
            does not divide num_heads, or head_dim is odd and positions are rotary.
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
        kept_heads: Sequence[int] | None = None,
        dropout: float = 0.0,
        positions: Literal["none", "rotary", "alibi"] = "none",
        max_positions: int = 0,
    ) -> None:
        super().__init__()
        if num_kv_heads is None:
            num_kv_heads = num_heads
        if num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}")
        if head_dim is None:
            if embedding_size % num_heads:
                raise ValueError(
                    f"num_heads={num_heads} does not divide embedding_size={embedding_size}"
                )
            head_dim = embedding_size // num_heads
        if positions == "rotary" and head_dim % 2:
            raise ValueError(
                f"positions=rotary rotates pairs of dimensions; head_dim={head_dim} is odd"
            )

        # A pruned block has the heads that remain. They keep their width and their slopes.
        slopes_H = alibi_slopes(num_heads) if positions == "alibi" else None
        if kept_heads is not None:
            slopes_H = None if slopes_H is None else slopes_H[list(kept_heads)]
            num_kv_heads = len(kept_kv_heads(kept_heads, num_heads // num_kv_heads))
            num_heads = len(kept_heads)

        self.embedding_size = embedding_size
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.dropout = dropout
        self.positions = positions

        # One matrix for queries, keys and values.
        query_size = num_heads * head_dim
        kv_size = num_kv_heads * head_dim
        self.sizes = [query_size, kv_size, kv_size]
        self.input_projection = nn.Linear(embedding_size, sum(self.sizes))
        self.output_projection = nn.Linear(query_size, embedding_size)
        self._init_weights()

        rotations = rotation_table(max_positions, head_dim) if positions == "rotary" else None
        self.register_buffer("rotations", rotations, persistent=False)
        self.register_buffer("slopes_H", slopes_H, persistent=False)
        self.register_buffer("head_gates", None, persistent=False)
        self.edit_heads: Callable[[Tensor], Tensor] | None = None

    def _init_weights(self) -> None:
        """Initialize the matrices of queries, keys and values as if each were alone."""
        if self.num_heads:
            for weight in self.input_projection.weight.split(self.sizes):
                nn.init.xavier_uniform_(weight)
            nn.init.xavier_uniform_(self.output_projection.weight)
        nn.init.zeros_(self.input_projection.bias)
        nn.init.zeros_(self.output_projection.bias)

    def forward(
        self,
        x_ND: Tensor,
        layout: BatchLayout,
        memory: tuple[Tensor, BatchLayout] | None = None,
        *,
        causal: bool = False,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Attend within each example of a ragged batch.

        Args:
            x_ND: query tokens.
            layout: their layout.
            memory: key and value tokens [M, D] and their layout; None: those of x
                (self-attention).
            causal: a token attends to itself and to earlier tokens. With a memory, x are the last
                tokens of its examples.
            return_weights: compute by the formula and return the attention weights, before
                dropout.

        Returns:
            The attended tokens [N, D] and, if asked for, the weights [H, T, S] of each example.
        """
        # Queries, keys and values.
        if memory is None:
            memory_layout = layout
            query_NHK, key_MJK, value_MJK = self.project(x_ND)
        else:
            memory_MD, memory_layout = memory
            query_NHK = self.project_query(x_ND)
            key_MJK, value_MJK = self.project_memory(memory_MD)
        if self.positions == "rotary":
            query_positions_N = layout.positions_at_end_of(memory_layout)
            query_NHK = self.rotate(query_NHK, query_positions_N)
            key_MJK = self.rotate(key_MJK, memory_layout.positions)

        # A block whose heads were all pruned has nothing to attend with. Its output is the bias.
        if self.num_heads == 0:
            no_weights = [
                query_NHK.new_zeros(0, targets, sources)
                for targets, sources in zip(layout.lengths, memory_layout.lengths, strict=True)
            ]
            return self.project_output(query_NHK), no_weights if return_weights else None

        # The kernels do not return weights; the formula does.
        x = QKV(query_NHK, key_MJK, value_MJK, layout, memory_layout)
        dropout_p = self.dropout if self.training else 0.0
        if return_weights:
            attended_NHK, weights = attend_by_formula(
                x, causal=causal, slopes_H=self.slopes_H, dropout_p=dropout_p
            )
            return self.project_output(attended_NHK), weights
        attended_NHK = attend(x, causal=causal, slopes_H=self.slopes_H, dropout_p=dropout_p)
        return self.project_output(attended_NHK), None

    def project(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries [..., H, K], keys and values [..., J, K] of tokens [..., D], for
        self-attention."""
        query, key, value = self.input_projection(x_ND).split(self.sizes, -1)
        query_NHK = self.transform_query(self._split_heads(query))
        key_NJK = self.transform_key(self._split_heads(key))
        return query_NHK, key_NJK, self._split_heads(value)

    def project_query(self, x_ND: Tensor) -> Tensor:
        """Return the queries [..., H, K] of tokens [..., D]."""
        query_size = self.sizes[0]
        weight = self.input_projection.weight[:query_size]
        bias = self.input_projection.bias[:query_size]
        return self.transform_query(self._split_heads(F.linear(x_ND, weight, bias)))

    def project_memory(self, memory_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and the values [..., J, K] of tokens [..., D]."""
        query_size = self.sizes[0]
        weight = self.input_projection.weight[query_size:]
        bias = self.input_projection.bias[query_size:]
        key, value = F.linear(memory_MD, weight, bias).chunk(2, -1)
        return self.transform_key(self._split_heads(key)), self._split_heads(value)

    def transform_query(self, query_NHK: Tensor) -> Tensor:
        """Transform queries before they are matched with keys; for variants to override."""
        return query_NHK

    def transform_key(self, key_NJK: Tensor) -> Tensor:
        """Transform keys before they are matched with queries; for variants to override."""
        return key_NJK

    def project_output(self, attended_NHK: Tensor) -> Tensor:
        """Return tokens [..., D] of the heads' outputs, each multiplied by its gate."""
        if self.head_gates is not None:
            attended_NHK = attended_NHK * self.head_gates[:, None]
        if self.edit_heads is not None:
            attended_NHK = self.edit_heads(attended_NHK)
        return self.output_projection(attended_NHK.flatten(-2))

    def rotate(self, x_NHK: Tensor, positions_N: Tensor) -> Tensor:
        """Rotate queries or keys by their positions if positions are rotary; otherwise return them
        unchanged."""
        return x_NHK if self.rotations is None else rotate(x_NHK, self.rotations, positions_N)

    def step(
        self,
        query_BWHK: Tensor,
        key_BJCK: Tensor,
        value_BJCK: Tensor,
        bias_BHWC: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from one new token of each hypothesis to cached keys and values.

        The hypotheses of a document share its cache.

        Args:
            query_BWHK: queries of the new tokens.
            key_BJCK: cached keys.
            value_BJCK: cached values.
            bias_BHWC: added to the scores, -inf where a hypothesis may not attend; H and W may be
                1.
            return_weights: compute by the formula and return the attention weights.

        Returns:
            The attended tokens [B, W, D] and, if asked for, the weights [B, H, W, C].
        """
        if self.num_heads == 0:
            documents, width = query_BWHK.shape[:2]
            no_weights = query_BWHK.new_zeros(documents, 0, width, key_BJCK.shape[2])
            return self.project_output(query_BWHK), no_weights if return_weights else None

        query_BHWK = query_BWHK.transpose(1, 2)
        if not return_weights:
            attended_BHWK = sdpa(query_BHWK, key_BJCK, value_BJCK, bias=bias_BHWC)
            return self.project_output(attended_BHWK.transpose(1, 2)), None
        attended_BHWK, weights_BHWC = self._step_by_formula(
            query_BHWK, key_BJCK, value_BJCK, bias_BHWC
        )
        return self.project_output(attended_BHWK.transpose(1, 2)), weights_BHWC

    def _step_by_formula(
        self, query_BHWK: Tensor, key_BJCK: Tensor, value_BJCK: Tensor, bias_BHWC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the attended values [B, H, W, K] and the weights [B, H, W, C]."""
        # The G heads that share a key-value head are matched with it in one product, for all
        # hypotheses: X = G x W queries.
        width = query_BHWK.shape[2]
        query_BJXK = query_BHWK.unflatten(1, (self.num_kv_heads, -1)).flatten(2, 3)
        scores_BJXC = query_BJXK / math.sqrt(self.head_dim) @ key_BJCK.transpose(-1, -2)
        scores_BHWC = scores_BJXC.unflatten(2, (-1, width)).flatten(1, 2)
        if bias_BHWC is not None:
            scores_BHWC = scores_BHWC + bias_BHWC
        weights_BHWC = scores_BHWC.softmax(-1)

        weights_BJXC = weights_BHWC.unflatten(1, (self.num_kv_heads, -1)).flatten(2, 3)
        attended_BJXK = weights_BJXC @ value_BJCK
        return attended_BJXK.unflatten(2, (-1, width)).flatten(1, 2), weights_BHWC

    def _split_heads(self, projected: Tensor) -> Tensor:
        # Written out, because a block that has no heads left is zero wide.
        heads = projected.shape[-1] // self.head_dim
        return projected.unflatten(-1, (heads, self.head_dim))

    def extra_repr(self) -> str:
        """Return the numbers that an ablation varies."""
        return (
            f"embedding_size={self.embedding_size}, num_heads={self.num_heads}, "
            f"num_kv_heads={self.num_kv_heads}, "
            f"head_dim={self.head_dim}, positions={self.positions}"
        )


def kept_kv_heads(kept_heads: Sequence[int], group: int) -> list[int]:
    """Return the key-value heads of a pruned block: for each the index that it had before.

    Key-value heads that no remaining head uses are removed. If the remaining ones would be shared
    by different numbers of heads, each head gets its own copy.

    Args:
        kept_heads: indices of the heads that remain.
        group: number of heads that share a key-value head.
    """
    used = [head // group for head in kept_heads]
    heads_per_kv_head = Counter(used)
    is_shared_evenly = len(set(heads_per_kv_head.values())) <= 1
    return sorted(heads_per_kv_head) if is_shared_evenly else used


class QueryKeyNormAttention(MultiHeadAttention):
    """Multi-head attention with normalized queries and keys, which bounds the scores (Henry et al.
    2020)."""

    def transform_query(self, query_NHK: Tensor) -> Tensor:
        """Scale each query to the length sqrt(head_dim)."""
        return F.rms_norm(query_NHK, (self.head_dim,)).to(query_NHK.dtype)

    def transform_key(self, key_NJK: Tensor) -> Tensor:
        """Scale each key to the length sqrt(head_dim)."""
        return F.rms_norm(key_NJK, (self.head_dim,)).to(key_NJK.dtype)


ATTENTIONS: dict[Attention, type[MultiHeadAttention]] = {
    "dot_product": MultiHeadAttention,
    "query_key_norm": QueryKeyNormAttention,
}
