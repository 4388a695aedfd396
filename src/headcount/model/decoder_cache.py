"""What decoding remembers between two steps.

The hypotheses of one document share its keys and values, and stand side by side in one cache of what was written: a
mask says which slots are a hypothesis's own past. So a search that drops and doubles hypotheses moves a few bits, never
a cache. Shapes are suffixes of names:

    B documents, W hypotheses of each, S document tokens, C cache slots, J num_kv_heads, K head_dim, H num_heads
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
    """Caches of a Transformer; each list has one tensor a decoder layer.

    Attributes:
        self_keys: [B, J, C, K]; the document's slots come first where the model reads it within itself, then, at each
            step, one slot a hypothesis.
        self_values: likewise.
        cross_keys: the documents' keys, computed once; a layer has a tensor [B, J, S, K] for each group of neighbours
            of similar length, so that few of them are padding. Empty where there is no cross-attention.
        cross_values: likewise.
        document_ids_BS: the document's tokens.
        document_mask_B11S: added to scores, -inf where no token is.
        slot_mask_BWC: added to scores, -inf where a slot is not a hypothesis's own past.
        slot_places_BC: where a slot's token stands.
        places_B: where the next token will stand.
        prefix: slots that the document fills.
        written: tokens written so far.
        track_attention: whether steps say where they look, though nothing is copied.
        look_BWS: where the last step looked, if it said so.
    """

    self_keys: list[Tensor]
    self_values: list[Tensor]
    cross_keys: list[list[Tensor]]
    cross_values: list[list[Tensor]]
    document_ids_BS: Tensor
    document_mask_B11S: Tensor
    slot_mask_BWC: Tensor
    slot_places_BC: Tensor
    places_B: Tensor
    prefix: int
    written: int = 0
    track_attention: bool = False
    look_BWS: Tensor | None = None

    @property
    def width(self) -> int:
        """Hypotheses of each document."""
        return self.slot_mask_BWC.shape[1]

    @property
    def used(self) -> int:
        """Slots that are filled once the step in progress has filled its own."""
        return self.prefix + (self.written + 1) * self.width

    def begin_step(self) -> None:
        """Let each hypothesis attend to the slot that its new token gets."""
        new = slice(self.used - self.width, self.used)
        self.slot_mask_BWC[:, :, new].diagonal(dim1=1, dim2=2).fill_(0.0)
        self.slot_places_BC[:, new] = self.places_B[:, None]

    def end_step(self) -> None:
        """Move on to the next token."""
        self.written += 1
        self.places_B = self.places_B + 1

    def remember(self, layer: int, key_BWJK: Tensor, value_BWJK: Tensor) -> tuple[Tensor, Tensor]:
        """Put the new tokens' keys and values into a layer's cache; return what of it is filled, [B, J, slots, K]."""
        new, filled = slice(self.used - self.width, self.used), slice(self.used)
        self.self_keys[layer][:, :, new] = key_BWJK.transpose(1, 2)
        self.self_values[layer][:, :, new] = value_BWJK.transpose(1, 2)
        return self.self_keys[layer][:, :, filled], self.self_values[layer][:, :, filled]

    def cross(self, layer: int) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Yield a layer's groups of documents: which they are, their keys and values, and what is added to scores."""
        begin = 0
        for key_BJSK, value_BJSK in zip(self.cross_keys[layer], self.cross_values[layer], strict=True):
            group = slice(begin, begin := begin + len(key_BJSK))
            yield group, key_BJSK, value_BJSK, self.document_mask_B11S[group, ..., : key_BJSK.shape[2]]

    def self_mask(self, slopes_H: Tensor | None) -> Tensor | None:
        """Return what is added to the scores of self-attention, [B, 1 or H, W, slots]; None: nothing.

        Args:
            slopes_H: of ALiBi, or None.
        """
        if slopes_H is None and self.width == 1 and self.prefix == 0:
            return None
        mask_B1WC = self.slot_mask_BWC[:, None, :, : self.used]
        if slopes_H is None:
            return mask_B1WC
        return mask_B1WC + alibi(slopes_H, self.places_B[:, None], self.slot_places_BC[:, : self.used]).to(
            mask_B1WC.dtype
        )

    def keep(self, documents: Tensor) -> None:
        """Keep these documents alone, in the order that they have: finished ones leave the batch."""
        for cache in (self.self_keys, self.self_values):
            cache[:] = [layer[documents] for layer in cache]
        if self.cross_keys:
            groups = [documents[(documents >= g.start) & (documents < g.stop)] - g.start for g, *_ in self.cross(0)]
            for crossed in (self.cross_keys, self.cross_values):
                crossed[:] = [
                    [part[kept] for part, kept in zip(layer, groups, strict=True) if len(kept)] for layer in crossed
                ]
        self.document_ids_BS, self.document_mask_B11S = (
            self.document_ids_BS[documents],
            self.document_mask_B11S[documents],
        )
        self.slot_mask_BWC, self.slot_places_BC = self.slot_mask_BWC[documents], self.slot_places_BC[documents]
        self.places_B = self.places_B[documents]

    def branch(self, parents_BW: Tensor) -> None:
        """Make each hypothesis go on from another one of its document."""
        self.slot_mask_BWC = self.slot_mask_BWC.gather(1, parents_BW[:, :, None].expand_as(self.slot_mask_BWC))


def additive_mask(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where attention is allowed and -inf elsewhere."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, -math.inf)


def groups_of(lengths: list[int]) -> list[slice]:
    """Group documents with their neighbours so that none is shorter than two thirds of the longest of its group."""
    begins, longest = [0], lengths[0]
    for document, length in enumerate(lengths):
        if not 2 * longest / 3 <= length <= longest:
            begins.append(document)
            longest = length
    return [slice(*bounds) for bounds in pairwise([*begins, len(lengths)])]


def open_caches(
    layers: list[tuple[int, int]], *, documents: int, width: int, slots: int, like: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Make room for keys and values.

    Args:
        layers: (num_kv_heads, head_dim) of each decoder layer.
        documents: B.
        width: W.
        slots: C.
        like: a tensor of the caches' dtype and device.

    Returns:
        The keys' and the values' caches, [B, J, C, K] a layer.
    """
    keys, values = ([like.new_empty(documents, kv, slots, dim) for kv, dim in layers] for _ in range(2))
    return keys, values
