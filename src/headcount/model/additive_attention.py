"""Additive attention (Bahdanau et al. 2015, section 3.1 and appendix A.1.2), the first form of
attention."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def additive_formula(
    query_BHWK: Tensor,
    key_BHSK: Tensor,
    value_BHSK: Tensor,
    score_HK: Tensor,
    *,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Additive attention: softmax(v^T tanh(W s + U h)) h, with queries W s, keys U h and values h.

    Args:
        query_BHWK: queries of the target tokens.
        key_BHSK: keys of the source tokens.
        value_BHSK: values of the source tokens.
        score_HK: v, the weights of the score.
        bias: added to the scores [B, H, W, S]; -inf where a target may not attend.

    Returns:
        The attended values [B, H, W, K] and the weights [B, H, W, S], which sum to one over S.
    """
    match_BHWSK = torch.tanh(query_BHWK[:, :, :, None] + key_BHSK[:, :, None])
    scores_BHWS = (match_BHWSK @ score_HK[:, None, :, None])[..., 0]
    if bias is not None:
        scores_BHWS = scores_BHWS + bias
    weights_BHWS = scores_BHWS.softmax(-1)
    return weights_BHWS @ value_BHSK, weights_BHWS


class AdditiveAttention(nn.Module):
    """Attention whose scores come from a small network that compares the decoder's state with each
    source token.

    One head is the attention of the paper. Several heads use a part of the dimensions each, as in
    multi-head attention. ``head_gates`` [H] multiplies the output of each head. None, the default,
    costs nothing. ``edit_heads`` is that of ``MultiHeadAttention``.

    Args:
        embedding_size: width of states and source tokens.
        num_heads: number of heads, a divisor of embedding_size.
        kept_heads: of a pruned block, the indices of the heads that remain; None: all. The context
            vector has the dimensions of those only.

    Raises:
        ValueError: num_heads does not divide embedding_size.
    """

    head_gates: Tensor | None

    def __init__(
        self, *, embedding_size: int, num_heads: int = 1, kept_heads: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if embedding_size % num_heads:
            raise ValueError(
                f"num_heads={num_heads} does not divide embedding_size={embedding_size}"
            )
        self.embedding_size = embedding_size
        self.head_dim = embedding_size // num_heads
        self.kept_heads = None if kept_heads is None else list(kept_heads)
        self.num_heads = num_heads if kept_heads is None else len(kept_heads)
        self.context_size = self.num_heads * self.head_dim

        self.query_projection = nn.Linear(embedding_size, self.context_size, bias=False)
        self.key_projection = nn.Linear(embedding_size, self.context_size)
        self.score_HK = nn.Parameter(torch.empty(self.num_heads, self.head_dim))
        nn.init.uniform_(self.score_HK, -(self.head_dim**-0.5), self.head_dim**-0.5)
        self.register_buffer("head_gates", None, persistent=False)
        self.edit_heads: Callable[[Tensor], Tensor] | None = None

    def project_memory(self, memory_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and the values [B, H, S, K] of source tokens."""
        # The values are the tokens themselves, not a projection of them.
        value_BHSK = self._split_heads(memory_BSD)
        if self.kept_heads is not None:
            value_BHSK = value_BHSK[:, self.kept_heads]
        return self._split_heads(self.key_projection(memory_BSD)), value_BHSK

    def step(
        self, x_BWD: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend from the decoder's states.

        Args:
            x_BWD: state of each hypothesis.
            key_BHSK: keys of the source tokens.
            value_BHSK: values of the source tokens.
            bias: added to the scores [B, H, W, S].

        Returns:
            The context vectors [B, W, H x K], which is [B, W, D] unless pruned, and the weights
            [B, H, W, S].
        """
        query_BHWK = self._split_heads(self.query_projection(x_BWD))
        attended_BHWK, weights_BHWS = additive_formula(
            query_BHWK, key_BHSK, value_BHSK, self.score_HK, bias=bias
        )
        if self.head_gates is not None:
            attended_BHWK = attended_BHWK * self.head_gates[:, None, None]
        attended_BWHK = attended_BHWK.transpose(1, 2)
        if self.edit_heads is not None:
            attended_BWHK = self.edit_heads(attended_BWHK)
        return attended_BWHK.flatten(-2), weights_BHWS

    def _split_heads(self, x_BSD: Tensor) -> Tensor:
        return x_BSD.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def extra_repr(self) -> str:
        """Return the numbers that an ablation varies."""
        sizes = f"embedding_size={self.embedding_size}, num_heads={self.num_heads}"
        return f"{sizes}, head_dim={self.head_dim}"
