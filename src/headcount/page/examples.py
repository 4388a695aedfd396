"""The choice of the examples that a page shows."""

import numpy as np


def choose_examples(number: int, examples: int) -> list[int]:
    """Return the rows of a fixed random sample of a split, in order."""
    order = np.random.default_rng(0).permutation(examples)
    return sorted(order[:number].tolist())
