"""Attention within each example of a ragged batch: the formula, and fast kernels that equal it.

``attention_formula`` is what a paper writes, and ``attend_by_formula`` applies it to a batch.
``attend`` computes the same with the fastest kernel for the device:

- ``attend_per_example``: one fused call for each example, on a CPU
- ``attend_varlen``: flash attention for ragged batches, on a recent GPU in half precision
- ``attend_padded``: one padded and masked call, elsewhere
"""

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

from headcount.model.dropout import dropout
from headcount.model.positions import alibi
from headcount.model.ragged import BatchLayout

# Older versions of torch have no grouped queries in this kernel.
VARLEN_SUPPORTS_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters


@dataclass(frozen=True)
class QKV:
    """Projected queries of the target tokens, and keys and values of the source tokens.

    In self-attention targets and sources are the same tokens. In cross-attention they have layouts
    of their own.
    """

    query_NHK: Tensor
    key_MJK: Tensor
    value_MJK: Tensor
    layout: BatchLayout
    memory_layout: BatchLayout

    @property
    def is_grouped(self) -> bool:
        """Whether several heads share a key-value head."""
        return self.key_MJK.shape[1] != self.query_NHK.shape[1]

    def examples(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the queries [T, H, K], keys and values [S, J, K] of each example."""
        queries = self.query_NHK.split(self.layout.lengths)
        keys = self.key_MJK.split(self.memory_layout.lengths)
        values = self.value_MJK.split(self.memory_layout.lengths)
        return zip(queries, keys, values, strict=True)

    def upcast_on_cpu(self) -> "QKV":
        """Return bf16 as fp32 on a CPU, and anything else unchanged.

        The products of single examples have other shapes in each batch. In bf16 a CPU compiles a
        kernel for each new shape, which takes longer than the product, and the backward pass of
        torch's fused kernel is slower.
        """
        if self.query_NHK.device.type != "cpu" or self.query_NHK.dtype != torch.bfloat16:
            return self
        return replace(
            self,
            query_NHK=self.query_NHK.float(),
            key_MJK=self.key_MJK.float(),
            value_MJK=self.value_MJK.float(),
        )


def attention_formula(
    query_THK: Tensor,
    key_SJK: Tensor,
    value_SJK: Tensor,
    *,
    bias_HTS: Tensor | None = None,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Attention within one example: softmax(Q K^T / sqrt(head_dim) + bias) V (Vaswani et al. 2017,
    equation 1).

    Args:
        query_THK: queries of the target tokens.
        key_SJK: keys of the source tokens; each key-value head serves H / J neighbouring heads.
        value_SJK: values of the source tokens.
        bias_HTS: added to the scores; -inf where a target may not attend.
        dropout_p: probability that an attention weight is dropped.

    Returns:
        The attended values [T, H, K] and the weights [H, T, S] before dropout, which sum to one
        over S.
    """
    # Heads that share a key-value head are neighbours: H = J x G.
    query_JGTK = query_THK.unflatten(1, (key_SJK.shape[1], -1)).permute(1, 2, 0, 3)
    key_J1SK = key_SJK.transpose(0, 1)[:, None]
    value_J1SK = value_SJK.transpose(0, 1)[:, None]

    head_dim = query_JGTK.shape[-1]
    scores_HTS = (query_JGTK / math.sqrt(head_dim) @ key_J1SK.transpose(-1, -2)).flatten(0, 1)
    if bias_HTS is not None:
        scores_HTS = scores_HTS + bias_HTS
    weights_HTS = scores_HTS.softmax(-1)

    kept_HTS = dropout(weights_HTS, dropout_p) if dropout_p else weights_HTS
    attended_JGTK = kept_HTS.unflatten(0, query_JGTK.shape[:2]) @ value_J1SK
    return attended_JGTK.permute(2, 0, 1, 3).flatten(1, 2), weights_HTS


@dataclass(frozen=True)
class AttentionBias:
    """The bias that is added to the scores of each example: causal mask and ALiBi.

    With a causal mask a token attends to itself and to earlier tokens. If an example has fewer
    queries than keys, the queries belong to its last tokens. The bias is computed once for the
    longest example, and that of every other example is a slice of it.

    Attributes:
        memory_layout: layout of the source tokens.
        causal: whether later tokens are masked.
        slopes_H: slopes of ALiBi, or None.
        dtype: of the scores.
    """

    memory_layout: BatchLayout
    causal: bool
    slopes_H: Tensor | None
    dtype: torch.dtype

    def for_example(self, targets: int, sources: int) -> Tensor | None:
        """Return the bias [1 or H, T, S] of an example with these numbers of tokens; None if there
        is nothing to add."""
        if not self.causal and self.slopes_H is None:
            return None
        return self.of_longest_HSS[:, sources - targets : sources, :sources]

    @cached_property
    def of_longest_HSS(self) -> Tensor:
        """The bias [1 or H, S, S] of the longest example, made when a kernel first needs it."""
        positions = torch.arange(
            self.memory_layout.max_length, device=self.memory_layout.offsets.device
        )
        if self.slopes_H is None:
            bias_HSS = torch.zeros(
                1, len(positions), len(positions), dtype=self.dtype, device=positions.device
            )
        else:
            bias_HSS = alibi(self.slopes_H, positions, positions).to(self.dtype)
        if self.causal:
            bias_HSS = bias_HSS.masked_fill(positions > positions[:, None], -math.inf)
        return bias_HSS


def attend(
    x: QKV, *, causal: bool, slopes_H: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """Attend within each example by the fastest kernel for the device. All of them equal
    ``attention_formula``.

    Returns:
        The attended values [N, H, K].
    """
    if x.query_NHK.device.type == "cpu":
        return attend_per_example(x, causal=causal, slopes_H=slopes_H, dropout_p=dropout_p)

    # Flash attention for ragged batches has neither a bias nor dropout.
    fits_varlen = slopes_H is None and not dropout_p
    if x.is_grouped and not VARLEN_SUPPORTS_GROUPS:
        fits_varlen = False
    if fits_varlen and x.query_NHK.is_cuda:
        capability = torch.cuda.get_device_capability(x.query_NHK.device)
        if flash_supports(x.query_NHK.dtype, x.query_NHK.shape[-1], capability):
            return attend_varlen(x, causal=causal)
    return attend_padded(x, causal=causal, slopes_H=slopes_H, dropout_p=dropout_p)


def flash_supports(dtype: torch.dtype, head_dim: int, capability: tuple[int, int]) -> bool:
    """Return whether flash attention supports a dtype and a head width on a GPU of this compute
    capability."""
    is_half = dtype in (torch.bfloat16, torch.float16)
    return is_half and head_dim % 8 == 0 and head_dim <= 256 and capability >= (8, 0)


def attend_per_example(
    x: QKV, *, causal: bool, slopes_H: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """Attend by one call for each example, which on a CPU is faster than one padded and masked
    call.

    With dropout the formula is used, because torch's fused CPU kernel has no dropout.
    """
    if dropout_p:
        return attend_by_formula(x, causal=causal, slopes_H=slopes_H, dropout_p=dropout_p)[0]

    dtype = x.query_NHK.dtype
    x = x.upcast_on_cpu()
    bias = AttentionBias(x.memory_layout, causal, slopes_H, x.query_NHK.dtype)
    with torch.autocast("cpu", enabled=False):
        outputs = [_attend_fused(*example, bias) for example in x.examples()]
    return torch.cat(outputs).to(dtype)


def attend_by_formula(
    x: QKV, *, causal: bool, slopes_H: Tensor | None = None, dropout_p: float = 0.0
) -> tuple[Tensor, list[Tensor]]:
    """Attend by the formula, one example after the other.

    Returns:
        The attended values [N, H, K] and the weights [H, T, S] of each example, before dropout.
    """
    dtype = x.query_NHK.dtype
    x = x.upcast_on_cpu()
    bias = AttentionBias(x.memory_layout, causal, slopes_H, x.query_NHK.dtype)
    outputs = []
    weights = []
    with torch.autocast("cpu", enabled=False):
        for query_THK, key_SJK, value_SJK in x.examples():
            attended_THK, weights_HTS = attention_formula(
                query_THK,
                key_SJK,
                value_SJK,
                bias_HTS=bias.for_example(len(query_THK), len(key_SJK)),
                dropout_p=dropout_p,
            )
            outputs.append(attended_THK)
            weights.append(weights_HTS)
    return torch.cat(outputs).to(dtype), weights


def _attend_fused(
    query_THK: Tensor, key_SJK: Tensor, value_SJK: Tensor, bias: AttentionBias
) -> Tensor:
    """Attend within one example by torch's fused kernel, [T, H, K]."""
    # The kernel has a causal mask of its own, which is right if the example has as many queries as
    # keys. It is faster than a mask in the bias.
    targets = len(query_THK)
    sources = len(key_SJK)
    kernel_masks = bias.causal and bias.slopes_H is None and targets == sources
    bias_HTS = None if kernel_masks else bias.for_example(targets, sources)

    attended_1HTK = sdpa(
        query_THK.transpose(0, 1)[None],
        key_SJK.transpose(0, 1)[None],
        value_SJK.transpose(0, 1)[None],
        bias=bias_HTS,
        causal=kernel_masks,
    )
    return attended_1HTK[0].transpose(0, 1)


def attend_varlen(x: QKV, *, causal: bool) -> Tensor:
    """Attend by flash attention for ragged batches (Dao 2023), on CUDA in bf16 or fp16."""
    kernel = partial(varlen_attn, enable_gqa=True) if x.is_grouped else varlen_attn
    attended_NHK = kernel(
        x.query_NHK,
        x.key_MJK,
        x.value_MJK,
        x.layout.offsets,
        x.memory_layout.offsets,
        x.layout.max_length,
        x.memory_layout.max_length,
        window_size=(-1, 0) if causal else (-1, -1),
    )
    assert isinstance(attended_NHK, Tensor)
    return attended_NHK


def attend_padded(
    x: QKV, *, causal: bool, slopes_H: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """Attend by one padded and masked call, where no kernel takes ragged batches."""
    query_BTHK, is_query_BT = x.layout.pad(x.query_NHK)
    key_BSJK, is_key_BS = x.memory_layout.pad(x.key_MJK)
    value_BSJK, _ = x.memory_layout.pad(x.value_MJK)

    # Queries are the last tokens of their examples.
    earlier_B = x.memory_layout.lengths_B - x.layout.lengths_B
    query_positions_BT = (
        torch.arange(is_query_BT.shape[1], device=is_query_BT.device) + earlier_B[:, None]
    )
    key_positions_BS = torch.arange(is_key_BS.shape[1], device=is_key_BS.device).expand_as(
        is_key_BS
    )

    # True: may attend.
    allowed_BTS = is_key_BS[:, None]
    if causal:
        allowed_BTS = allowed_BTS & (key_positions_BS[:, None] <= query_positions_BT[:, :, None])
    bias_BHTS = allowed_BTS[:, None]
    if slopes_H is not None:
        alibi_BHTS = alibi(slopes_H, query_positions_BT, key_positions_BS).to(query_BTHK.dtype)
        bias_BHTS = alibi_BHTS.masked_fill(~bias_BHTS, -math.inf)

    attended_BHTK = sdpa(
        query_BTHK.transpose(1, 2),
        key_BSJK.transpose(1, 2),
        value_BSJK.transpose(1, 2),
        bias=bias_BHTS,
        dropout_p=dropout_p,
    )
    return attended_BHTK.transpose(1, 2)[is_query_BT]


def sdpa(
    query_BHTK: Tensor,
    key_BJSK: Tensor,
    value_BJSK: Tensor,
    *,
    bias: Tensor | None = None,
    causal: bool = False,
    dropout_p: float = 0.0,
) -> Tensor:
    """Return the attended values [B, H, T, K] by torch's fused kernel.

    Shared keys and values are not repeated.
    """
    return F.scaled_dot_product_attention(
        query_BHTK,
        key_BJSK,
        value_BJSK,
        attn_mask=bias,
        dropout_p=dropout_p,
        is_causal=causal,
        enable_gqa=query_BHTK.shape[1] != key_BJSK.shape[1],
    )
