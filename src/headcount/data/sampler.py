"""The order of training: batches of up to a budget of tokens, decided by seed and epoch alone."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headcount.errors import ConfigError

Examples = NDArray[np.int64]


class TokenBudgetSampler:
    """Batches of up to a budget of tokens, in a random order.

    Every epoch has the same number of batches, so that the length of training is known before it
    begins: what the longest of a few epochs needs, and a multiple of the number of processes. An
    order that needs more is drawn again; one that needs fewer has its fullest batches halved.
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
        """Find the number of batches.

        Args:
            lengths: tokens of each example.
            budget: most tokens of a batch; no example may be longer.
            seed: of the order.
            pools: batches of a pool, within which examples are sorted by length; 0 sorts nothing.
            processes: processes that share the batches of an epoch.

        Raises:
            ConfigError: there are fewer examples than processes.
        """
        self.lengths, self.budget, self.seed, self.pools = lengths, budget, seed, pools
        needed = max(len(self._cut(epoch, 0)) for epoch in range(8))
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
        """Return the batches of an epoch, each the examples in it."""
        draw = 0
        while len(batches := self._cut(epoch, draw)) > self.count:
            draw += 1
        while len(batches) < self.count:
            fullest = max(range(len(batches)), key=lambda b: len(batches[b]))
            half = len(batches[fullest]) // 2
            batches.append(batches[fullest][half:])
            batches[fullest] = batches[fullest][:half]
        return batches

    def _cut(self, epoch: int, draw: int) -> list[Examples]:
        random = np.random.default_rng([self.seed, epoch, draw])
        order = random.permutation(len(self.lengths))
        if not self.pools:
            return self._fill(order, self.budget)
        pools = self._fill(order, self.budget * self.pools)
        order = np.concatenate(
            [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        )
        batches = self._fill(order, self.budget)
        return [batches[b] for b in random.permutation(len(batches))]

    def _fill(self, order: Examples, budget: int) -> list[Examples]:
        """Cut an order into runs of up to a budget of tokens."""
        ends = np.cumsum(self.lengths[order], dtype=np.int64)
        cuts = [0]
        while cuts[-1] < len(order):
            before = int(ends[cuts[-1] - 1]) if cuts[-1] else 0
            cuts.append(int(np.searchsorted(ends, before + budget, side="right")))
        return [order[begin:end] for begin, end in pairwise(cuts)]
