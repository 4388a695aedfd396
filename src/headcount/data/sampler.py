"""The order of training: batches of up to a budget of tokens.

Seed and epoch alone decide it.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headcount.errors import ConfigError

Examples = NDArray[np.int64]

TRIED_EPOCHS = 8  # of which the longest decides the number of batches


class TokenBudgetSampler:
    """Batches of up to a budget of tokens, in a random order.

    Every epoch has the same number of batches, so that the length of training is known before it
    begins: the number that the longest of a few epochs needs, rounded up to a multiple of the
    number of processes. An order that needs more batches is drawn again. If it needs fewer, its
    fullest batches are halved.

    Args:
        lengths: number of tokens of each example.
        budget: maximum number of tokens of a batch; no example may be longer.
        seed: of the order.
        pools: number of batches in a pool, within which examples are sorted by length; 0 turns
            sorting off.
        processes: number of processes that share the batches of an epoch.

    Attributes:
        count: number of batches of any epoch, those of all processes together.

    Raises:
        ConfigError: there are fewer examples than processes.
    """

    def __init__(
        self,
        lengths: NDArray[np.integer],
        *,
        budget: int,
        seed: int,
        pools: int = 0,
        processes: int = 1,
    ) -> None:
        self.lengths = lengths
        self.budget = budget
        self.seed = seed
        self.pools = pools

        needed = max(len(self._draw(epoch, 0)) for epoch in range(TRIED_EPOCHS))
        self.count = -(-needed // processes) * processes
        if self.count > len(lengths):
            raise ConfigError(
                f"trainer.devices={processes}: too many processes for {len(lengths)} training "
                "examples"
            )

    def __len__(self) -> int:
        """Return the number of batches of any epoch, those of all processes together."""
        return self.count

    def batches(self, epoch: int) -> list[Examples]:
        """Return the batches of an epoch: the numbers of the examples in each."""
        draw = 0
        batches = self._draw(epoch, draw)
        while len(batches) > self.count:
            draw += 1
            batches = self._draw(epoch, draw)

        while len(batches) < self.count:
            fullest = max(range(len(batches)), key=lambda number: len(batches[number]))
            half = len(batches[fullest]) // 2
            batches.append(batches[fullest][half:])
            batches[fullest] = batches[fullest][:half]
        return batches

    def _draw(self, epoch: int, draw: int) -> list[Examples]:
        """Draw an order of the examples and cut it into batches."""
        random = np.random.default_rng([self.seed, epoch, draw])
        order = random.permutation(len(self.lengths))
        if not self.pools:
            return self._fill(order, self.budget)

        # Sort by length within each pool, then shuffle the batches.
        pools = self._fill(order, self.budget * self.pools)
        sorted_pools = [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        batches = self._fill(np.concatenate(sorted_pools), self.budget)
        return [batches[number] for number in random.permutation(len(batches))]

    def _fill(self, order: Examples, budget: int) -> list[Examples]:
        """Cut an order into runs of up to a budget of tokens."""
        total_tokens = np.cumsum(self.lengths[order], dtype=np.int64)
        cuts = [0]
        while cuts[-1] < len(order):
            before = int(total_tokens[cuts[-1] - 1]) if cuts[-1] else 0
            cuts.append(int(np.searchsorted(total_tokens, before + budget, side="right")))
        return [order[begin:end] for begin, end in pairwise(cuts)]
