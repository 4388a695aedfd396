"""Multi-head attention over ragged batches (Vaswani et al. 2017, section 3.2) and its family: grouped queries (Ainslie
et al. 2023; one key-value head: Shazeer 2019), heads of any width (Bhojanapalli et al. 2020), rotary and ALiBi places.

A batch holds its examples end to end in one vector of tokens, so that nothing is padded; only attention needs to know
where an example begins and ends. Shapes are suffixes of names:

    B examples, N query tokens and M memory tokens of all examples together, T and S those of one example,
    D embedding_size, H num_heads, J num_kv_heads, G heads that share a key-value head (H = J x G), K head_dim,
    W hypotheses of one document, C cache slots
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.model.dropout import dropout
from headcount.model.positions import alibi, alibi_slopes, rotate, rotation_table
from headcount.model.ragged import Rows


@dataclass(frozen=True)
class Projected:
    """Queries [N, H, K] of some rows; keys and values [M, J, K] of theirs, which differ in cross-attention."""

    query_NHK: Tensor
    key_MJK: Tensor
    value_MJK: Tensor
    rows: Rows
    memory_rows: Rows

    def examples(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield each example's queries [T, H, K], keys and values [S, J, K]."""
        keys_MJK, values_MJK = (x.split(self.memory_rows.lengths) for x in (self.key_MJK, self.value_MJK))
        return zip(self.query_NHK.split(self.rows.lengths), keys_MJK, values_MJK, strict=True)


def attention_formula(
    query_THK: Tensor, key_SJK: Tensor, value_SJK: Tensor, *, mask_HTS: Tensor | None = None, dropout_share: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Attend within one example, as the paper writes it: softmax(Q K^T / sqrt(head_dim) + mask) V.

    Args:
        query_THK: what each target token looks for.
        key_SJK: what each source token offers; a key-value head serves H / J heads, one after another.
        value_SJK: what each source token says.
        mask_HTS: added to the scores; -inf where a token may not attend.
        dropout_share: share of the weights that is dropped before they mix the values.

    Returns:
        The mixed values [T, H, K] and the weights [H, T, S] before dropout, whose rows sum to one.
    """
    query_JGTK = query_THK.unflatten(1, (key_SJK.shape[1], -1)).permute(1, 2, 0, 3)
    key_J1SK, value_J1SK = (x.transpose(0, 1)[:, None] for x in (key_SJK, value_SJK))
    scores_HTS = (query_JGTK / math.sqrt(query_JGTK.shape[-1]) @ key_J1SK.transpose(-1, -2)).flatten(0, 1)
    weights_HTS = (scores_HTS if mask_HTS is None else scores_HTS + mask_HTS).softmax(-1)
    kept_HTS = dropout(weights_HTS, dropout_share) if dropout_share else weights_HTS
    mixed_JGTK = kept_HTS.unflatten(0, query_JGTK.shape[:2]) @ value_J1SK
    return mixed_JGTK.permute(2, 0, 1, 3).flatten(1, 2), weights_HTS


class Masks:
    """What is added to the scores of an example, cut from one mask that is as large as the longest example needs.

    A causal token sees itself and what stands before it; where an example has fewer queries than keys, they are its
    last.
    """

    def __init__(self, memory_rows: Rows, *, causal: bool, slopes_H: Tensor | None, dtype: torch.dtype) -> None:
        """Make the mask [1 or H, S, S] of the longest example.

        Args:
            memory_rows: where the examples that are asked begin and end.
            causal: whether tokens may not see what stands behind them.
            slopes_H: of ALiBi, or None.
            dtype: of the scores.
        """
        self.mask: Tensor | None = None
        if causal or slopes_H is not None:
            longest, device = memory_rows.longest, memory_rows.bounds.device
            mask_HSS = torch.zeros(1, longest, longest, dtype=dtype, device=device)
            if slopes_H is not None:
                places = torch.arange(longest, device=device)
                mask_HSS = alibi(slopes_H, places, places).to(dtype)
            if causal:
                mask_HSS = mask_HSS.masked_fill(torch.ones_like(mask_HSS[0], dtype=torch.bool).triu(1), -math.inf)
            self.mask = mask_HSS

    def of(self, targets: int, sources: int) -> Tensor | None:
        """Return the mask [1 or H, T, S] of an example, or None where there is nothing to add."""
        return None if self.mask is None else self.mask[:, sources - targets : sources, :sources]


def attend(x: Projected, *, causal: bool, slopes_H: Tensor | None = None, dropout_share: float = 0.0) -> Tensor:
    """Attend within each example by the fastest kernel there is for the device; all equal ``attention_formula``.

    Returns:
        The mixed values [N, H, K].
    """
    if x.query_NHK.device.type == "cpu":
        return attend_each(x, causal=causal, slopes_H=slopes_H, dropout_share=dropout_share)
    half = x.query_NHK.dtype in (torch.bfloat16, torch.float16)
    if x.query_NHK.is_cuda and half and slopes_H is None and dropout_share == 0:
        return attend_varlen(x, causal=causal)
    return attend_padded(x, causal=causal, slopes_H=slopes_H, dropout_share=dropout_share)


def attend_each(x: Projected, *, causal: bool, slopes_H: Tensor | None = None, dropout_share: float = 0.0) -> Tensor:
    """Attend by one call an example: on a CPU faster than one padded, masked call.

    The fused kernel knows no dropout there, so with dropout the formula is used. In bf16 its backward is slower than in
    fp32, so attention stays in fp32.
    """
    dtype, mixed = x.query_NHK.dtype, []
    with torch.autocast("cpu", enabled=False):
        masks = Masks(x.memory_rows, causal=causal, slopes_H=slopes_H, dtype=torch.promote_types(dtype, torch.float32))
        for query_THK, key_SJK, value_SJK in x.examples():
            if dtype == torch.bfloat16:
                query_THK, key_SJK, value_SJK = query_THK.float(), key_SJK.float(), value_SJK.float()
            plain = slopes_H is None and (not causal or len(query_THK) == len(key_SJK))
            mask_HTS = None if plain and not dropout_share else masks.of(len(query_THK), len(key_SJK))
            if dropout_share:
                mixed_THK, _ = attention_formula(
                    query_THK, key_SJK, value_SJK, mask_HTS=mask_HTS, dropout_share=dropout_share
                )
            else:
                mixed_THK = _fused(
                    *(part.transpose(0, 1)[None] for part in (query_THK, key_SJK, value_SJK)),
                    mask=mask_HTS,
                    causal=causal and plain,
                )[0].transpose(0, 1)
            mixed.append(mixed_THK)
        return torch.cat(mixed).to(dtype)


def attend_varlen(x: Projected, *, causal: bool) -> Tensor:
    """Attend by flash attention for ragged rows (Dao 2023): CUDA, bf16 or fp16."""
    from torch.nn.attention.varlen import varlen_attn

    window = (-1, 0) if causal else (-1, -1)
    bounds, longest = (x.rows.bounds, x.memory_rows.bounds), (x.rows.longest, x.memory_rows.longest)
    grouped = x.key_MJK.shape[1] != x.query_NHK.shape[1]
    mixed_NHK = varlen_attn(
        x.query_NHK, x.key_MJK, x.value_MJK, *bounds, *longest, window_size=window, enable_gqa=grouped
    )
    assert isinstance(mixed_NHK, Tensor)
    return mixed_NHK


def attend_padded(x: Projected, *, causal: bool, slopes_H: Tensor | None = None, dropout_share: float = 0.0) -> Tensor:
    """Attend by one padded, masked call, where no kernel takes ragged rows."""
    query_BTHK, real_BT = x.rows.pad(x.query_NHK)
    key_BSJK, real_BS = x.memory_rows.pad(x.key_MJK)
    value_BSJK, _ = x.memory_rows.pad(x.value_MJK)
    ahead_B = x.memory_rows.bounds.diff() - x.rows.bounds.diff()
    query_places_BT = torch.arange(real_BT.shape[1], device=real_BT.device) + ahead_B[:, None]
    key_places_BS = torch.arange(real_BS.shape[1], device=real_BS.device).expand_as(real_BS)
    allowed_BTS = real_BS[:, None]  # True = may attend
    if causal:
        allowed_BTS = allowed_BTS & (key_places_BS[:, None] <= query_places_BT[:, :, None])
    mask_BHTS = allowed_BTS[:, None]
    if slopes_H is not None:
        bias_BHTS = alibi(slopes_H, query_places_BT, key_places_BS).to(query_BTHK.dtype)
        mask_BHTS = bias_BHTS.masked_fill(~mask_BHTS, -math.inf)
    parts = (part.transpose(1, 2) for part in (query_BTHK, key_BSJK, value_BSJK))
    return _fused(*parts, mask=mask_BHTS, dropout_share=dropout_share).transpose(1, 2)[real_BT]


def _fused(
    query_BHTK: Tensor,
    key_BJSK: Tensor,
    value_BJSK: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout_share: float = 0.0,
) -> Tensor:
    """Return [B, H, T, K] by torch's fused kernel; keys are not repeated for the heads that share them."""
    return F.scaled_dot_product_attention(
        query_BHTK,
        key_BJSK,
        value_BJSK,
        attn_mask=mask,
        dropout_p=dropout_share,
        is_causal=causal,
        enable_gqa=query_BHTK.shape[1] != key_BJSK.shape[1],
    )


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
            return_weights: use the written-out formula and return its weights, without dropout.

        Returns:
            The tokens [N, D] and, if asked for, each example's weights [H, T, S].
        """
        if memory is None:
            projections = self.input_projection(x_ND).split(self.sizes, -1)
            query_NHK, key_MJK, value_MJK = map(self._heads, projections)
            memory_rows = rows
        else:
            memory_MD, memory_rows = memory
            query_NHK, (key_MJK, value_MJK) = self.project_query(x_ND), self.project_memory(memory_MD)
        if self.positions == "rotary":
            query_NHK = self.rotate(query_NHK, rows.positions_at_end_of(memory_rows))
            key_MJK = self.rotate(key_MJK, memory_rows.positions)
        x = Projected(query_NHK, key_MJK, value_MJK, rows, memory_rows)
        weights = None
        if return_weights:
            masks = Masks(memory_rows, causal=causal, slopes_H=self.slopes_H, dtype=query_NHK.dtype)
            results = [attention_formula(q, k, v, mask_HTS=masks.of(len(q), len(k))) for q, k, v in x.examples()]
            mixed_NHK, weights = torch.cat([mixed for mixed, _ in results]), [weight for _, weight in results]
        else:
            share = self.dropout if self.training else 0.0
            mixed_NHK = attend(x, causal=causal, slopes_H=self.slopes_H, dropout_share=share)
        return self.project_output(mixed_NHK), weights

    def project_query(self, x_ND: Tensor) -> Tensor:
        """Return the queries [..., H, K] of tokens [..., D]."""
        weight, bias = self.input_projection.weight, self.input_projection.bias
        return self._heads(F.linear(x_ND, weight[: self.sizes[0]], bias[: self.sizes[0]]))

    def project_memory(self, memory_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and the values, [..., J, K] each, of tokens [..., D]."""
        weight, bias = self.input_projection.weight, self.input_projection.bias
        key, value = F.linear(memory_MD, weight[self.sizes[0] :], bias[self.sizes[0] :]).chunk(2, -1)
        return self._heads(key), self._heads(value)

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
            mixed_BHWK = _fused(query_BHWK, key_BJCK, value_BJCK, mask=mask_BHWC)
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
