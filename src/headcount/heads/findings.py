"""The findings of an analysis of heads as sentences, each derived from its numbers."""

from collections import Counter

from headcount.heads.analysis import SCOPE_ALL, Analysis, HeadResult
from headcount.heads.roles import MIN_EXCESS
from headcount.heads.statistics import LEVEL
from headcount.wording import count_nouns, join_words

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
        "(greedy search). Intervals and tests generalize to other documents, not to other seeds: "
        "there is one trained model."
    )


def _single_heads(analysis: Analysis) -> str:
    hurt = [
        result
        for result in analysis.heads
        if _is_significant(result) and result.rouge_changes["zero"].mean < 0
    ]
    if not hurt:
        return (
            "No single head is needed by itself: switching off one head never lowers "
            f"{analysis.rouge} significantly (corrected for the number of heads)."
        )
    worst = min(hurt, key=lambda result: result.rouge_changes["zero"].mean)
    change = worst.rouge_changes["zero"]
    return (
        f"{count_nouns(len(hurt), 'head')} of {len(analysis.heads)} cannot be switched off alone "
        f"without a significant loss of {analysis.rouge}. The largest loss is that of "
        f"{worst.head}: {change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]."
    )


def _is_significant(result: HeadResult) -> bool:
    return result.rouge_changes["zero"].corrected_p < LEVEL


def _prunable(analysis: Analysis) -> list[str]:
    sentences = []
    for scope in dict.fromkeys(curve.scope for curve in analysis.curves):
        curve = analysis.best_curve(scope)
        where = "all heads" if scope == SCOPE_ALL else f"the {scope} heads"
        not_significant = curve.removable_without_difference()
        orders = len(analysis.ranked_curves(scope))
        within_margin = curve.removable_within_margin(orders=orders)
        sentences.append(
            f"Of {where}, {not_significant:.0%} can be removed with no significant loss of "
            f"{analysis.rouge}, and {within_margin:.0%} with a loss proven smaller than "
            f"{analysis.margin:g}, corrected for {orders} orders "
            f"(order: {METHOD_NAMES[curve.order]})."
        )
    return sentences


def _orders_against_random(analysis: Analysis) -> list[str]:
    # A method is better only if it is above every random order, not above their mean.
    overall = [curve for curve in analysis.curves if curve.scope == SCOPE_ALL]
    random_areas = [curve.area for curve in overall if curve.order.startswith("random")]
    better = []
    not_better = []
    for curve in overall:
        if curve.order not in METHODS:
            continue
        if curve.area > max(random_areas):
            better.append(METHOD_NAMES[curve.order])
        else:
            not_better.append(METHOD_NAMES[curve.order])

    number = len(random_areas)
    sentences = []
    if better:
        sentences.append(
            f"Removing heads by {join_words(better)} keeps more {analysis.rouge} than each of "
            f"{number} random orders (area under the curve)."
        )
    if not_better:
        sentences.append(
            f"Removing heads by {join_words(not_better)} does not keep more {analysis.rouge} than "
            f"the best of {number} random orders."
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
                f"{join_words(counted)}."
            )
        else:
            sentences.append(
                f"No role of the {len(results)} {site} heads exceeds random weights significantly "
                f"and by at least {MIN_EXCESS}."
            )
    return sentences
