import numpy as np
import pytest
from numpy.typing import NDArray

from headcount.data.sampler import TokenBudgetSampler
from headcount.errors import ConfigError


def lengths(number: int = 500, shortest: int = 1) -> NDArray[np.integer]:
    return np.random.default_rng(0).integers(shortest, 60, number)


def batches(sampler: TokenBudgetSampler, epoch: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in sampler.batches(epoch)]


@pytest.mark.parametrize("pools", [0, 8])
@pytest.mark.parametrize(
    ("number", "budget", "processes"), [(500, 60, 1), (500, 400, 3), (4, 1000, 2), (1, 60, 1)]
)
def test_every_example_once_within_the_budget(
    number: int, budget: int, processes: int, pools: int
) -> None:
    sampler = TokenBudgetSampler(
        lengths(number), budget=budget, seed=0, pools=pools, processes=processes
    )
    assert len(sampler) % processes == 0
    for epoch in range(20):
        found = batches(sampler, epoch)
        assert len(found) == len(sampler)
        assert sorted(example for batch in found for example in batch) == list(range(number))
        assert all(found) and max(sampler.lengths[batch].sum() for batch in found) <= budget


def test_batches_are_nearly_full() -> None:
    sampler = TokenBudgetSampler(lengths(5000), budget=1000, seed=0)
    assert sampler.lengths.sum() / (len(sampler) * 1000) > 0.95


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first, second = (TokenBudgetSampler(lengths(), budget=400, seed=0) for _ in range(2))
    batches(first)
    assert batches(first, 1) == batches(second, 1)
    assert batches(first, 1) != batches(second, 2)
    assert batches(first, 0) != batches(TokenBudgetSampler(lengths(), budget=400, seed=1), 0)


def test_neighbours_are_not_sorted_by_length() -> None:
    sampler = TokenBudgetSampler(lengths(5000), budget=1000, seed=0)
    order = sampler.lengths[np.concatenate(sampler.batches(0))]
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05


def test_pools_keep_padding_small_and_the_order_random() -> None:
    def padded(pools: int) -> float:
        sampler = TokenBudgetSampler(lengths(5000, 15), budget=1000, seed=0, pools=pools)
        longest = [sampler.lengths[batch].max() * len(batch) for batch in sampler.batches(0)]
        return 1 - sampler.lengths.sum() / sum(longest)

    assert padded(0) > 0.3 and padded(50) < 0.05
    sampler = TokenBudgetSampler(lengths(5000), budget=1000, seed=0, pools=50)
    means = np.array([sampler.lengths[batch].mean() for batch in sampler.batches(0)])
    assert (
        abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.2
    )  # batches of a pool do not follow each other by length


def test_fewer_examples_than_processes() -> None:
    with pytest.raises(ConfigError, match="devices=3: too many processes for 2 training examples"):
        TokenBudgetSampler(lengths(2), budget=60, seed=0, processes=3)
