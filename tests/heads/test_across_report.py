import csv
import io

from headcount.heads.across import compare_runs
from headcount.heads.across_report import (
    across_csv,
    across_findings,
    across_markdown,
    draw_mean_curves,
    draw_profiles,
)
from headcount.heads.analysis import Analysis
from tests.heads.test_across import with_gain, with_importances, with_roles


def test_roles_that_every_run_has_are_separated_from_others(roleless: Analysis) -> None:
    copying = with_roles(roleless, {5: "copying"})
    both = with_roles(roleless, {5: "copying", 0: "previous"})
    compared = compare_runs({"a": copying, "b|": both})
    text = " ".join(across_findings(compared))
    assert "in every run: copying (cross)." in text
    assert "in some runs only: previous (encoder, 1 of 2)." in text
    table = across_markdown(compared)
    assert "| cross | copying | 1 | 1 | 1.0 ± 0.0 |" in table
    assert "| encoder | previous | 0 | 1 | 0.5 ± 0.7 |" in table
    assert "\n2. b\\|\n" in table
    assert "No run has a head" in " ".join(across_findings(compare_runs({"a": roleless})))


def test_orders_must_beat_random_in_each_run(roleless: Analysis) -> None:
    gains = {"a": 3.0, "b": 3.1, "c": 2.9}
    compared = compare_runs(
        {name: with_gain(roleless, "gradient", gain) for name, gain in gains.items()}
    )
    text = " ".join(across_findings(compared))
    assert "than random ones across runs (corrected for 3 orders): gradient importance." in text
    assert "Over 3 runs, 100% of the cross heads can be removed" in text
    assert "| all | gradient | +3.00 [+2.75, +3.25] |" in across_markdown(compared)

    mixed = compare_runs(
        {name: with_gain(roleless, "gradient", gain) for name, gain in (("a", 3), ("b", -3))}
    )
    assert "No order keeps significantly more" in " ".join(across_findings(mixed))


def test_orders_that_beat_random_ones_are_corrected_for_their_number(roleless: Analysis) -> None:
    """By the t-test over runs p is 0.035, and 0.105 corrected for three orders (Holm)."""
    gains = {"a": 2.0, "b": 3.0, "c": 4.0}
    compared = compare_runs(
        {name: with_gain(roleless, "gradient", gain) for name, gain in gains.items()}
    )
    [area] = [each for each in compared.areas if (each.where, each.name) == ("all", "gradient")]
    assert area.over_runs.low > 0
    text = " ".join(across_findings(compared))
    assert "No order keeps significantly more ROUGE than random ones" in text


def test_every_number_of_every_run_is_in_the_csv(roleless: Analysis) -> None:
    one = with_importances(roleless, [0.1, 0.9, 0.2, 0.8, 0.3, 0.7])
    other = with_roles(with_gain(one, "gradient", 2.0), {5: "copying"})
    rows = list(csv.DictReader(io.StringIO(across_csv(compare_runs({"a": one, "=b": other})))))
    found = {(row["what"], row["where"], row["name"], row["position"]): row for row in rows}
    assert len(found) == len(rows)
    first = found["sorted importance", "encoder.0", "gradient", "1"]
    assert (first["a"], first["'=b"], first["mean"], first["sd"]) == ("0.9", "0.9", "0.9", "0")
    assert found["heads with role", "cross", "copying", ""]["'=b"] == "1"
    point = found["change of rougeL", "cross", "gradient", "0.5"]
    assert point["'=b"] == "2"
    assert {row["what"] for row in rows} == {
        "sorted importance",
        "rank correlation",
        "heads with role",
        "change of rougeL",
        "area above random",
        "removable share",
    }


def test_pictures_have_panels_for_blocks_and_scopes(roleless: Analysis) -> None:
    compared = compare_runs({"a": roleless, "b": with_gain(roleless, "one_off", 1.0)})
    profiles = draw_profiles(compared)
    titles = [panel.get_title(loc="left") for panel in profiles.axes]
    assert titles[:3] == ["encoder.0", "decoder.0", "cross.0"] and len(titles) == 9
    curves = draw_mean_curves(compared)
    titles = [panel.get_title(loc="left") for panel in curves.axes]
    assert titles == ["all heads", "encoder heads only", "decoder heads only", "cross heads only"]
    assert [len(panel.lines) for panel in curves.axes] == [5] * 4  # four orders and zero
