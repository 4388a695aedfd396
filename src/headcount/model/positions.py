"""How a model is told where a token stands: a table that is added, a rotation, or a bias of the attention.

Shapes are suffixes of names: N tokens, T query tokens, S memory tokens, D embedding_size, H num_heads, K head_dim.
"""

import math

import torch
from torch import Tensor


def sinusoids(length: int, embedding_size: int) -> Tensor:
    """Return the position table of Vaswani et al. 2017, section 3.5: [length, embedding_size]."""
    rates = torch.exp(torch.arange(0, embedding_size, 2, dtype=torch.float32) * (-math.log(10_000) / embedding_size))
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :embedding_size]


def rotation_table(length: int, head_dim: int) -> Tensor:
    """Return the cosines and sines of rotary positions (Su et al. 2021, section 3.2.2): [2, length, head_dim / 2]."""
    rates = 10_000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x_NHK: Tensor, table: Tensor, positions_N: Tensor) -> Tensor:
    """Turn each pair of dimensions (k, k + K/2) by its place's angle; products then tell distances (Su et al. 2021).

    Args:
        x_NHK: queries or keys; any number of dimensions may stand before the last two.
        table: of ``rotation_table``.
        positions_N: the place of each token; its shape is that of x without the last two dimensions.

    Returns:
        The rotated x; lengths of vectors are kept.
    """
    cos, sin = table[:, positions_N].to(x_NHK.dtype)[..., None, :]
    first, second = x_NHK.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def alibi_slopes(num_heads: int) -> Tensor:
    """Return each head's slope (Press et al. 2022, section 3): 2^(-8/H), 2^(-16/H), ..., [H].

    For a number of heads that is no power of two, as the authors' code does: the slopes of the next smaller power, then
    every second one of the next larger.
    """
    power = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    slopes += [2 ** (-4 * (2 * head + 1) / power) for head in range(num_heads - power)]
    return torch.tensor(slopes, dtype=torch.float32)


def alibi(slopes_H: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Return the bias [..., H, T, S] that takes slope x distance off each score (Press et al. 2022, section 3).

    In an encoder, which looks both ways, distance is |t - s|.
    """
    distance = (query_positions[..., :, None] - key_positions[..., None, :]).abs()
    return -slopes_H[:, None, None] * distance[..., None, :, :]
