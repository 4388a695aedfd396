"""How often the tests of ``headcount heads`` err: ``python benchmarks/heads.py``, a minute on one core.

Two questions, each asked of 1,000 analyses in which nothing is to be found. How often has a family
of one-head-off tests a significant head, when the gates change no score on average? How often has
a head of random attention a significant role? Both should be at most 5 %.

The differences are like those of ROUGE: seven documents of ten do not change at all. They have
either sign with the same size, or are skewed: rare large losses balance frequent small gains, for
which a test by sign flips is not exact.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from headcount.heads.attention_maps import AttentionMap
from headcount.heads.roles import Vocabulary, find_roles, score_roles
from headcount.heads.statistics import LEVEL, difference_family

Values = NDArray[np.float64]
ANALYSES = 1000
SHAPE = (36, 100)  # heads and documents, the default of the demo
CHANGED = 0.3  # share of documents whose score changes
VOCABULARY = 40
ROLE_DOCUMENTS = 20
ROLE_HEADS = 4


def symmetric(generator: np.random.Generator) -> Values:
    """Return differences that have either sign with the same probability."""
    sizes = generator.exponential(8, SHAPE)
    changed = generator.random(SHAPE) < CHANGED
    return sizes * generator.choice([-1, 1], SHAPE) * changed


def skewed(generator: np.random.Generator) -> Values:
    """Return differences with a mean of zero and a long tail of losses."""
    changed = generator.random(SHAPE) < CHANGED
    return (8 - generator.exponential(8, SHAPE)) * changed


def has_significant_head(make: Callable[[np.random.Generator], Values], seed: int) -> bool:
    """Return whether a family of one-head-off tests finds a head where there is none."""
    family = difference_family(list(make(np.random.default_rng(seed))))
    return any(test.corrected_p < LEVEL for test in family)


def random_map(generator: np.random.Generator, *, is_cross: bool) -> AttentionMap:
    """Return random attention on a random document, in which tokens occur several times."""
    queries, keys = (10, 24) if is_cross else (16, 16)
    allowed = np.ones((queries, keys), dtype=bool)
    raw = generator.exponential(1.0, (ROLE_HEADS, queries, keys)) ** 3
    document = generator.integers(0, VOCABULARY // 4, keys)
    written = generator.choice(document, queries)
    return AttentionMap(
        block="cross.0" if is_cross else "encoder.0",
        weights=raw / raw.sum(-1, keepdims=True),
        allowed=allowed,
        query_ids=np.concatenate([[0], written[:-1]]) if is_cross else document,
        key_ids=document,
        positions=None if is_cross else np.arange(queries),
        next_ids=written if is_cross else None,
    )


def has_role(seed: int) -> bool:
    """Return whether an analysis of random attention finds a significant role, of any size."""
    generator = np.random.default_rng(seed)
    kinds = np.arange(VOCABULARY) % 5
    vocabulary = Vocabulary(is_delimiter=kinds == 0, is_speaker=kinds == 1)
    scores: dict[tuple[str, str], list[tuple[Values, Values]]] = {}
    for _ in range(ROLE_DOCUMENTS):
        for is_cross in (False, True):
            attention = random_map(generator, is_cross=is_cross)
            for role, values in score_roles(attention, vocabulary, generator).items():
                scores.setdefault((attention.block, role), []).append(values)

    stacked = {}
    for key, documents in scores.items():
        observed = np.stack([score for score, _ in documents])
        stacked[key] = (observed, np.stack([expected for _, expected in documents]))
    found = find_roles(stacked).values()
    return any(score.corrected_p < LEVEL for of_block in found for score in of_block)


def measure(name: str, errs: Callable[[int], bool]) -> None:
    """Print in how many analyses a test errs, with the 95 % interval of the share."""
    started = time.process_time()
    wrong = sum(errs(seed) for seed in range(ANALYSES))
    interval = binomtest(wrong, ANALYSES).proportion_ci()
    seconds = time.process_time() - started
    print(
        f"{name}: {wrong} of {ANALYSES:,} ({wrong / ANALYSES:.1%}, 95 % interval "
        f"[{interval.low:.1%}, {interval.high:.1%}]), {seconds:.0f} s of CPU time",
        flush=True,
    )


if __name__ == "__main__":
    measure("one head off, symmetric", lambda seed: has_significant_head(symmetric, seed))
    measure("one head off, skewed", lambda seed: has_significant_head(skewed, seed))
    measure("roles of random attention", has_role)
