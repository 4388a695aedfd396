"""Additive attention (Bahdanau et al. 2015, section 3.1 and appendix A.1.2), where attention began.

Memory, masks and returned weights mean what they mean in multi-head attention. Shapes are suffixes of names:

    B documents, W queries of each, S document tokens, D embedding_size, H num_heads, K head_dim
"""

import torch
from torch import Tensor, nn


def additive_formula(
    query_BHWK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, score_HK: Tensor, *, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend as the paper writes it: softmax(v^T tanh(W s + U h)) h, with W s the queries and U h the keys.

    Args:
        query_BHWK: what each target token looks for.
        key_BHSK: what each source token offers.
        value_BHSK: what each source token says.
        score_HK: v, which makes a score of each match.
        mask: added to the scores [B, H, W, S], -inf where no token may be attended to; None: nothing.

    Returns:
        The mixed values [B, H, W, K] and the weights [B, H, W, S], whose rows sum to one.
    """
    match_BHWSK = torch.tanh(query_BHWK[:, :, :, None] + key_BHSK[:, :, None])
    scores_BHWS = (match_BHWSK @ score_HK[:, None, :, None])[..., 0]
    weights_BHWS = (scores_BHWS if mask is None else scores_BHWS + mask).softmax(-1)
    return weights_BHWS @ value_BHSK, weights_BHWS


class AdditiveAttention(nn.Module):
    """Attend by a small network that compares the decoder's state with each source token.

    One head is the paper's. Several heads compare and mix a part of the dimensions each, as multi-head attention does.
    ``head_gates`` [H] multiplies what each head says; None, the default, costs nothing.
    """

    head_gates: Tensor | None

    def __init__(self, *, embedding_size: int, num_heads: int = 1) -> None:
        """Make the comparison.

        Raises:
            ValueError: num_heads does not divide embedding_size.
        """
        super().__init__()
        if embedding_size % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide embedding_size={embedding_size}")
        self.embedding_size, self.num_heads, self.head_dim = embedding_size, num_heads, embedding_size // num_heads
        self.query_projection = nn.Linear(embedding_size, embedding_size, bias=False)
        self.key_projection = nn.Linear(embedding_size, embedding_size)
        self.score_HK = nn.Parameter(torch.empty(num_heads, self.head_dim))
        nn.init.uniform_(self.score_HK, -(self.head_dim**-0.5), self.head_dim**-0.5)
        self.register_buffer("head_gates", None, persistent=False)

    def project_memory(self, memory_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and the values, [B, H, S, K] each; the values are the memory itself."""
        return self._heads(self.key_projection(memory_BSD)), self._heads(memory_BSD)

    def step(
        self, x_BWD: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend from the decoder's states.

        Returns:
            The context [B, W, D] and the weights [B, H, W, S].
        """
        query_BHWK = self._heads(self.query_projection(x_BWD))
        mixed_BHWK, weights_BHWS = additive_formula(query_BHWK, key_BHSK, value_BHSK, self.score_HK, mask=mask)
        if self.head_gates is not None:
            mixed_BHWK = mixed_BHWK * self.head_gates[:, None, None]
        return mixed_BHWK.transpose(1, 2).flatten(-2), weights_BHWS

    def _heads(self, x_BSD: Tensor) -> Tensor:
        return x_BSD.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def extra_repr(self) -> str:
        """State the numbers that an ablation varies."""
        return f"embedding_size={self.embedding_size}, num_heads={self.num_heads}, head_dim={self.head_dim}"
