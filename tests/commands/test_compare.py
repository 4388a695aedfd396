import json
from pathlib import Path

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from headcount.commands.compare import RESAMPLES, compare
from headcount.config.sections.evaluation import EvaluationConfig, ReferenceRule
from headcount.errors import ConfigError
from headcount.evaluation.bootstrap import differences, holm
from headcount.evaluation.report import report
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.runs.scores import read_results, write_results

NUMBERS = range(60)
REFERENCES = [[f"they meet topic{n} at place{n} with thing{n}"] for n in NUMBERS]
SUMMARIES = {
    "good": [f"they meet topic{n} at place{n}" for n in NUMBERS],
    "alike": [f"they meet topic{n} {'at' if n % 2 else 'or'} place{n}" for n in NUMBERS],
    "poor": [f"they meet topic{n // 2}" for n in NUMBERS],
}


def write(
    folder: Path,
    name: str,
    numbers: range = NUMBERS,
    references: list[list[str]] = REFERENCES,
    rule: ReferenceRule = "mean",
    evaluation: EvaluationConfig | None = None,
) -> Path:
    """Write what an evaluation of some summaries leaves."""
    texts = [SUMMARIES[name][n] for n in numbers]
    references = [references[n] for n in numbers]
    evaluation = evaluation or EvaluationConfig(baselines=[], references=rule)
    judged = report(texts, [False] * len(texts), texts, references, evaluation=evaluation)
    folder.mkdir(parents=True)
    write_results(folder, judged, [f"id-{n}" for n in numbers], split="test", seed=0, step=1)
    rows = (
        {"id": f"id-{n}", "summary": text, "references": r}
        for n, text, r in zip(numbers, texts, references, strict=True)
    )
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_runs_side_by_side_and_their_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [write(tmp_path / "runs" / f"{name}-1", name) for name in SUMMARIES]
    compare(folders)
    output = capsys.readouterr().out
    assert (
        "60 of 60 examples" in output
        and read_results(folders[0]).signature in output
        and "Minus good-1, " in output
    )
    assert [output.count(f"\n {name}-1 ") for name in SUMMARIES] == [
        2,
        3,
        3,
    ]  # two tables, and the differences
    values = [
        read_results(folder).values[:, [EXAMPLE_METRICS.index("rouge1")]] for folder in folders
    ]
    drop = values[2].mean() - values[0].mean()
    assert f"{drop:+.2f}" in output and drop < -10
    assert (
        output.count(f"p {8 / (RESAMPLES + 1):.4f}") >= 4
    )  # eight tests, of which the poor run's are as sure as can be


def test_p_values_are_corrected_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [write(tmp_path / name, name) for name in SUMMARIES]
    compare(folders)
    output = capsys.readouterr().out
    columns = [EXAMPLE_METRICS.index(kind) for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")]
    first, *others = (read_results(folder).values[:, columns] for folder in folders)
    tests = [test for other in others for test in differences(other, first, RESAMPLES)]
    shown = [
        float(text)
        for line in output.splitlines()
        if line.split()[:1] == ["p"]
        for text in line.split()[1::2]
    ]
    assert shown == [float(f"{p:.4f}") for p in holm([test.p for test in tests])]


def test_order_and_number_of_examples_do_not_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(
        [
            write(tmp_path / "a", "good", range(10, 40)),
            write(tmp_path / "b", "poor", range(10, 40)),
        ]
    )
    expected = capsys.readouterr().out.splitlines()
    compare(
        [
            write(tmp_path / "c" / "a", "good", range(39, -1, -1)),
            write(tmp_path / "c" / "b", "poor", range(10, 60)),
        ]
    )
    found = capsys.readouterr().out.splitlines()
    assert "30 of 50 examples" in found[1]
    means = [
        [line for line in lines if line.startswith((" a ", " b "))] for lines in (expected, found)
    ]
    assert means[0] == means[1]


def test_evaluations_within_one_run_have_names_that_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "a-1", "good")
    compare([run, write(run / "evaluation-1", "poor")])
    output = capsys.readouterr().out
    assert "\n a-1 " in output and output.count("\n a-1/evaluation-1 ") == 3


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path: Path) -> None:
    first = write(tmp_path / "first", "good", range(10))
    others = {
        "1 folder; legal: two or more": [],
        "no scores.json in it": [tmp_path / "none"],
        "scored differently": [write(tmp_path / "max", "good", range(10), rule="max")],
        "no example in common": [write(tmp_path / "later", "good", range(10, 20))],
        "other references for id-3": [
            write(
                tmp_path / "changed",
                "good",
                range(10),
                [["x"] if n == 3 else r for n, r in enumerate(REFERENCES)],
            )
        ],
    }
    for message, folders in others.items():
        with pytest.raises(ConfigError, match=f"^[^\n]*{message}[^\n]*$"):
            compare([first, *folders])


def test_report_of_a_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write(tmp_path / name, name) for name in SUMMARIES]
    compare(folders, report=tmp_path / "report.md", metric="rouge1")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## poor and good" in text and "ROUGE-1 by words of the document" in text
    assert "beats good on an example with probability 0.000" in text
    assert f"report: {tmp_path / 'report.md'}" in capsys.readouterr().out
    compare(folders, report=tmp_path / "report.html", metric="rouge1")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "ROUGE-1 by words of the document" in page

    # The differences are those of the terminal.
    values = [
        read_results(folder).values[:, [EXAMPLE_METRICS.index("rouge1")]] for folder in folders
    ]
    assert f"{values[2].mean() - values[0].mean():+.2f}" in text
    with pytest.raises(
        ConfigError, match="--metric bleu is not a metric of these runs; legal: ro"
    ):
        compare(folders, metric="bleu")


def test_corpus_metrics_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The difference is that of the corpus scores, on the examples that both have."""
    evaluation = EvaluationConfig(baselines=[], metrics=["bleu", "chrf"])
    numbers = range(5, 60)
    first = write(tmp_path / "a", "good", evaluation=evaluation)
    second = write(tmp_path / "b", "alike", numbers, evaluation=evaluation)
    compare([first, second], report=tmp_path / "report.md", metric="chrf")
    printed = capsys.readouterr().out
    references = [[REFERENCES[n][0] for n in numbers]]
    for metric in (BLEU(), CHRF()):
        scores = [
            metric.corpus_score([SUMMARIES[name][n] for n in numbers], references).score
            for name in ("good", "alike")
        ]
        assert f"{scores[0]:.2f}" in printed and f"{scores[1]:.2f}" in printed
        assert f"{scores[1] - scores[0]:+.2f}" in printed
    assert "chrF by words of the document" in (tmp_path / "report.md").read_text()


def test_systems_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An evaluation of several models, or by a search that optimizes the metric."""
    model = write(tmp_path / "a-1", "poor")
    system = write(tmp_path / "a-1.ensemble-1", "good")
    scores = json.loads((system / "scores.json").read_text())
    (system / "scores.json").write_text(json.dumps({**scores, "system": "ensemble of a and b"}))
    compare([model, system])
    out = capsys.readouterr().out
    assert "\n a-1 " in out and out.count("\n a-1.ensemble-1 (system) ") == 3
    assert "\na-1.ensemble-1 (system): ensemble of a and b\n" in out
    (system / "scores.json").write_text(json.dumps({**scores, "system": ["a"]}))
    with pytest.raises(ConfigError, match=r"scores\.json: damaged .*system=\['a'\]"):
        compare([model, system])
