"""How often intervals hold the effect, and tests err: ``python benchmarks/coverage.py``, two
minutes on one core; ``python benchmarks/coverage.py verdicts`` only the second half.

Families as a study has them: four cells against one baseline, paired by seed and example, with
crossed effects of known sd. A family errs when the smallest of its Holm-corrected p-values is
below 5 % where no cell differs. Power is of one comparison, not corrected, at the effect that a
test which knew the variances would find in 80 %.

The second half is about verdicts, at 3, 5 and 8 seeds and by the sequential rule that looks after 3,
5 and 8. A family errs in its claims of difference when no cell differs and one is called better or
worse; in its claims of equivalence when all differ by the margin and one is called equal. Power is
the share of cells that are called different at a true difference of the margin, and equal at none.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from headcount.evaluation.bootstrap import holm
from headcount.experiments.report.sequential import reject
from headcount.experiments.report.statistics import (
    Numbers,
    detectable_effect,
    one_sided_p,
    split_variance,
    two_sided_p,
)

FAMILIES, RESAMPLED_FAMILIES, CHUNK = 10_000, 1000, 500
VERDICT_FAMILIES = 4000
CELLS = 4
EXAMPLES, STAND_FOR = (
    200,
    1000,
)  # fewer examples of smaller sd: the variance of their mean is that of 1,000
RESAMPLES = 500

Test = Callable[[float], Numbers]  # p-values, (families, cells), of the differences plus an effect


@dataclass(frozen=True)
class Regime:
    """The sd of a paired difference by source, in points of F1 x 100, for 1,000 examples."""

    name: str
    seed: float
    example: float
    residual: float
    heavy: bool = (
        False  # four examples of five do not differ at all, and seeds have Laplace's distribution
    )


REGIMES = [
    Regime("seed sd 0.15", 0.15, 3, 8.5),
    Regime("seed sd 0.3", 0.3, 3, 8.5),
    Regime("seed sd 0.6", 0.6, 3, 8.5),
    Regime("seed sd 0.3, heavy tails", 0.3, 3, 8.5, heavy=True),
    Regime("seeds dominate", 2, 3, 8.5),
    Regime("examples dominate", 0.1, 8, 4),
    Regime("seeds and examples alike", 0.3, 8, 4),
    Regime("no seed variance", 0, 3, 8.5),
    Regime("residual only", 0, 0, 9),
]


def simulate(draws: np.random.Generator, regime: Regime, seeds: int) -> Numbers:
    """Return differences without an effect, (CHUNK, CELLS, seeds, EXAMPLES)."""

    def draw(sd: float, *shape: int) -> Numbers:
        values = draws.standard_normal((CHUNK, CELLS + 1, *shape))
        if regime.heavy and shape[-1] > 1:
            values *= (draws.random(values.shape) < 0.2) / 0.2**0.5
        elif regime.heavy:
            values = draws.laplace(0, 0.5**0.5, values.shape)
        return values * sd / 2**0.5  # a difference is of two

    scale = (EXAMPLES / STAND_FOR) ** 0.5
    cells = draw(regime.residual * scale, seeds, EXAMPLES)
    cells += draw(regime.seed, seeds, 1)
    cells += draw(regime.example * scale, 1, EXAMPLES)
    return cells[:, 1:] - cells[:, :1]


def t_test(mean: Numbers, variance: Numbers, degrees: Numbers | int) -> Test:
    return lambda effect: 2 * stdtr(degrees, -np.abs(mean + effect) / np.sqrt(variance))


def test_seeds(values: Numbers) -> Test:
    seeds = values.shape[-2]
    return t_test(values.mean((-2, -1)), values.mean(-1).var(-1, ddof=1) / seeds, seeds - 1)


def test_examples(values: Numbers) -> Test:
    return t_test(values.mean((-2, -1)), values.mean(-2).var(-1, ddof=1) / EXAMPLES, EXAMPLES - 1)


def test_both(values: Numbers) -> Test:
    """Clark (1973): significant over seeds, and over examples."""
    over_seeds, over_examples = test_seeds(values), test_examples(values)
    return lambda effect: np.maximum(over_seeds(effect), over_examples(effect))


def test_satterthwaite(values: Numbers) -> Test:
    """Return the quasi-F of a crossed analysis of variance.

    Where the estimate is not positive, the examples' alone.
    """
    seeds = values.shape[-2]
    of_seeds = values.mean(-1).var(-1, ddof=1) / seeds
    of_examples = values.mean(-2).var(-1, ddof=1) / EXAMPLES
    residuals = values - values.mean(-2, keepdims=True)
    residuals -= residuals.mean(-1, keepdims=True)
    degrees = (seeds - 1) * (EXAMPLES - 1)
    of_residuals = np.square(residuals).sum((-2, -1)) / degrees / (seeds * EXAMPLES)
    variance = of_seeds + of_examples - of_residuals
    spread = (
        of_seeds**2 / (seeds - 1) + of_examples**2 / (EXAMPLES - 1) + of_residuals**2 / degrees
    )
    positive = variance > 0
    return t_test(
        values.mean((-2, -1)),
        np.where(positive, variance, of_examples),
        np.where(positive, np.maximum(variance**2 / spread, 1), EXAMPLES - 1),
    )


def test_weighed(values: Numbers) -> Test:
    mean, variance, seeds = values.mean((-2, -1)), split_variance(values), values.shape[-2]
    return lambda effect: two_sided_p(
        np.abs(mean + effect) / variance.standard_error, variance.seed_share, seeds, EXAMPLES
    )


def resample(values: Numbers, nested: bool) -> Test:
    """Return the percentile bootstrap.

    Seeds are drawn, and examples, for each drawn seed anew where nested.
    """
    draws, seeds = np.random.default_rng(0), values.shape[-2]
    values = values.astype(np.float32)
    drawn_seeds = draws.integers(0, seeds, (seeds, RESAMPLES))
    means = np.zeros((*values.shape[:2], RESAMPLES))
    by_seed = None
    for drawn in drawn_seeds:
        if by_seed is None or nested:
            counts = (
                draws.multinomial(EXAMPLES, [1 / EXAMPLES] * EXAMPLES, RESAMPLES).T.astype(
                    np.float32
                )
                / EXAMPLES
            )
            by_seed = values @ counts  # (families, cells, seeds, resamples)
        means += by_seed[:, :, drawn, np.arange(RESAMPLES)] / seeds

    def find_p(effect: float) -> Numbers:
        below = (means + effect <= 0).sum(-1)
        return np.minimum(1, 2 * (1 + np.minimum(below, RESAMPLES - below)) / (1 + RESAMPLES))

    return find_p


CLOSED: dict[str, Callable[[Numbers], Test]] = {
    "t over examples": test_examples,
    "t over seeds": test_seeds,
    "t over both, the larger p": test_both,
    "Satterthwaite": test_satterthwaite,
    "weighed t": test_weighed,
}
RESAMPLED: dict[str, Callable[[Numbers], Test]] = {
    "bootstrap, seeds x examples": lambda values: resample(values, nested=False),
    "bootstrap, hierarchical": lambda values: resample(values, nested=True),
}


LOOKS = (3, 5, 8)
MARGIN = 4.0  # in standard errors of a difference at 5 seeds


def decide(
    p_by_look: list[Numbers], other_p_by_look: list[Numbers]
) -> tuple[list[list[bool]], list[int]]:
    """Apply the sequential rule to one question, while another one may stop cells as well.

    Args:
        p_by_look: of the question at each look, (families, cells).
        other_p_by_look: of the other question.

    Returns:
        For each family which cells were claimed, and the seeds that all cells used.
    """
    claims = []
    seeds_used = []
    for family in range(len(p_by_look[0])):
        claimed: set[int] = set()
        other_claimed: set[int] = set()
        used = 0
        for look, seeds in enumerate(LOOKS):
            tested = [c for c in range(CELLS) if c not in claimed | other_claimed]
            used += len(tested) * (seeds - (LOOKS[look - 1] if look else 0))
            for done, by_look in ((claimed, p_by_look), (other_claimed, other_p_by_look)):
                p_values = {cell: float(by_look[look][family, cell]) for cell in tested}
                still_open = CELLS - len(done)
                done |= reject(p_values, open_hypotheses=still_open, look=look, looks=LOOKS)
        claims.append([cell in claimed for cell in range(CELLS)])
        seeds_used.append(used)
    return claims, seeds_used


def fixed_claims(p: Numbers) -> list[list[bool]]:
    """Return the claims of each family at a fixed number of seeds, by Holm's correction."""
    return [[each < 0.05 for each in holm(family)] for family in p.tolist()]


def measure_verdicts(regime: Regime) -> None:
    """Print error rates and power of claims of difference and of equivalence."""
    seed_variance = regime.seed**2 / 5 + regime.residual**2 / (5 * STAND_FOR)
    margin = MARGIN * (seed_variance + regime.example**2 / STAND_FOR) ** 0.5
    draws = np.random.default_rng(1)
    rates: dict[str, list[list[float]]] = {}
    for _ in range(0, VERDICT_FAMILIES, CHUNK):
        values = simulate(draws, regime, max(LOOKS))
        # p of both questions at each look, where no cell differs and where all are at the margin.
        null_difference, null_equality, far_difference, far_equality = [], [], [], []
        for seeds in LOOKS:
            seen = values[:, :, :seeds]
            null_difference.append(test_weighed(seen)(0))
            far_difference.append(test_weighed(seen)(margin))
            null_equality.append(test_equality(seen, 0, margin))
            far_equality.append(test_equality(seen, margin, margin))
        for look, seeds in enumerate(LOOKS):
            by_question = [
                fixed_claims(p[look])
                for p in (null_difference, far_equality, far_difference, null_equality)
            ]
            rates.setdefault(f"{seeds} seeds", []).append([*summarize(by_question), seeds])
        wrong_difference, _ = decide(null_difference, null_equality)
        equal, used = decide(null_equality, null_difference)
        wrong_equal, _ = decide(far_equality, far_difference)
        different, far_used = decide(far_difference, far_equality)
        mean_seeds = float(np.mean(used + far_used)) / CELLS
        by_question = [wrong_difference, wrong_equal, different, equal]
        rates.setdefault("sequential", []).append([*summarize(by_question), mean_seeds])
    print(f"{regime.name}, margin {margin:.2f}")
    for name, chunks in rates.items():
        print(f"  {name:22}" + "".join(f"{rate:12.3f}" for rate in np.mean(chunks, axis=0)))


def test_equality(values: Numbers, effect: float, margin: float) -> Numbers:
    """Return the p of two one-sided tests."""
    mean, variance, seeds = values.mean((-2, -1)), split_variance(values), values.shape[-2]
    t = (margin - np.abs(mean + effect)) / variance.standard_error
    return one_sided_p(t, variance.seed_share, seeds, EXAMPLES)


def summarize(claims: list[list[list[bool]]]) -> list[float]:
    """Return the share of families with a wrong claim for two questions, then the power of two."""
    wrong = [float(np.any(each, axis=1).mean()) for each in claims[:2]]
    return [*wrong, *(float(np.mean(each)) for each in claims[2:])]


def main() -> None:
    """Print a table for each regime and number of seeds."""
    if "verdicts" not in sys.argv[1:]:
        print(f"{'':32}{'covers':>7}{'errs':>7}{'power':>7}")
        for regime in REGIMES:
            for seeds in (2, 3, 5):
                measure(regime, seeds)
    titles = ("errs: differ", "errs: equal", "finds differ", "finds equal", "seeds")
    print(f"{'':24}" + "".join(f"{title:>12}" for title in titles))
    for regime in REGIMES:
        measure_verdicts(regime)


def measure(regime: Regime, seeds: int) -> None:
    """Print what share of intervals covers no effect, of families errs, and of effects is found,
    by each method."""
    draws = np.random.default_rng(0)
    seed_variance = regime.seed**2 / seeds + regime.residual**2 / (seeds * STAND_FOR)
    error = (seed_variance + regime.example**2 / STAND_FOR) ** 0.5
    known, detectable = (
        2.802 * error,
        detectable_effect(seed_variance / error**2, seeds, EXAMPLES) * error,
    )
    rates: dict[str, list[tuple[float, ...]]] = {}
    for begin in range(0, FAMILIES, CHUNK):
        values = simulate(draws, regime, seeds)
        methods = {**RESAMPLED, **CLOSED} if begin < RESAMPLED_FAMILIES else CLOSED
        for name, method in methods.items():
            test = method(values)
            p = test(0)
            errs = np.mean([min(holm(family)) < 0.05 for family in p.tolist()])
            found = [float((test(effect) < 0.05).mean()) for effect in (known, detectable)]
            rates.setdefault(name, []).append((float((p >= 0.05).mean()), float(errs), *found))
    print(f"{regime.name}, {seeds} seeds")
    for name, chunks in rates.items():
        covers, errs, power, at_detectable = np.mean(chunks, axis=0)
        note = (
            f"   {at_detectable:.3f} at the detectable {detectable:.2f}"
            if name == "weighed t"
            else ""
        )
        print(f"  {name:30}{covers:7.3f}{errs:7.3f}{power:7.3f}{note}")


if __name__ == "__main__":
    main()
