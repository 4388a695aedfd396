"""Ragged batches: the tokens of all examples end to end, with the offsets where each example
begins.

Nothing is padded. Only attention needs to know where an example ends.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class BatchLayout:
    """Where the examples of a ragged batch begin and end.

    A layout holds no values: it comes with tensors [N, ...] that have a row for each token.

    Attributes:
        lengths: number of tokens of each example, as Python integers, which splitting needs.
        offsets: where each example begins, and where the last one ends, [B + 1] int32 on the
            device; kernels call it ``cu_seqlens``.
    """

    lengths: list[int]
    offsets: Tensor

    @classmethod
    def from_lengths(cls, lengths: list[int], device: torch.device | str = "cpu") -> "BatchLayout":
        """Return the layout of examples with these lengths."""
        offsets = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        return cls(lengths, offsets)

    @cached_property
    def num_tokens(self) -> int:
        """Number of tokens of all examples, N."""
        return sum(self.lengths)

    @cached_property
    def max_length(self) -> int:
        """Number of tokens of the longest example."""
        return max(self.lengths)

    @cached_property
    def lengths_B(self) -> Tensor:
        """Number of tokens of each example, [B] on the device."""
        return self.offsets.diff()

    @cached_property
    def positions(self) -> Tensor:
        """Position of each token in its own example, [N]."""
        tokens_N = torch.arange(self.num_tokens, device=self.offsets.device)
        return tokens_N - self.repeat_per_example(self.offsets[:-1])

    def repeat_per_example(self, values_B: Tensor) -> Tensor:
        """Return for each token the value of its example, [N]."""
        return torch.repeat_interleave(values_B, self.lengths_B, output_size=self.num_tokens)

    def positions_at_end_of(self, whole: "BatchLayout") -> Tensor:
        """Return the position of each token [N] if these tokens are the last ones of longer
        examples.

        Args:
            whole: the layout of the complete examples. For the layout itself the result is
                ``positions``.
        """
        if whole is self:
            return self.positions
        return self.positions + self.repeat_per_example(whole.lengths_B - self.lengths_B)

    def pad(self, values_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return ragged values as a padded tensor.

        Returns:
            The values [B, T, ...], zero in the padding, and a mask [B, T], True for tokens.
        """
        padded_BT = pad_sequence(list(values_N.split(self.lengths)), batch_first=True)
        is_token_BT = (
            torch.arange(self.max_length, device=values_N.device) < self.lengths_B[:, None]
        )
        return padded_BT, is_token_BT


def interleave(parts: list[tuple[Tensor, BatchLayout]]) -> tuple[Tensor, BatchLayout]:
    """Join ragged batches example by example: the first part of an example, then its second part.

    Args:
        parts: ragged values and their layout; all have the same number of examples.

    Returns:
        The joined values and their layout.
    """
    split_parts = [values_N.split(layout.lengths) for values_N, layout in parts]
    pieces: list[Tensor] = []
    lengths = []
    for example in zip(*split_parts, strict=True):
        pieces.extend(example)
        lengths.append(sum(len(piece) for piece in example))
    joined_N = torch.cat(pieces)
    return joined_N, BatchLayout.from_lengths(lengths, joined_N.device)
