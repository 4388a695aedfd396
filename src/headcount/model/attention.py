"""Multi-head attention over ragged batches (Vaswani et al. 2017, section 3.2).

A batch holds its examples end to end in one vector of tokens, so that nothing is padded; only attention needs to know
where an example begins and ends. Shapes are suffixes of names:

    B examples, N query tokens and M memory tokens of all examples together, T and S those of one example,
    D embedding_size, H num_heads, K head_dim, C cache positions
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Rows:
    """Where the examples of a ragged batch begin and end.

    Attributes:
        lengths: tokens of each example; on the host, because splitting needs them there.
        bounds: where each example begins, and where the last one ends, [B + 1] int32 on the device.
    """

    lengths: list[int]
    bounds: Tensor

    @classmethod
    def of(cls, lengths: list[int], device: torch.device | str = "cpu") -> "Rows":
        """Make the rows of examples with these lengths."""
        return cls(lengths, torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device))

    def positions(self) -> Tensor:
        """Return each token's place within its own example, [N]."""
        total = sum(self.lengths)
        begins_N = torch.repeat_interleave(self.bounds[:-1], self.bounds.diff(), output_size=total)
        return torch.arange(total, device=self.bounds.device) - begins_N

    def pad(self, values_N: Tensor) -> tuple[Tensor, Tensor]:
        """Lay ragged values out as a rectangle.

        Returns:
            The values [B, longest, ...], zero where no token is, and a mask [B, longest], True where one is.
        """
        longest = torch.arange(max(self.lengths), device=values_N.device)
        real_BT = longest < self.bounds.diff()[:, None]
        return pad_sequence(list(values_N.split(self.lengths)), batch_first=True), real_BT


@dataclass(frozen=True)
class Projected:
    """Queries [N, H, K] of some rows; keys and values [M, H, K] of theirs, which differ in cross-attention."""

    query_NHK: Tensor
    key_MHK: Tensor
    value_MHK: Tensor
    rows: Rows
    memory_rows: Rows

    def examples(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield each example's queries [T, H, K], keys and values [S, H, K]."""
        keys_MHK, values_MHK = (x.split(self.memory_rows.lengths) for x in (self.key_MHK, self.value_MHK))
        return zip(self.query_NHK.split(self.rows.lengths), keys_MHK, values_MHK, strict=True)


def attention_formula(query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Attend within one example, as the paper writes it: softmax(Q K^T / sqrt(head_dim)) V.

    Args:
        query_THK: what each target token looks for.
        key_SHK: what each source token offers.
        value_SHK: what each source token says.
        causal: a token sees itself and what stands before it.

    Returns:
        The mixed values [T, H, K] and the weights [H, T, S], whose rows sum to one.
    """
    scores_HTS = torch.einsum("thk,shk->hts", query_THK, key_SHK) / math.sqrt(query_THK.shape[-1])
    if causal:
        future_TS = torch.ones(scores_HTS.shape[-2:], dtype=torch.bool, device=scores_HTS.device).triu(1)
        scores_HTS = scores_HTS.masked_fill(future_TS, -math.inf)
    weights_HTS = scores_HTS.softmax(-1)
    return torch.einsum("hts,shk->thk", weights_HTS, value_SHK), weights_HTS


def attend(x: Projected, *, causal: bool, dropout: float = 0.0) -> Tensor:
    """Attend within each example by the fastest kernel there is for the device; all equal ``attention_formula``.

    Returns:
        The mixed values [N, H, K].
    """
    if x.query_NHK.device.type == "cpu":
        return attend_each(x, causal=causal, dropout=dropout)
    if x.query_NHK.is_cuda and x.query_NHK.dtype in (torch.bfloat16, torch.float16) and dropout == 0:
        return attend_varlen(x, causal=causal)
    return attend_padded(x, causal=causal, dropout=dropout)


def attend_each(x: Projected, *, causal: bool, dropout: float = 0.0) -> Tensor:
    """Attend by one fused call an example: on a CPU faster than one padded, masked call."""
    mixed = []
    for example in x.examples():
        query_1HTK, key_1HSK, value_1HSK = (part.transpose(0, 1)[None] for part in example)
        mixed_1HTK = F.scaled_dot_product_attention(
            query_1HTK, key_1HSK, value_1HSK, dropout_p=dropout, is_causal=causal
        )
        mixed.append(mixed_1HTK[0].transpose(0, 1))
    return torch.cat(mixed)


def attend_varlen(x: Projected, *, causal: bool) -> Tensor:
    """Attend by flash attention for ragged rows (Dao 2023): CUDA, bf16 or fp16."""
    from torch.nn.attention.varlen import varlen_attn

    longest, longest_memory = max(x.rows.lengths), max(x.memory_rows.lengths)
    window = (-1, 0) if causal else (-1, -1)
    bounds = x.rows.bounds, x.memory_rows.bounds
    mixed_NHK = varlen_attn(x.query_NHK, x.key_MHK, x.value_MHK, *bounds, longest, longest_memory, window_size=window)
    assert isinstance(mixed_NHK, Tensor)
    return mixed_NHK


def attend_padded(x: Projected, *, causal: bool, dropout: float = 0.0) -> Tensor:
    """Attend by one padded, masked call, where no kernel takes ragged rows."""
    query_BTHK, real_BT = x.rows.pad(x.query_NHK)
    key_BSHK, real_BS = x.memory_rows.pad(x.key_MHK)
    value_BSHK, _ = x.memory_rows.pad(x.value_MHK)
    allowed_B1TS = real_BS[:, None, None, :]  # True = may attend
    if causal:
        allowed_B1TS = allowed_B1TS & torch.ones_like(allowed_B1TS[0, 0, 0].expand(real_BT.shape[1], -1)).tril()
    query_BHTK, key_BHSK, value_BHSK = (part.transpose(1, 2) for part in (query_BTHK, key_BSHK, value_BSHK))
    mixed_BHTK = F.scaled_dot_product_attention(
        query_BHTK, key_BHSK, value_BHSK, attn_mask=allowed_B1TS, dropout_p=dropout
    )
    return mixed_BHTK.transpose(1, 2)[real_BT]


class MultiHeadAttention(nn.Module):
    """Attend from several learned points of view at once (Vaswani et al. 2017, section 3.2.2).

    The queries come from ``x``; keys and values from ``memory``, which is ``x`` itself in self-attention. Projections
    have the layout of ``torch.nn.MultiheadAttention``: query, key and value weights on top of each other.
    """

    def __init__(self, *, embedding_size: int, num_heads: int, dropout: float = 0.0) -> None:
        """Make the projections.

        Args:
            embedding_size: width of tokens in and out.
            num_heads: number of heads; each works in embedding_size / num_heads dimensions.
            dropout: share of the weights dropped in training.

        Raises:
            ValueError: num_heads does not divide embedding_size.
        """
        super().__init__()
        if embedding_size % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide embedding_size={embedding_size}")
        self.embedding_size, self.num_heads, self.head_dim = embedding_size, num_heads, embedding_size // num_heads
        self.dropout = dropout
        self.input_projection = nn.Linear(embedding_size, 3 * embedding_size)
        self.output_projection = nn.Linear(embedding_size, embedding_size)
        for weight_DD in (*self.input_projection.weight.chunk(3), self.output_projection.weight):
            nn.init.xavier_uniform_(weight_DD)
        for linear in (self.input_projection, self.output_projection):
            nn.init.zeros_(linear.bias)

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
            causal: a token sees itself and what stands before it.
            return_weights: use the written-out formula and return its weights, without dropout.

        Returns:
            The tokens [N, D] and, if asked for, each example's weights [H, T, S].
        """
        if memory is None:
            query_NHK, key_NHK, value_NHK = map(self._heads, self.input_projection(x_ND).chunk(3, -1))
            projected = Projected(query_NHK, key_NHK, value_NHK, rows, rows)
        else:
            memory_MD, memory_rows = memory
            projected = Projected(self.project_query(x_ND), *self.project_memory(memory_MD), rows, memory_rows)
        weights = None
        if return_weights:
            results = [attention_formula(*example, causal=causal) for example in projected.examples()]
            mixed_NHK, weights = torch.cat([mixed for mixed, _ in results]), [weight for _, weight in results]
        else:
            mixed_NHK = attend(projected, causal=causal, dropout=self.dropout if self.training else 0.0)
        return self.output_projection(mixed_NHK.flatten(-2)), weights

    def project_query(self, x_ND: Tensor) -> Tensor:
        """Return the queries [N, H, K]."""
        weight, bias = self.input_projection.weight, self.input_projection.bias
        return self._heads(F.linear(x_ND, weight[: self.embedding_size], bias[: self.embedding_size]))

    def project_memory(self, memory_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and the values, [M, H, K] each."""
        weight, bias = self.input_projection.weight, self.input_projection.bias
        key, value = F.linear(memory_MD, weight[self.embedding_size :], bias[self.embedding_size :]).chunk(2, -1)
        return self._heads(key), self._heads(value)

    def step(self, x_BD: Tensor, key_BHCK: Tensor, value_BHCK: Tensor, allowed_BC: Tensor | None = None) -> Tensor:
        """Attend from one new token an example to cached keys and values.

        Args:
            x_BD: the new tokens.
            key_BHCK: cached keys.
            value_BHCK: cached values.
            allowed_BC: True = may attend; None: everywhere.

        Returns:
            The tokens [B, D].
        """
        query_BH1K = self.project_query(x_BD)[:, :, None]
        mask_B11C = None if allowed_BC is None else allowed_BC[:, None, None]
        mixed_BH1K = F.scaled_dot_product_attention(query_BH1K, key_BHCK, value_BHCK, attn_mask=mask_B11C)
        return self.output_projection(mixed_BH1K.flatten(1))

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.num_heads, self.head_dim))

    def extra_repr(self) -> str:
        """State the numbers that an ablation varies."""
        return f"embedding_size={self.embedding_size}, num_heads={self.num_heads}, head_dim={self.head_dim}"
