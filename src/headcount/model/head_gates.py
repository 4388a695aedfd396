"""Gates on heads that are learned together with the weights, or in a trained model.

Every head has a score. In training its gate is random and its score has a gradient. Outside of
training the gates are zeros and ones, so that removing the closed heads changes nothing, and at
least one head of the last block, which attends to the document, is open.

- ``HardConcreteGates``: L0 regularization (Louizos et al. 2018), as Voita et al. (2019) prune
  heads with it. A penalty on the expected number of open gates decides how many stay open.
- ``TopKGates``: differentiable subset pruning (Li et al. 2021). Exactly K heads are open.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from headcount.config.sections.heads import HeadsConfig
from headcount.model.attention_blocks import attention_blocks

# Of the hard concrete distribution, as in Louizos et al. 2018, section 4.
TEMPERATURE = 2 / 3
STRETCH_LOW = -0.1
STRETCH_HIGH = 1.1
INITIAL_SCORE = 2.0  # of hard concrete gates: almost all are open when the training starts

RELAXATION_TEMPERATURE = 1.0  # of the relaxed subset of top-k gates
EPSILON = 1e-6  # keeps probabilities away from zero and one, where logarithms are infinite


def close_heads(model: nn.Module, heads: Sequence[str]) -> None:
    """Switch heads of a model off, until its gates are set again.

    Args:
        model: whose gates are zeros and ones, or not set.
        heads: names of its heads, such as ``cross.0.3``.
    """
    blocks = attention_blocks(model)
    for name in heads:
        block_name, index = name.rsplit(".", 1)
        block = blocks[block_name]
        if block.head_gates is None:
            like = next(block.parameters())
            block.head_gates = torch.ones(block.num_heads, dtype=like.dtype, device=like.device)
        block.head_gates[int(index)] = 0.0


class LearnedGates(nn.Module, ABC):
    """A gate for every head of a model.

    Args:
        heads: number of heads of the model.
        last_heads: number of heads of its last block.
        initial_score: of every head.
    """

    def __init__(self, heads: int, last_heads: int, initial_score: float) -> None:
        super().__init__()
        self.last_block = slice(heads - last_heads, heads)
        self.scores_A = nn.Parameter(torch.full((heads,), initial_score))

    @abstractmethod
    def sample(self) -> Tensor:
        """Return random gates [A] in [0, 1] with a gradient to the scores, for training."""

    @abstractmethod
    def open_heads(self) -> Tensor:
        """Return which heads are open [A] outside of training, as booleans."""

    def _best_of_last(self, values_A: Tensor) -> Tensor:
        """Return the index of the head of the last block with the highest value."""
        return self.last_block.start + values_A[self.last_block].argmax()

    def set_gates(self, model: nn.Module, *, random: bool) -> None:
        """Set the gates of a model's heads.

        Args:
            model: its blocks have these heads, in the order of ``attention_blocks``.
            random: random gates with a gradient, for training; otherwise zeros and ones.
        """
        gates_A = self.sample() if random else self.open_heads()
        blocks = attention_blocks(model)
        sizes = [block.num_heads for block in blocks.values()]
        for block, gates_H in zip(blocks.values(), gates_A.split(sizes), strict=True):
            block.head_gates = gates_H.to(next(block.parameters()).dtype)

    @contextmanager
    def applied(self, model: nn.Module, *, random: bool) -> Iterator[None]:
        """Multiply the gates of a model's heads within a ``with`` statement, see ``set_gates``.

        Heads that are switched off, such as those of an ablation, stay off.
        """
        blocks = attention_blocks(model)
        previous = {name: block.head_gates for name, block in blocks.items()}
        try:
            self.set_gates(model, random=random)
            for name, previous_H in previous.items():
                learned_H = blocks[name].head_gates
                if previous_H is not None and learned_H is not None:
                    blocks[name].head_gates = learned_H * previous_H
            yield
        finally:
            for name, previous_H in previous.items():
                blocks[name].head_gates = previous_H


class HardConcreteGates(LearnedGates):
    """Gates of the hard concrete distribution (Louizos et al. 2018, section 4).

    A binary concrete variable is stretched beyond [0, 1] and clamped, so that a gate is exactly
    zero or one with a probability above zero. A score is the location log alpha.

    Outside of training a gate is one if its score is above zero, which is the rounded median of
    the distribution. The paper's estimator is between zero and one for a gate that is undecided;
    that is given up for gates whose heads can be removed exactly.
    """

    def __init__(self, heads: int, last_heads: int) -> None:
        super().__init__(heads, last_heads, INITIAL_SCORE)

    def sample(self) -> Tensor:
        """See ``LearnedGates``."""
        uniform_A = torch.rand_like(self.scores_A).clamp(EPSILON, 1 - EPSILON)
        concrete_A = torch.sigmoid((uniform_A.logit() + self.scores_A) / TEMPERATURE)
        return (concrete_A * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW).clamp(0.0, 1.0)

    def open_heads(self) -> Tensor:
        """See ``LearnedGates``."""
        open_A = self.scores_A > 0
        if not open_A[self.last_block].any():
            open_A[self._best_of_last(self.scores_A)] = True
        return open_A

    def expected_open(self) -> Tensor:
        """Return the expected number of gates above zero in training, the sum of P(gate > 0)
        (Louizos et al. 2018, equation 12)."""
        shift = TEMPERATURE * math.log(-STRETCH_LOW / STRETCH_HIGH)
        return torch.sigmoid(self.scores_A - shift).sum()


class TopKGates(LearnedGates):
    """Gates of which exactly K are one (Li et al. 2021).

    In training the K heads with the highest scores after Gumbel noise are open, a sample without
    replacement (Vieira 2014). Their gradient is that of a relaxed sample, K softmaxes that each
    give up what the earlier ones have taken (Xie and Ermon 2019): a straight-through estimator.
    Outside of training the K highest scores are open.

    The paper lowers the temperature of the relaxation during training. Here it is constant,
    because gates are zeros and ones at any temperature.

    Args:
        heads: number of heads of the model.
        last_heads: number of heads of its last block.
        keep: K.
    """

    def __init__(self, heads: int, last_heads: int, keep: int) -> None:
        super().__init__(heads, last_heads, 0.0)
        self.keep = keep

    def sample(self) -> Tensor:
        """See ``LearnedGates``."""
        uniform_A = torch.rand_like(self.scores_A).clamp(EPSILON, 1 - EPSILON)
        gumbel_A = -(-uniform_A.log()).log()
        noisy_A = self.scores_A + gumbel_A

        # The value is exactly that of the subset, because what is added is zero. The gradient is
        # that of the relaxed subset.
        relaxed_A = self._relaxed_subset(noisy_A)
        subset_A = self._highest(noisy_A).to(relaxed_A.dtype)
        return subset_A + (relaxed_A - relaxed_A.detach())

    def open_heads(self) -> Tensor:
        """See ``LearnedGates``."""
        return self._highest(self.scores_A)

    def _highest(self, values_A: Tensor) -> Tensor:
        """Return which heads have the K highest values, the best of the last block among them."""
        values_A = values_A.detach().clone()
        values_A[self._best_of_last(values_A)] = math.inf
        # A stable sort, so that equal scores are ordered as the heads are.
        open_A = torch.zeros_like(values_A, dtype=torch.bool)
        open_A[values_A.argsort(descending=True, stable=True)[: self.keep]] = True
        return open_A

    def _relaxed_subset(self, noisy_A: Tensor) -> Tensor:
        """Return values in [0, 1] that sum to K and are largest for the highest scores."""
        chosen_A = torch.zeros_like(noisy_A)
        logits_A = noisy_A
        for _ in range(self.keep):
            one_A = (logits_A / RELAXATION_TEMPERATURE).softmax(-1)
            chosen_A = chosen_A + one_A
            logits_A = logits_A + (1 - one_A).clamp_min(EPSILON).log()
        return chosen_A


def build_gates(config: HeadsConfig, model: nn.Module) -> LearnedGates | None:
    """Return the learned gates of a config; None if it has none.

    Args:
        config: the ``heads`` section.
        model: whose heads get the gates.
    """
    sizes = [block.num_heads for block in attention_blocks(model).values()]
    if config.gates == "l0":
        return HardConcreteGates(sum(sizes), sizes[-1])
    if config.gates == "top_k":
        assert config.keep is not None
        return TopKGates(sum(sizes), sizes[-1], config.keep)
    return None
