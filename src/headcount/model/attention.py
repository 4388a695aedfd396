"""Multi-head attention over ragged batches (Vaswani et al. 2017, section 3.2).

A batch holds its examples end to end in one vector of tokens, so that nothing is padded; only attention needs to know
where an example begins and ends. Shapes are suffixes of names:

    B examples, N query tokens and M memory tokens of all examples together, T and S those of one example,
    D embedding_size, H num_heads, K head_dim, C cache positions
"""

import math
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
        starts_B1: where each example begins, and where the last one ends; int32, on the device.
    """

    lengths: list[int]
    starts_B1: Tensor

    @classmethod
    def of(cls, lengths: list[int], device: torch.device | str = "cpu") -> "Rows":
        """Make the rows of examples with these lengths."""
        return cls(lengths, torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device))

    def positions(self) -> Tensor:
        """Return each token's place within its own example, [N]."""
        counts = self.starts_B1.diff()
        total = sum(self.lengths)
        starts_N = torch.repeat_interleave(self.starts_B1[:-1], counts, output_size=total)
        return torch.arange(total, device=counts.device) - starts_N


def attention_formula(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
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


def attend(
    query_NHK: Tensor,
    key_MHK: Tensor,
    value_MHK: Tensor,
    query_rows: Rows,
    memory_rows: Rows,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Attend within each example, by the fastest kernel for the device; all equal ``attention_formula``.

    Returns:
        The mixed values [N, H, K].
    """
    on_gpu = query_NHK.device.type != "cpu"
    half = query_NHK.dtype in (torch.bfloat16, torch.float16)
    if on_gpu and query_NHK.is_cuda and half and dropout == 0:
        return attend_varlen(query_NHK, key_MHK, value_MHK, query_rows, memory_rows, causal=causal)
    one_call = attend_padded if on_gpu else attend_each
    return one_call(query_NHK, key_MHK, value_MHK, query_rows, memory_rows, causal=causal, dropout=dropout)


def attend_each(
    query_NHK: Tensor,
    key_MHK: Tensor,
    value_MHK: Tensor,
    query_rows: Rows,
    memory_rows: Rows,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Attend by one fused call an example: on a CPU faster than one padded, masked call."""
    examples = zip(
        query_NHK.split(query_rows.lengths),
        key_MHK.split(memory_rows.lengths),
        value_MHK.split(memory_rows.lengths),
        strict=True,
    )
    mixed = [
        F.scaled_dot_product_attention(
            query_THK.transpose(0, 1)[None],
            key_SHK.transpose(0, 1)[None],
            value_SHK.transpose(0, 1)[None],
            dropout_p=dropout,
            is_causal=causal,
        )[0].transpose(0, 1)
        for query_THK, key_SHK, value_SHK in examples
    ]
    return torch.cat(mixed)


def attend_padded(
    query_NHK: Tensor,
    key_MHK: Tensor,
    value_MHK: Tensor,
    query_rows: Rows,
    memory_rows: Rows,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Attend by one padded, masked call, for devices without a kernel for ragged rows."""
    query_BTHK, real_BT = pad(query_NHK, query_rows)
    key_BSHK, real_BS = pad(key_MHK, memory_rows)
    value_BSHK, _ = pad(value_MHK, memory_rows)
    allowed_B1TS = real_BS[:, None, None, :]  # True = may attend
    if causal:
        size = real_BT.shape[1], real_BS.shape[1]
        allowed_B1TS = allowed_B1TS & torch.ones(size, dtype=torch.bool, device=real_BS.device).tril()
    mixed_BHTK = F.scaled_dot_product_attention(
        query_BTHK.transpose(1, 2),
        key_BSHK.transpose(1, 2),
        value_BSHK.transpose(1, 2),
        attn_mask=allowed_B1TS,
        dropout_p=dropout,
    )
    return mixed_BHTK.transpose(1, 2)[real_BT]


def attend_varlen(
    query_NHK: Tensor,
    key_MHK: Tensor,
    value_MHK: Tensor,
    query_rows: Rows,
    memory_rows: Rows,
    *,
    causal: bool = False,
) -> Tensor:
    """Attend by flash attention for ragged rows (Dao 2023): CUDA, bf16 or fp16."""
    from torch.nn.attention.varlen import varlen_attn

    mixed_NHK = varlen_attn(
        query_NHK,
        key_MHK,
        value_MHK,
        query_rows.starts_B1,
        memory_rows.starts_B1,
        max(query_rows.lengths),
        max(memory_rows.lengths),
        window_size=(-1, 0) if causal else (-1, -1),
    )
    assert isinstance(mixed_NHK, Tensor)
    return mixed_NHK


def pad(values_N: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """Lay ragged values out as a rectangle.

    Returns:
        The values [B, longest, ...], zero where there is no token, and a mask [B, longest], True where there is one.
    """
    counts_B1 = rows.starts_B1.diff()[:, None]
    real_BT = torch.arange(max(rows.lengths), device=values_N.device) < counts_B1
    return pad_sequence(list(values_N.split(rows.lengths)), batch_first=True), real_BT


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
        self.embedding_size = embedding_size
        self.num_heads = num_heads
        self.head_dim = embedding_size // num_heads
        self.dropout = dropout
        self.input_projection = nn.Linear(embedding_size, 3 * embedding_size)
        self.output_projection = nn.Linear(embedding_size, embedding_size)
        for weight_DD in self.input_projection.weight.chunk(3):
            nn.init.xavier_uniform_(weight_DD)
        nn.init.xavier_uniform_(self.output_projection.weight)
        nn.init.zeros_(self.input_projection.bias)
        nn.init.zeros_(self.output_projection.bias)

    def forward(
        self,
        x_ND: Tensor,
        rows: Rows,
        memory_MD: Tensor | None = None,
        memory_rows: Rows | None = None,
        *,
        causal: bool = False,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Attend within each example of a ragged batch.

        Args:
            x_ND: the tokens that ask.
            rows: where their examples begin and end.
            memory_MD: the tokens that are asked; None: the same, self-attention.
            memory_rows: where the examples of the memory begin and end.
            causal: a token sees itself and what stands before it.
            return_weights: use the written-out formula and return its weights, without dropout.

        Returns:
            The tokens [N, D] and, if asked for, for each example its weights [H, T, S].
        """
        if memory_MD is None or memory_rows is None:
            memory_rows = rows
            query_NHK, key_MHK, value_MHK = (
                self._heads(part) for part in self.input_projection(x_ND).chunk(3, -1)
            )
        else:
            query_NHK = self.project_query(x_ND)
            key_MHK, value_MHK = self.project_memory(memory_MD)
        if not return_weights:
            dropout = self.dropout if self.training else 0.0
            mixed_NHK = attend(
                query_NHK, key_MHK, value_MHK, rows, memory_rows, causal=causal, dropout=dropout
            )
            return self.output_projection(mixed_NHK.flatten(-2)), None
        examples = zip(
            query_NHK.split(rows.lengths),
            key_MHK.split(memory_rows.lengths),
            value_MHK.split(memory_rows.lengths),
            strict=True,
        )
        results = [attention_formula(*example, causal=causal) for example in examples]
        mixed_NHK = torch.cat([mixed for mixed, _ in results])
        return self.output_projection(mixed_NHK.flatten(-2)), [weights for _, weights in results]

    def project_query(self, x_ND: Tensor) -> Tensor:
        """Return the queries [N, H, K]."""
        weight_DD, bias_D = (
            p[: self.embedding_size] for p in (self.input_projection.weight, self.input_projection.bias)
        )
        return self._heads(F.linear(x_ND, weight_DD, bias_D))

    def project_memory(self, memory_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and the values, [M, H, K] each."""
        weight, bias = (
            p[self.embedding_size :] for p in (self.input_projection.weight, self.input_projection.bias)
        )
        key, value = F.linear(memory_MD, weight, bias).chunk(2, -1)
        return self._heads(key), self._heads(value)

    def step(
        self, query_BHK: Tensor, key_BHCK: Tensor, value_BHCK: Tensor, allowed_BC: Tensor | None
    ) -> Tensor:
        """Attend from one new token an example to cached keys and values.

        Args:
            query_BHK: from ``project_query``.
            key_BHCK: cached keys.
            value_BHCK: cached values.
            allowed_BC: True = may attend; None: everywhere.

        Returns:
            The tokens [B, D].
        """
        mask_B11C = None if allowed_BC is None else allowed_BC[:, None, None, :]
        mixed_BH1K = F.scaled_dot_product_attention(
            query_BHK[:, :, None], key_BHCK, value_BHCK, attn_mask=mask_B11C
        )
        return self.output_projection(mixed_BH1K.flatten(1))

    def _heads(self, projected_ND: Tensor) -> Tensor:
        return projected_ND.unflatten(-1, (self.num_heads, self.head_dim))

    def extra_repr(self) -> str:
        """State the numbers that an ablation varies."""
        return f"embedding_size={self.embedding_size}, num_heads={self.num_heads}, head_dim={self.head_dim}"
