"""The caches of a Transformer decoder between two generation steps.

The hypotheses of a document share its keys and values, and one cache of generated tokens. A bias
says which slots of the cache are a hypothesis's own past. A search that drops and duplicates
hypotheses therefore moves a few numbers in the bias and never a key or a value.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from headcount.model.positions import alibi


@dataclass(kw_only=True)
class DecoderState:
    """Caches of a Transformer decoder; each list has one item for each decoder layer.

    Attributes:
        self_keys: [B, J, C, K]. In a decoder-only model the document's slots come first. Then each
            step fills one slot for each hypothesis.
        self_values: likewise.
        cross_keys: keys of the documents, computed once: a tensor [B, J, S, K] for each group of
            documents of similar length, so that there is little padding. Empty without
            cross-attention.
        cross_values: likewise.
        document_ids_BS: the documents' tokens.
        document_bias_B11S: added to scores, -inf in the padding.
        slot_bias_BWC: added to scores, -inf where a slot is not a hypothesis's own past.
        slot_positions_BC: position of the token in each slot.
        positions_B: position of the next token.
        prefix: number of slots that the document fills.
        num_generated: number of tokens generated so far.
        track_attention: whether steps return the attention to the document even if the model
            does not need it.
        attention_BWS: attention of the last step to the document, if it was returned.
    """

    self_keys: list[Tensor]
    self_values: list[Tensor]
    cross_keys: list[list[Tensor]]
    cross_values: list[list[Tensor]]
    document_ids_BS: Tensor
    document_bias_B11S: Tensor
    slot_bias_BWC: Tensor
    slot_positions_BC: Tensor
    positions_B: Tensor
    prefix: int
    num_generated: int = 0
    track_attention: bool = False
    attention_BWS: Tensor | None = None

    @property
    def width(self) -> int:
        """Number of hypotheses of each document."""
        return self.slot_bias_BWC.shape[1]

    @property
    def num_filled(self) -> int:
        """Number of slots that are filled when the current step has filled its own."""
        return self.prefix + (self.num_generated + 1) * self.width

    @property
    def new_slots(self) -> slice:
        """The slots of the current step, one for each hypothesis."""
        return slice(self.num_filled - self.width, self.num_filled)

    def begin_step(self) -> None:
        """Let each hypothesis attend to the slot of its new token."""
        self.slot_bias_BWC[:, :, self.new_slots].diagonal(dim1=1, dim2=2).fill_(0.0)
        self.slot_positions_BC[:, self.new_slots] = self.positions_B[:, None]

    def end_step(self) -> None:
        """Advance to the next token."""
        self.num_generated += 1
        self.positions_B = self.positions_B + 1

    def append(self, layer: int, key_BWJK: Tensor, value_BWJK: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values of the new tokens in the cache of a layer; return the filled part
        of the cache, [B, J, C, K]."""
        self.self_keys[layer][:, :, self.new_slots] = key_BWJK.transpose(1, 2)
        self.self_values[layer][:, :, self.new_slots] = value_BWJK.transpose(1, 2)
        filled = slice(self.num_filled)
        return self.self_keys[layer][:, :, filled], self.self_values[layer][:, :, filled]

    def cross(self, layer: int) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Yield for each group of documents which they are, their keys and values in a layer, and
        their bias."""
        keys = self.cross_keys[layer]
        values = self.cross_values[layer]
        begin = 0
        for key_BJSK, value_BJSK in zip(keys, values, strict=True):
            group = slice(begin, begin + len(key_BJSK))
            longest = key_BJSK.shape[2]
            yield group, key_BJSK, value_BJSK, self.document_bias_B11S[group, ..., :longest]
            begin = group.stop

    def self_bias(self, slopes_H: Tensor | None) -> Tensor | None:
        """Return the bias of self-attention, [B, 1 or H, W, C]; None if there is nothing to add.

        Args:
            slopes_H: slopes of ALiBi, or None.
        """
        # A single hypothesis attends to all slots.
        if slopes_H is None and self.width == 1 and self.prefix == 0:
            return None
        filled = slice(self.num_filled)
        bias_B1WC = self.slot_bias_BWC[:, None, :, filled]
        if slopes_H is None:
            return bias_B1WC
        key_positions_BC = self.slot_positions_BC[:, filled]
        alibi_BH1C = alibi(slopes_H, self.positions_B[:, None], key_positions_BC)
        return bias_B1WC + alibi_BH1C.to(bias_B1WC.dtype)

    def select(self, documents: Tensor) -> None:
        """Keep only these documents, in ascending order: finished ones leave the batch."""
        for cache in (self.self_keys, self.self_values):
            cache[:] = [layer[documents] for layer in cache]

        # The groups of cross-attention are batches of their own.
        if self.cross_keys:
            kept_in_groups = []
            for group, *_ in self.cross(0):
                is_in_group = (documents >= group.start) & (documents < group.stop)
                kept_in_groups.append(documents[is_in_group] - group.start)
            for cross in (self.cross_keys, self.cross_values):
                cross[:] = [_select_in_groups(layer, kept_in_groups) for layer in cross]

        self.document_ids_BS = self.document_ids_BS[documents]
        self.document_bias_B11S = self.document_bias_B11S[documents]
        self.slot_bias_BWC = self.slot_bias_BWC[documents]
        self.slot_positions_BC = self.slot_positions_BC[documents]
        self.positions_B = self.positions_B[documents]

    def reorder(self, parents_BW: Tensor) -> None:
        """Let each hypothesis continue another one of its document.

        Its own past are then the slots of that one. Keys and values stay where they are.
        """
        self.slot_bias_BWC = self.slot_bias_BWC.gather(
            1, parents_BW[:, :, None].expand_as(self.slot_bias_BWC)
        )


def _select_in_groups(layer: list[Tensor], kept_in_groups: list[Tensor]) -> list[Tensor]:
    return [group[kept] for group, kept in zip(layer, kept_in_groups, strict=True) if len(kept)]


def additive_bias(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where attention is allowed and -inf elsewhere."""
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill_(~allowed, -math.inf)


def group_by_length(lengths: list[int]) -> list[slice]:
    """Group neighbouring documents so that none is shorter than two thirds of the longest in its
    group.

    Args:
        lengths: numbers of tokens, in any order; descending order makes the fewest groups.
    """
    begins = [0]
    longest = lengths[0]
    for document, length in enumerate(lengths):
        if not 2 * longest / 3 <= length <= longest:
            begins.append(document)
            longest = length
    return [slice(begin, end) for begin, end in pairwise([*begins, len(lengths)])]


def allocate_caches(
    layers: list[tuple[int, int]], *, documents: int, slots: int, like: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Allocate the caches of keys and values.

    Args:
        layers: (num_kv_heads, head_dim) of each decoder layer.
        documents: B.
        slots: C.
        like: a tensor of the caches' dtype and device.

    Returns:
        The caches of the keys and of the values, [B, J, C, K] for each layer.
    """
    keys = [
        like.new_empty(documents, num_kv_heads, slots, head_dim)
        for num_kv_heads, head_dim in layers
    ]
    values = [
        like.new_empty(documents, num_kv_heads, slots, head_dim)
        for num_kv_heads, head_dim in layers
    ]
    return keys, values
