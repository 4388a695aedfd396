"""Ragged batches: the tokens of several examples end to end, and where each example begins and ends.

Shapes are suffixes of names: B examples, N tokens of all of them together, T tokens of the longest.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
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

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(self.lengths)

    @cached_property
    def positions(self) -> Tensor:
        """Each token's place within its own example, [N]."""
        return torch.arange(sum(self.lengths), device=self.bounds.device) - self.spread(self.bounds[:-1])

    def spread(self, values_B: Tensor) -> Tensor:
        """Give each token the value of its example, [N]."""
        return torch.repeat_interleave(values_B, self.bounds.diff(), output_size=sum(self.lengths))

    def positions_at_end_of(self, whole: "Rows") -> Tensor:
        """Return each token's place [N] in examples that end with these tokens; in themselves: ``positions``."""
        return (
            self.positions if whole is self else self.positions + self.spread(whole.bounds.diff() - self.bounds.diff())
        )

    def pad(self, values_N: Tensor) -> tuple[Tensor, Tensor]:
        """Lay ragged values out as a rectangle.

        Returns:
            The values [B, T, ...], zero where no token is, and a mask [B, T], True where one is.
        """
        real_BT = torch.arange(self.longest, device=values_N.device) < self.bounds.diff()[:, None]
        return pad_sequence(list(values_N.split(self.lengths)), batch_first=True), real_BT


def interleave(parts: list[tuple[Tensor, Rows]]) -> tuple[Tensor, Rows]:
    """Join ragged batches example by example: the first part of an example, then its second, and so on."""
    pieces = zip(*(values_N.split(rows.lengths) for values_N, rows in parts), strict=True)
    lengths = [sum(each) for each in zip(*(rows.lengths for _, rows in parts), strict=True)]
    joined_N = torch.cat([piece for example in pieces for piece in example])
    return joined_N, Rows.of(lengths, joined_N.device)
