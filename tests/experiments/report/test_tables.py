import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from headcount.escape import csv_table
from headcount.evaluation.systems import EXAMPLE_METRICS
from headcount.experiments.grid import load_grid
from headcount.experiments.report.findings import describe_method
from headcount.experiments.report.study import Study, read_study
from headcount.experiments.report.tables import (
    ResultTable,
    as_latex,
    corpus_table,
    cost_table,
    p_as_text,
    results_rows,
    score_table,
)
from headcount.experiments.report.write import report
from tests.experiments.studies import HEADS, write_study, write_values

TWO = HEADS.replace("[1, 2, 4, 8, 16]", "[4, 8]")


def study_of(grid: str = TWO) -> Study:
    """Write and read a study in which every score is a whole number or a half, the same for all
    examples."""
    cells = write_study(Path("study"), lambda cell: 0, grid=grid, keep=lambda cell: False)
    for cell in cells[:5]:
        heads = cell.axes["model.num_heads"]
        write_values(cell, np.full((4, len(EXAMPLE_METRICS)), heads + 0.5 * cell.seed))
    return read_study(load_grid(Path("study")), cells)


def test_scores_stand_with_interval_difference_and_p_above_the_baselines(tmp_path: Path) -> None:
    block = score_table(study_of())
    assert block.columns == [
        "num_heads",
        "ROUGE-1",
        "ROUGE-2",
        "ROUGE-L",
        "Δ ROUGE-1",
        "Δ ROUGE-2",
        "Δ ROUGE-L",
        "verdict",
    ]
    four, eight = block.settings
    assert (
        four[0] == ("4", "seed 0, 1, 2")
        and four[1][0] == "4.50 ± 0.50"
        and four[4] == ("-4.00", "[-4.00, -4.00]", "p < 0.001")
    )
    assert (
        eight[0] == ("8", "seed 0, 1")
        and eight[1][0] == "8.25 ± 0.35"
        and eight[4] == ("reference",)
    )
    low, high = map(float, four[1][1].strip("[]").split(", "))
    assert low == pytest.approx(4.5 - 4.303 * 0.5 / 3**0.5, abs=0.006) and high == pytest.approx(
        9 - low, abs=0.011
    )
    assert block.baselines[0][:2] == [("lead-1",), ("18.46", "[17.46, 19.46]")]
    assert [row[0] for row in block.baselines] == [
        ("lead-1",),
        ("longest-1",),
        ("random-1",),
        ("oracle-1",),
    ]


def test_the_terminal_shows_numbers_beside_a_long_name() -> None:
    name = "encoder_heads=8,decoder_heads=8,cross_heads=8"
    numbers = [("26.17 ± 1.52", "[22.46, 29.88]")] * 3
    table = ResultTable(
        columns=["setting", "ROUGE-1", "ROUGE-2", "ROUGE-L", "verdict"],
        settings=[[(name,), *numbers, ("RL ? undecided (6)",)]],
        baselines=[],
        has_verdicts=True,
    )
    console = Console(width=80, file=io.StringIO())
    console.print(table.as_rich(4))
    text = console.file.getvalue()
    assert text.count("26.17 ± 1.52") == 3 and "…" not in text
    assert "decoder_heads=8" in text


def test_costs_stand_in_their_units(tmp_path: Path) -> None:
    study = study_of()
    (study.results[3].cell.folder / "costs.json").unlink()
    (study.results[4].cell.folder / "costs.json").unlink()
    rows = cost_table(read_study(study.grid, [result.cell for result in study.results])).settings
    assert [place[0] for place in rows[0]] == ["4", "2.30", "42.0", "9,983", "15.2", "912", "1.69"]
    assert [place[0] for place in rows[1]] == ["8", *6 * "-"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_verdicts_from_few_seeds_are_marked(seeds: int, tmp_path: Path) -> None:
    mark = {1: "† one seed", 2: "† from two seeds"}[seeds]
    cells = write_study(Path("few"), lambda cell: 20 + cell.is_reference, grid=TWO)
    study = read_study(load_grid(Path("few")), cells)
    assert "†" not in score_table(study).as_markdown()
    study = read_study(load_grid(Path("few")), [*cells[:seeds], *cells[3:]])
    table = score_table(study)
    assert table.settings[0][-1][-1] == mark and len(table.settings[0][-1]) == 4
    assert f"<br>{mark} |" in table.as_markdown()
    assert (
        rf"{{\scriptsize {mark.replace('†', '$' + chr(92) + 'dagger$')}}} \\" in table.as_latex()
    )
    console = Console(width=100, file=io.StringIO())
    console.print(table.as_rich(4))
    assert mark in console.file.getvalue()


def add_corpus_scores(study: Study, *names: str) -> Study:
    for number, result in enumerate(study.results):
        path = result.cell.folder / "scores.json"
        content = json.loads(path.read_text())
        for name in names:
            score = 10.0 + number
            content["systems"]["model"][name] = {"mean": score, "low": 9, "high": 20}
            content["systems"]["lead-1"][name] = {"mean": 3.5, "low": 3, "high": 4}
        path.write_text(json.dumps(content))
    return read_study(study.grid, study.cells)


def test_scores_of_the_corpus_are_reported_without_a_test(tmp_path: Path) -> None:
    study = study_of()
    assert corpus_table(study) is None and "bleu" not in results_rows(study)[0]
    study = add_corpus_scores(study, "chrf", "bleu")
    table = corpus_table(study)
    assert table.columns == ["num_heads", "BLEU", "chrF"]
    assert table.settings == [
        [("4", "seed 0, 1, 2"), ("11.00 ± 1.00",), ("11.00 ± 1.00",)],
        [("8", "seed 0, 1"), ("13.50 ± 0.71",), ("13.50 ± 0.71",)],
    ]
    assert table.baselines[0] == [("lead-1",), ("3.50",), ("3.50",)]
    assert table.baselines[1] == [("longest-1",), ("-",), ("-",)]
    rows = list(csv.DictReader(io.StringIO(csv_table(results_rows(study)))))
    assert [(row["bleu"], row["chrf"]) for row in rows][1] == ("11.0", "11.0")
    assert any("BLEU and chrF of the whole test split" in line for line in describe_method(study))


def test_a_score_that_only_some_trainings_have_is_not_reported(tmp_path: Path) -> None:
    study = add_corpus_scores(study_of(), "bleu", "chrf")
    path = study.results[0].cell.folder / "scores.json"
    path.write_text(path.read_text().replace('"chrf"', '"other"'))
    study = read_study(study.grid, study.cells)
    assert corpus_table(study).columns == ["num_heads", "BLEU"]


def test_markdown_is_a_table() -> None:
    block = ResultTable(
        columns=["a", "b"], settings=[[("x",), ("1", "[0, 2]")]], baselines=[[("lead-1",), ("",)]]
    )
    assert (
        block.as_markdown() == "| a | b |\n| :--- | ---: |\n| x | 1<br>[0, 2] |\n| lead-1 |  |\n"
    )
    assert block.as_rows() == [["a", "b"], ["x", "1 [0, 2]"], ["lead-1", ""]]


def test_latex_is_escaped_and_has_the_rules_of_booktabs() -> None:
    block = ResultTable(
        columns=["num_heads", "R1", "Δ", "verdict"],
        settings=[
            [
                ("a_b,c=1", "seed 0, 1"),
                ("24.25 ± 1.12",),
                ("-0.40", "[-0.90, +0.10]", "p < 0.001"),
                ("R1 ▼ worse", "R2 ? undecided (>50)"),
            ]
        ],
        baselines=[[("lead-1",), ("1.00",), ("",), ("",)]],
        has_verdicts=True,
    )
    assert block.as_latex().splitlines() == [
        r"\begin{tabular}{@{}lS[table-format=2.2(3)]S[table-format=+1.2]l@{}}",
        r"\toprule",
        r"{\shortstack{num\_heads}} & {\shortstack{R1}} & {\shortstack{$\Delta$}} & "
        r"{\shortstack{verdict}} \\",
        r"\midrule",
        r"{\scriptsize a\_b} & 24.25 \pm 1.12 & -0.40 & "
        r"{\scriptsize R1 \textcolor[HTML]{D55E00}{worse}} \\",
        r"{\scriptsize c=1} &  & {\scriptsize [$-$0.90, $+$0.10]} & "
        r"{\scriptsize R2 \textcolor[HTML]{555555}{undecided (\textgreater{}50)}} \\",
        r"{\scriptsize seed 0, 1} &  & {\scriptsize p $<$ 0.001} &  \\",
        r"\midrule",
        r"{\scriptsize lead-1} & 1.00 &  &  \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    whole = as_latex("heads", [block, block], [["5 % of `a_b|c`."], ["Costs."]])
    assert r"\caption{5 \% of \texttt{a\_b|\allowbreak c}.}" in whole
    assert whole.count("{table*}") == 4
    assert r"\label{tab:heads}" in whole and r"\label{tab:heads-2}" in whole


ARCHITECTURES = """
configs: [base.yaml]
control: none
grid: {configs: [transformer.yaml, gpt.yaml], model.norm_position: [pre, post]}
seeds: [0, 1]
reference_cell: {configs: transformer.yaml, model.norm_position: post}
select: {over: {optimizer.learning_rate: [1.0e-3]}, by: validation/rougeL}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a TeX")
@pytest.mark.parametrize("grid", [HEADS + "margin: {rougeL: 1}\n", ARCHITECTURES])
def test_latex_compiles_and_fits_the_page(grid: str, tmp_path: Path) -> None:
    """On a page of 16 cm, as that of ACL and of most two-column styles."""
    Path("transformer.yaml").write_text("{}\n")
    Path("gpt.yaml").write_text("model: {activation: swiglu}\n")
    cells = write_study(Path("study"), lambda cell: 20 + 3 * cell.is_reference, grid=grid)
    for cell in cells:
        (cell.folder / "metrics.csv").write_text("step,validation/rougeL,validation/loss\n1,1,2\n")
    report(Path("study"))
    Path("paper.tex").write_text(
        "\\documentclass[10pt,twocolumn,a4paper]{article}\n"
        "\\usepackage[margin=2.5cm]{geometry}\n"
        "\\usepackage{booktabs,siunitx,xcolor}\n"
        "\\begin{document}Text.\\input{study/table.tex}\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        capture_output=True,
        text=True,
    )
    if "File `siunitx.sty' not found" in done.stdout:
        pytest.skip("needs siunitx")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout


def test_results_have_a_row_a_finished_training(tmp_path: Path) -> None:
    study = study_of()
    rows = list(csv.DictReader(io.StringIO(csv_table(results_rows(study)))))
    assert [(row["model.num_heads"], row["seed"]) for row in rows] == [
        *(("4", s) for s in "012"),
        ("8", "0"),
        ("8", "1"),
    ]
    assert (
        rows[1]["rouge2"] == "4.5"
        and rows[1]["decode_ms_per_summary"] == "15.2"
        and rows[1]["step"] == "100"
    )
    assert rows[0]["folder"] == str(study.results[0].cell.folder) and "selected" not in rows[0]


def test_small_values_of_the_grid_are_not_rounded(tmp_path: Path) -> None:
    grid = TWO.replace("model.num_heads: [4, 8]", "optimizer.learning_rate: [1.0e-5, 3.0e-5]")
    grid = grid.replace("{model.num_heads: 8}", "{optimizer.learning_rate: 3.0e-5}")
    rates = ["1e-05", "3e-05"]
    cells = write_study(Path("study"), lambda cell: 20, grid=grid.replace("[0, 1, 2]", "[0]"))
    rows = results_rows(read_study(load_grid(Path("study")), cells))
    table = list(csv.DictReader(io.StringIO(csv_table(rows))))
    assert [row["optimizer.learning_rate"] for row in table] == rates

    # Those of an inner axis are not either; scores are.
    select = "select: {over: {optimizer.learning_rate: [1.0e-5, 3.0e-5]}, by: validation/rougeL}"
    cells = write_study(Path("inner"), lambda cell: 20, grid=TWO.replace("1, 2]", "1]") + select)
    for cell in cells:
        (cell.folder / "metrics.csv").write_text(
            "step,validation/rougeL,validation/loss\n1,1.234567,2\n"
        )
    rows = results_rows(read_study(load_grid(Path("inner")), cells))
    table = list(csv.DictReader(io.StringIO(csv_table(rows))))
    assert sorted({row["optimizer.learning_rate"] for row in table}) == rates
    assert {row["validation/rougeL"] for row in table} == {"1.2346"}


def test_a_setting_with_other_seeds_than_the_reference_cell_names_them(tmp_path: Path) -> None:
    """After --until-decided a decided setting has all of its seeds, but fewer."""
    grid = TWO.replace("[0, 1, 2]", "[0, 1, 2, 3, 4, 5, 6, 7]")
    cells = write_study(Path("study"), lambda cell: 20, grid=grid)
    study = read_study(load_grid(Path("study")), [*cells[:5], *cells[8:]])
    table = score_table(study)
    assert [row[0] for row in table.settings] == [("4", "seed 0, 1, 2, 3, 4"), ("8",)]
    assert cost_table(study).settings[0][0] == ("4", "seed 0, 1, 2, 3, 4")

    # In LaTeX a long list is broken, as other names are.
    assert r"{\scriptsize seed 0, 1, 2, 3,}" in table.as_latex()
    full = read_study(study.grid, cells)
    assert [row[0] for row in score_table(full).settings] == [("4",), ("8",)]


def test_results_say_what_of_an_inner_axis_was_chosen(tmp_path: Path) -> None:
    select = "select: {over: {optimizer.learning_rate: [0.1, 0.2]}, by: validation/rougeL}"
    cells = write_study(
        Path("study"), lambda cell: 20, grid=TWO.replace("[0, 1, 2]", "[0]") + select
    )
    for cell in cells:
        score = cell.choice["optimizer.learning_rate"] * (1 if cell.is_reference else -1)
        (cell.folder / "metrics.csv").write_text(
            f"step,validation/rougeL,validation/loss\n1,{score},2\n"
        )
    study = read_study(load_grid(Path("study")), cells)
    rows = list(csv.DictReader(io.StringIO(csv_table(results_rows(study)))))
    assert [(row["optimizer.learning_rate"], row["selected"]) for row in rows] == [
        *(("0.1", "True"), ("0.2", "False")),
        *(("0.1", "False"), ("0.2", "True")),
    ]
    assert [row["validation/rougeL"] for row in rows] == ["-0.1", "-0.2", "0.1", "0.2"]
    assert score_table(study).settings[1][0] == ("8", "learning_rate=0.2")


@pytest.mark.parametrize(
    ("p", "message"), [(0.0004, "p < 0.001"), (0.0312, "p 0.031"), (1.0, "p 1.000")]
)
def test_p(p: float, message: str) -> None:
    assert p_as_text(p) == message
