"""Positional encodings.

A table that is added to embeddings, a rotation of queries and keys, or a bias on the scores.
"""

import math

import torch
from torch import Tensor


def sinusoids(length: int, embedding_size: int) -> Tensor:
    """Return the table [length, embedding_size] of Vaswani et al. 2017, section 3.5."""
    exponents = torch.arange(0, embedding_size, 2, dtype=torch.float32)
    frequencies = torch.exp(exponents * (-math.log(10_000) / embedding_size))
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :embedding_size]


def rotation_table(length: int, head_dim: int) -> Tensor:
    """Return cosines and sines of rotary positions, [2, length, head_dim / 2] (Su et al. 2021,
    section 3.2.2)."""
    frequencies = 10_000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x_NHK: Tensor, table: Tensor, positions_N: Tensor) -> Tensor:
    """Rotate each pair of dimensions (k, k + K/2) by the angle of its position (Su et al. 2021).

    Products of rotated queries and keys depend on the distance of their positions.

    Args:
        x_NHK: queries or keys, with any number of leading dimensions.
        table: from ``rotation_table``.
        positions_N: position of each token; its shape is that of x without the last two
            dimensions.

    Returns:
        The rotated x; the lengths of vectors do not change.
    """
    cos, sin = table[:, positions_N].to(x_NHK.dtype)[..., None, :]
    first, second = x_NHK.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def alibi_slopes(num_heads: int) -> Tensor:
    """Return the slope of each head, [H]: 2^(-8/H), 2^(-16/H), ... (Press et al. 2022, section 3).

    If the number of heads is not a power of two, the slopes of the next smaller power come first,
    then every second one of the next larger power, as in the authors' code.
    """
    power = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    slopes += [2 ** (-4 * (2 * head + 1) / power) for head in range(num_heads - power)]
    return torch.tensor(slopes, dtype=torch.float32)


def alibi(slopes_H: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Return the bias [..., H, T, S] of ALiBi: minus slope x distance (Press et al. 2022, section
    3).

    In an encoder, where tokens attend in both directions, the distance is |t - s|.
    """
    distance = (query_positions[..., :, None] - key_positions[..., None, :]).abs()
    return -slopes_H[:, None, None] * distance[..., None, :, :]
