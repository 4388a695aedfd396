import csv
import io
from pathlib import Path

from headcount.heads.analysis import analyse
from headcount.heads.tables import as_latex, as_markdown, curves_csv, heads_csv, print_heads
from headcount.terminal import make_console
from tests.heads.test_analysis import make_evaluator


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_tables_hold_what_was_measured(small, tmp_path: Path) -> None:
    analysis = analyse(make_evaluator(small, tmp_path))

    table = rows(heads_csv(analysis))
    assert len(table) == len(analysis.heads)
    for row, result in zip(table, analysis.heads, strict=True):
        assert (row["site"], int(row["layer"]), int(row["head"])) == (
            result.head.site,
            result.head.layer,
            result.head.index,
        )
        for kind in ("zero", "mean", "resample", "only"):
            expected = f"{result.loss_changes[kind].mean:.6g}"
            assert row[f"{kind}_loss"] == expected
            assert row[f"{kind}_rouge_corrected_p"]
        is_cross = result.head.site == "cross"
        # Copying has no score where no document has a token that is written.
        assert is_cross or row["copying_score"] == ""
        assert (row["monotone_score"] != "") == is_cross
        assert (row["previous_score"] != "") == (not is_cross)
        assert (row["distance"] == "") == is_cross

    points = rows(curves_csv(analysis))
    assert len(points) == sum(len(curve.points) for curve in analysis.curves)
    assert {row["order"] for row in points} >= {"gradient", "one_off", "random-1", "reverse"}

    markdown = as_markdown(analysis).splitlines()
    assert len(markdown) == 2 + len(analysis.heads)
    assert markdown[0].startswith("| site | layer | head |")
    latex = as_latex(analysis)
    assert latex.count(r"\\") == 1 + len(analysis.heads)
    assert latex.startswith(r"\begin{tabular}")


def test_the_terminal_shows_every_head_within_80_columns(small, tmp_path: Path) -> None:
    analysis = analyse(make_evaluator(small, tmp_path))
    shown = io.StringIO()
    print_heads(make_console(shown, width=80), "a title", analysis)
    text = shown.getvalue()
    assert "a title" in text
    lines = text.splitlines()
    for result in analysis.heads:
        begin = f"{result.head.site} "
        assert any(line.strip().startswith(begin.strip()) for line in lines)
    assert all(len(line) <= 80 for line in lines if not line.startswith("imp."))
