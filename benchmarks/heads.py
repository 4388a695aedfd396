"""How often the tests of ``headcount heads`` err: ``python benchmarks/heads.py [PART]``, two minutes on
one core; PART is families, power, intervals, margin or roles.

``families``: how often has a family of one-head-off tests a significant head, when the gates change no
score on average? It should be at most 5 %. The differences are like those of ROUGE: most documents do
not change at all. Sign flips alone are exact only if either sign is as likely; the skewed ones have
rare large losses that balance frequent small gains. ``power``: how often is the one head found that
matters among 36? ``intervals``: how often do 95 % intervals hold the mean? ``margin``: how often is a
loss called smaller than the margin of 0.5 that is as large as it? ``roles``: how often has a head of
random attention a significant role?
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from headcount.evaluation.bootstrap import holm
from headcount.heads.attention_maps import AttentionMap
from headcount.heads.roles import TokenKinds, find_roles, score_roles
from headcount.heads.statistics import (
    LEVEL,
    difference_family,
    mean_interval,
    p_above_margin,
    sign_flip_p,
    t_interval,
)

Values = NDArray[np.float64]
Make = Callable[[np.random.Generator, tuple[int, int]], Values]
ANALYSES = 1000
SAMPLES = 10_000  # of single heads, for intervals and the margin
SHAPE = (36, 100)  # heads and documents, the default of the demo
MARGIN = 0.5
VOCABULARY = 40
ROLE_DOCUMENTS = 20
ROLE_HEADS = 4


def changed(
    generator: np.random.Generator, shape: tuple[int, int], share: float
) -> NDArray[np.bool_]:
    """Return which documents change at all."""
    return generator.random(shape) < share


def symmetric(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences that have either sign with the same probability."""
    sizes = generator.exponential(8, shape) * generator.choice([-1, 1], shape)
    return sizes * changed(generator, shape, 0.3)


def mildly_skewed(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences of a gamma distribution with a skewness of one."""
    return 4 * (4 - generator.gamma(4, 1, shape)) * changed(generator, shape, 0.3)


def strongly_skewed(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return exponential differences, whose skewness is two."""
    return (8 - generator.exponential(8, shape)) * changed(generator, shape, 0.3)


def mostly_zero(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences as skewed, of few documents."""
    return (8 - generator.exponential(8, shape)) * changed(generator, shape, 0.1)


def every_document(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences as skewed, of all documents."""
    return 8 - generator.exponential(8, shape)


def lognormal(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences whose losses have a heavy tail."""
    return 5 * (np.exp(0.5) - generator.lognormal(0, 1, shape)) * changed(generator, shape, 0.3)


def one_in_ten(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences of which one in ten is a loss, nine times as large as a gain."""
    sizes = np.where(generator.random(shape) < 0.1, -27.0, 3.0) * generator.gamma(4, 0.25, shape)
    return sizes * changed(generator, shape, 0.3)


NO_EFFECT: dict[str, Make] = {
    "symmetric, 30 % of documents change": symmetric,
    "mildly skewed (gamma), 30 %": mildly_skewed,
    "strongly skewed (exponential), 30 %": strongly_skewed,
    "strongly skewed, mostly zero: 10 %": mostly_zero,
    "strongly skewed, 100 %": every_document,
    "heavy tail (lognormal), 30 %": lognormal,
    "one large loss for nine gains, 30 %": one_in_ten,
}


def gains_and_losses(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences of -4 with a standard deviation of 10 in 60 % of documents."""
    return generator.normal(-4, 10, shape) * changed(generator, shape, 0.6)


def small_noise(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences of -4 with a standard deviation of 8 in 90 % of documents."""
    return generator.normal(-4, 8, shape) * changed(generator, shape, 0.9)


def skewed_losses(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return differences of -8, mostly losses, in 40 % of documents."""
    return (2 - generator.exponential(10, shape)) * changed(generator, shape, 0.4)


def losses_alone(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Return losses in 20 % of documents."""
    return -generator.exponential(10, shape) * changed(generator, shape, 0.2)


EFFECTS: dict[str, Make] = {
    "-4 ± 8 in 90 % of documents": small_noise,
    "-4 ± 10 in 60 %": gains_and_losses,
    "mostly losses, -8 in 40 %": skewed_losses,
    "losses alone, -10 in 20 %": losses_alone,
}


def losses(share: float) -> Make:
    """Return a maker of losses that are as large as the margin on average."""

    def make(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
        sizes = generator.exponential(MARGIN / share, shape)
        return -sizes * changed(generator, shape, share)

    return make


def is_found(p_values: list[float]) -> NDArray[np.bool_]:
    """Return which tests of a family are significant."""
    return np.array(holm(p_values)) < LEVEL


def print_families() -> None:
    """Print the share of families with a significant head where there is none."""
    for name, make in NO_EFFECT.items():
        started = time.process_time()
        before = 0
        after = 0
        for seed in range(ANALYSES):
            family = list(make(np.random.default_rng(seed), SHAPE))
            # The test is the larger p of two, of which sign flips are one.
            if is_found(sign_flip_p(family)).any():
                before += 1
                after += any(test.corrected_p < LEVEL for test in difference_family(family))
        print_rates(f"{name}: sign flips", before, ANALYSES, started)
        print_rates(f"{name}: the test", after, ANALYSES)


def print_power() -> None:
    """Print how often the only head of a family that matters is found."""
    for name, make in EFFECTS.items():
        before = 0
        after = 0
        number = ANALYSES // 5
        for seed in range(number):
            generator = np.random.default_rng(seed)
            family = list(symmetric(generator, SHAPE))
            family[0] = make(generator, (1, SHAPE[1]))[0]
            before += bool(is_found(sign_flip_p(family))[0])
            after += difference_family(family)[0].corrected_p < LEVEL
        print_rates(f"found, {name}: sign flips", before, number)
        print_rates(f"found, {name}: the test", after, number)


def print_intervals() -> None:
    """Print how often 95 % intervals hold a mean of zero."""
    for name, make in NO_EFFECT.items():
        samples = make(np.random.default_rng(0), (SAMPLES, SHAPE[1]))
        for kind, interval in (("t", t_interval), ("the interval", mean_interval)):
            covered = 0
            for values in samples:
                _, low, high = interval(values)
                covered += low <= 0 <= high
            print_rates(f"held, {name}: {kind}", covered, SAMPLES)


def print_margin() -> None:
    """Print how often a loss as large as the margin is called smaller."""
    makes = {
        f"losses in {share:.0%} of documents": losses(share) for share in (0.3, 0.1, 0.05, 0.02)
    }
    makes["symmetric noise"] = lambda generator, shape: symmetric(generator, shape) - MARGIN
    for name, make in makes.items():
        samples = make(np.random.default_rng(0), (SAMPLES, SHAPE[1]))
        wrong = sum(p_above_margin(values, MARGIN) < LEVEL for values in samples)
        print_rates(f"margin, {name}", wrong, SAMPLES)


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
    token_kinds = TokenKinds(is_delimiter=kinds == 0, is_speaker=kinds == 1)
    scores: dict[tuple[str, str], list[tuple[Values, Values]]] = {}
    for _ in range(ROLE_DOCUMENTS):
        for is_cross in (False, True):
            attention = random_map(generator, is_cross=is_cross)
            for role, values in score_roles(attention, token_kinds, generator).items():
                scores.setdefault((attention.block, role), []).append(values)

    stacked = {}
    for key, documents in scores.items():
        observed = np.stack([score for score, _ in documents])
        stacked[key] = (observed, np.stack([expected for _, expected in documents]))
    found = find_roles(stacked).values()
    return any(score.corrected_p < LEVEL for of_block in found for score in of_block)


def print_roles() -> None:
    """Print the share of analyses with a significant role of random attention."""
    started = time.process_time()
    wrong = sum(has_role(seed) for seed in range(ANALYSES))
    print_rates("roles of random attention", wrong, ANALYSES, started)


def print_rates(name: str, count: int, number: int, started: float | None = None) -> None:
    """Print a share with its 95 % interval, and the CPU time since the start."""
    interval = binomtest(count, number).proportion_ci()
    seconds = "" if started is None else f", {time.process_time() - started:.0f} s of CPU time"
    print(
        f"{name}: {count / number:.1%} of {number:,} (95 % interval [{interval.low:.1%}, "
        f"{interval.high:.1%}]){seconds}",
        flush=True,
    )


PARTS = {
    "families": print_families,
    "power": print_power,
    "intervals": print_intervals,
    "margin": print_margin,
    "roles": print_roles,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
