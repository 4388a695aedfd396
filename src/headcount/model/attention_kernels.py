"""How attention is computed within each example of a ragged batch: the formula, and the fastest way there is to it.

Shapes are suffixes of names:

    B examples, N query tokens and M memory tokens of all examples together, T and S those of one example,
    H num_heads, J num_kv_heads, G heads that share a key-value head (H = J x G), K head_dim
"""

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

from headcount.model.dropout import dropout
from headcount.model.positions import alibi
from headcount.model.ragged import Rows

VARLEN_TAKES_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters  # older ones do not


@dataclass(frozen=True)
class Projected:
    """Queries [N, H, K] of some rows; keys and values [M, J, K] of theirs, which differ in cross-attention."""

    query_NHK: Tensor
    key_MJK: Tensor
    value_MJK: Tensor
    rows: Rows
    memory_rows: Rows

    @property
    def grouped(self) -> bool:
        """Whether several heads share a key-value head."""
        return self.key_MJK.shape[1] != self.query_NHK.shape[1]

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


@dataclass(frozen=True)
class Masks:
    """What is added to the scores of an example, cut from one mask that is as large as the longest example needs.

    A causal token sees itself and what stands before it; where an example has fewer queries than keys, they are its
    last.

    Attributes:
        memory_rows: where the examples that are asked begin and end.
        causal: whether tokens may not see what stands behind them.
        slopes_H: of ALiBi, or None.
        dtype: of the scores.
    """

    memory_rows: Rows
    causal: bool
    slopes_H: Tensor | None
    dtype: torch.dtype

    def of(self, targets: int, sources: int) -> Tensor | None:
        """Return the mask [1 or H, T, S] of an example, or None where there is nothing to add."""
        if not self.causal and self.slopes_H is None:
            return None
        return self.longest[:, sources - targets : sources, :sources]

    @cached_property
    def longest(self) -> Tensor:
        """The mask [1 or H, S, S] of the longest example; made where a kernel needs one."""
        places = torch.arange(self.memory_rows.longest, device=self.memory_rows.bounds.device)
        mask_HSS = torch.zeros(1, len(places), len(places), dtype=self.dtype, device=places.device)
        if self.slopes_H is not None:
            mask_HSS = alibi(self.slopes_H, places, places).to(self.dtype)
        if self.causal:
            mask_HSS = mask_HSS.masked_fill(places > places[:, None], -math.inf)
        return mask_HSS


def attend(x: Projected, *, causal: bool, slopes_H: Tensor | None = None, dropout_share: float = 0.0) -> Tensor:
    """Attend within each example by the fastest kernel there is for the device; all equal ``attention_formula``.

    Returns:
        The mixed values [N, H, K].
    """
    if x.query_NHK.device.type == "cpu":
        return attend_each(x, causal=causal, slopes_H=slopes_H, dropout_share=dropout_share)
    plain = slopes_H is None and not dropout_share and (not x.grouped or VARLEN_TAKES_GROUPS)
    if plain and x.query_NHK.is_cuda:
        capability = torch.cuda.get_device_capability(x.query_NHK.device)
        if flash_takes(x.query_NHK.dtype, x.query_NHK.shape[-1], capability):
            return attend_varlen(x, causal=causal)
    return attend_padded(x, causal=causal, slopes_H=slopes_H, dropout_share=dropout_share)


def flash_takes(dtype: torch.dtype, head_dim: int, capability: tuple[int, int]) -> bool:
    """Return whether flash attention for ragged rows takes heads of this kind on a GPU of this compute capability."""
    half = dtype in (torch.bfloat16, torch.float16)
    return half and head_dim % 8 == 0 and head_dim <= 256 and capability >= (8, 0)


def attend_each(x: Projected, *, causal: bool, slopes_H: Tensor | None = None, dropout_share: float = 0.0) -> Tensor:
    """Attend by one call an example: on a CPU faster than one padded, masked call.

    The fused kernel knows no dropout there, so with dropout the formula is used. In bf16 its backward is slower than in
    fp32, so attention stays in fp32.
    """
    dtype, mixed = x.query_NHK.dtype, []
    with torch.autocast("cpu", enabled=False):
        masks = Masks(x.memory_rows, causal, slopes_H, torch.promote_types(dtype, torch.float32))
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
                mixed_THK = fused(
                    *(part.transpose(0, 1)[None] for part in (query_THK, key_SJK, value_SJK)),
                    mask=mask_HTS,
                    causal=causal and plain,
                )[0].transpose(0, 1)
            mixed.append(mixed_THK)
        return torch.cat(mixed).to(dtype)


def attend_varlen(x: Projected, *, causal: bool) -> Tensor:
    """Attend by flash attention for ragged rows (Dao 2023): CUDA, bf16 or fp16."""
    window = (-1, 0) if causal else (-1, -1)
    sizes = x.rows.bounds, x.memory_rows.bounds, x.rows.longest, x.memory_rows.longest
    attend_ragged = partial(varlen_attn, enable_gqa=True) if x.grouped else varlen_attn
    mixed_NHK = attend_ragged(x.query_NHK, x.key_MJK, x.value_MJK, *sizes, window_size=window)
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
    return fused(*parts, mask=mask_BHTS, dropout_share=dropout_share).transpose(1, 2)[real_BT]


def fused(
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
