"""What an analysis of heads has found, in sentences that follow from its figures."""

from collections import Counter

from headcount.heads.analysis import SCOPE_ALL, Analysis, HeadResult
from headcount.heads.curve import Curve
from headcount.heads.statistics import LEVEL

METHOD_NAMES = {
    "gradient": "gradient importance",
    "one_off": "the loss without the head",
    "confidence": "confidence",
    "gates": "learned gates",
}
METHODS = tuple(METHOD_NAMES)


def findings(analysis: Analysis) -> list[str]:
    """Return the findings, the most important first."""
    sentences = [_setting(analysis), _single_heads(analysis)]
    sentences += _prunable(analysis)
    sentences += _orders_against_random(analysis)
    sentences += _roles(analysis)
    return sentences


def _setting(analysis: Analysis) -> str:
    return (
        f"The model has {len(analysis.heads)} heads. On {analysis.documents} documents it "
        f"reaches a loss of {analysis.loss:.3f} and {analysis.rouge} {analysis.score:.2f} "
        "(greedy search). Intervals and tests are about other documents; one trained model says "
        "nothing about other seeds."
    )


def _single_heads(analysis: Analysis) -> str:
    hurt = [
        result
        for result in analysis.heads
        if _is_significant(result) and result.rouge_changes["zero"].mean < 0
    ]
    if not hurt:
        return (
            f"No single head is needed by itself: switching off any one changes {analysis.rouge} "
            "by nothing that is significant after correction."
        )
    worst = min(hurt, key=lambda result: result.rouge_changes["zero"].mean)
    change = worst.rouge_changes["zero"]
    return (
        f"{_count(len(hurt), 'head')} of {len(analysis.heads)} cannot be switched off alone "
        f"without a significant loss of {analysis.rouge}. The largest loss is that of "
        f"{worst.head}: {change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]."
    )


def _is_significant(result: HeadResult) -> bool:
    return result.rouge_changes["zero"].corrected_p < LEVEL


def best_curve(analysis: Analysis, scope: str) -> Curve:
    """Return the curve of a scope with the largest area, among the methods that rank heads."""
    of_scope = [c for c in analysis.curves if c.scope == scope and c.order in METHODS]
    return max(of_scope, key=lambda curve: curve.area)


def _prunable(analysis: Analysis) -> list[str]:
    sentences = []
    for scope in dict.fromkeys(curve.scope for curve in analysis.curves):
        curve = best_curve(analysis, scope)
        where = "all heads" if scope == SCOPE_ALL else f"the {scope} heads"
        sentences.append(
            f"Of {where}, {curve.removable_without_difference():.0%} can go with no significant "
            f"loss of {analysis.rouge}, and {curve.removable_within_margin():.0%} with a loss "
            f"proven smaller than {analysis.margin:g} (order: {METHOD_NAMES[curve.order]})."
        )
    return sentences


def _orders_against_random(analysis: Analysis) -> list[str]:
    overall = [curve for curve in analysis.curves if curve.scope == SCOPE_ALL]
    random_areas = [curve.area for curve in overall if curve.order.startswith("random")]
    better: list[str] = []
    other: list[str] = []
    for curve in overall:
        if curve.order in METHODS:
            is_better = curve.area > max(random_areas)
            (better if is_better else other).append(METHOD_NAMES[curve.order])

    number = len(random_areas)
    sentences = []
    if better:
        sentences.append(
            f"Removing heads by {_join(better)} keeps more {analysis.rouge} than each of {number} "
            "random orders (area under the curve)."
        )
    if other:
        sentences.append(
            f"Removing heads by {_join(other)} does not keep more {analysis.rouge} than the best "
            f"of {number} random orders."
        )
    return sentences


def _roles(analysis: Analysis) -> list[str]:
    sentences = []
    for site in analysis.sites:
        results = [result for result in analysis.heads if result.head.site == site]
        roles: Counter[str] = Counter()
        for result in results:
            roles.update(result.held_roles)
        if roles:
            counted = [f"{role} ({number})" for role, number in roles.most_common()]
            sentences.append(
                f"Roles of the {len(results)} {site} heads that exceed random weights: "
                f"{_join(counted)}."
            )
        else:
            sentences.append(
                f"No role of the {len(results)} {site} heads exceeds random weights by enough."
            )
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _join(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
