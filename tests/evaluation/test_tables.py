import io

import numpy as np
from rich.console import Console

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.bootstrap import CorrectedDifference
from headcount.evaluation.report import ScoreReport
from headcount.evaluation.rouge import ROUGE_TITLES
from headcount.evaluation.systems import EXAMPLE_METRICS, Scorers, measure, measure_human
from headcount.evaluation.tables import print_differences, print_report

SCORERS = Scorers(EvaluationConfig())
DOCUMENTS, REFERENCES = ["a b c d e f", "g h i j"], [["a b c"], ["g h"]]


def printed(width: int, print_it, *args: object) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_it(console, *args)
    return console.file.getvalue().splitlines()


def test_a_report_fits_a_narrow_terminal() -> None:
    """With the longest figures there are, and a signature and alarms that are never broken."""
    model = measure("model", ["a b c", "g"], DOCUMENTS, REFERENCES, SCORERS, [True, False])
    model.values[:] = np.where(np.isnan(model.values), np.nan, 100.0)
    model.values[1] = 99.98
    alarm = "something is wrong " * 10
    systems = [model, measure_human(DOCUMENTS, REFERENCES, SCORERS)]
    lines = printed(
        80, print_report, "data", ScoreReport(signature="s" * 100, systems=systems, alarms=[alarm])
    )
    assert f"alarm: {alarm}" in lines and "s" * 100 in lines
    assert not any("…" in line for line in lines)
    assert [line.split() for line in lines if line.startswith(" model")] == [
        ["model", *["99.99"] * 4],
        ["model", *["100.0"] * 8],
    ]
    [human, _] = [line.split() for line in lines if line.startswith(" human")]
    assert human == ["human", "-", "-", "-", "-"]
    assert any("[99.98, 100.00]" in line for line in lines)


def test_every_system_has_every_figure() -> None:
    assert set(measure_human(DOCUMENTS, REFERENCES, SCORERS).metrics) == set(EXAMPLE_METRICS)


def test_differences() -> None:
    test = CorrectedDifference(mean=-1.234, low=-2.0, high=0.1, p=0.01, corrected_p=0.04321)
    row = [test] * 4
    lines = printed(80, print_differences, "title", ROUGE_TITLES.values(), [("b - a", row)])
    assert lines[-3].split() == ["b", "-", "a", *["-1.23"] * 4]
    assert lines[-2].count("[-2.00, +0.10]") == 4 and lines[-1].count("p 0.0432") == 4


def test_corpus_metrics_have_a_table() -> None:
    scorers = Scorers(EvaluationConfig(metrics=["bleu", "chrf"]))
    model = measure("model", ["a b c d e", "g h"], DOCUMENTS, [["a b c d e"], ["g h"]], scorers)
    human = measure_human(DOCUMENTS, REFERENCES, scorers)
    report = ScoreReport(signature="s", systems=[model, human], alarms=[])
    lines = printed(80, print_report, "data", report)
    [titles] = [line.split() for line in lines if "BLEU" in line and "chrF" in line]
    assert titles == ["BLEU", "chrF"]
    scores = [line.split() for line in lines if line.startswith(" model")][1]
    assert scores == ["model", "100.00", "100.00"]
