from dataclasses import replace
from pathlib import Path

from headcount.heads.analysis import analyse
from headcount.heads.findings import findings
from headcount.heads.roles import RoleScore
from headcount.heads.statistics import PairedDifference
from tests.heads.test_analysis import make_evaluator


def test_findings_follow_from_the_figures(small, tmp_path: Path) -> None:
    analysis = analyse(make_evaluator(small, tmp_path))
    none = PairedDifference(mean=-1.0, low=-2.0, high=1.0, p=0.5, corrected_p=1.0)
    harmless = [replace(r, rouge_changes={"zero": none}, roles={}) for r in analysis.heads]
    message = " ".join(findings(replace(analysis, heads=harmless)))
    assert "No single head is needed by itself" in message
    assert "No role of the 2 encoder heads exceeds random weights" in message

    lost = PairedDifference(mean=-4.0, low=-5.0, high=-3.0, p=0.0001, corrected_p=0.01)
    copying = RoleScore(score=0.6, expected=0.1, p=0.0001, corrected_p=0.01)
    harmed = [*harmless]
    harmed[-1] = replace(harmed[-1], rouge_changes={"zero": lost}, roles={"copying": copying})
    message = " ".join(findings(replace(analysis, heads=harmed)))
    assert "1 head of 6 cannot be switched off alone" in message
    assert "cross.0.1: -4.00 [-5.00, -3.00]" in message
    assert "Roles of the 2 cross heads that exceed random weights: copying (1)." in message


def test_a_gain_is_not_called_a_loss(small, tmp_path: Path) -> None:
    analysis = analyse(make_evaluator(small, tmp_path))
    gained = PairedDifference(mean=4.0, low=3.0, high=5.0, p=0.0001, corrected_p=0.01)
    better = [replace(r, rouge_changes={"zero": gained}) for r in analysis.heads]
    assert "No single head is needed" in " ".join(findings(replace(analysis, heads=better)))


def test_orders_are_compared_with_every_random_one(small, tmp_path: Path) -> None:
    analysis = analyse(make_evaluator(small, tmp_path))
    curves = []
    for curve in analysis.curves:
        score = 30.0 if curve.order == "gradient" else 20.0
        points = [replace(point, score=score) for point in curve.points]
        curves.append(replace(curve, points=points))
    changed = replace(analysis, curves=curves)
    message = " ".join(findings(changed))
    assert "by gradient importance keeps more rougeL than each of 2 random orders" in message
    assert "by the loss without the head and confidence does not keep more" in message
    assert changed.best_curve("all").order == "gradient"


def test_a_proof_is_corrected_for_the_choice_among_the_orders(small, tmp_path: Path) -> None:
    """Three orders that rank heads: a p-value of 0.05 / 3 is needed."""
    analysis = analyse(make_evaluator(small, tmp_path))
    for p_margin, share in ((0.016, "100%"), (0.017, "0%")):
        curves = []
        for curve in analysis.curves:
            points = [replace(point, p_margin=p_margin) for point in curve.points]
            curves.append(replace(curve, points=points))
        message = " ".join(findings(replace(analysis, curves=curves)))
        assert f"{share} with a loss proven smaller than 0.5, corrected for 3 orders" in message
