"""The report of a study, also of a half-finished one: ``headcount report``.

It writes into the experiment's folder ``results.csv`` (a row for each finished training),
``table.md``, ``table.tex``, ``figure.svg``, ``figure.pdf`` and ``figure.png``, and
``environment.json``: where the trainings ran, and their hours. The same runs give the same bytes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wandb import Image, Table

from headcount.config import load as compose
from headcount.config.sections.tracking import TrackingConfig
from headcount.config.shipped import is_shipped
from headcount.errors import ConfigError
from headcount.escape import csv_table, markdown_prose
from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid
from headcount.experiments.report.environments import summarize_environments
from headcount.experiments.report.findings import (
    describe_corpus_scores,
    describe_costs,
    describe_findings,
    describe_method,
    describe_scores,
    describe_state,
)
from headcount.experiments.report.plot import draw_study
from headcount.experiments.report.study import METRICS, Study, read_study
from headcount.experiments.report.tables import (
    COSTS,
    ResultTable,
    as_latex,
    corpus_table,
    cost_table,
    results_rows,
    score_table,
)
from headcount.experiments.seeds import extend_cells, read_added_seeds
from headcount.plot_style import save_figure
from headcount.runs.files import write_atomically
from headcount.runs.wandb_tracking import track
from headcount.terminal import make_console, print_on

TEXTS = ("results.csv", "table.md", "table.tex", "environment.json")
PICTURES = ("svg", "pdf", "png")


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """What a report says.

    Attributes:
        study: its results.
        rows: of ``results.csv``, under their titles.
        scores: the table of scores.
        costs: the table of costs.
        corpus: the table of BLEU and chrF; None if they were not computed.
        state: what is missing, one line each.
        findings: what was found, one line each.
        method: how to read the tables, a paragraph each.
    """

    study: Study
    rows: list[list[object]]
    scores: ResultTable
    costs: ResultTable
    corpus: ResultTable | None
    state: list[str]
    findings: list[str]
    method: list[str]


def report(
    experiment: Path, overrides: Sequence[str] = (), *, smoke: bool = False
) -> tuple[StudyReport, Path]:
    """Compare a study's finished trainings; write and print the results.

    Args:
        experiment: a folder with a ``grid.yaml``.
        overrides: ``tracking.KEY=VALUE`` each, for the report's own W&B run.
        smoke: report the ``--smoke`` trainings. Their report is written beside them instead of
            into the experiment's folder, as is that of a study of the package.

    Returns:
        The report, and the folder that it was written into.

    Raises:
        ConfigError: the grid is wrong, nothing is finished yet, or a finished run is damaged.
    """
    # The cells of the grid, and those of seeds that were added after the launch.
    grid = load_grid(experiment)
    cells = make_cells(grid, smoke=smoke)
    added = read_added_seeds(grid, cells)
    extended = extend_cells(grid, cells, added, smoke=smoke)

    tracking = _tracking(cells[0], overrides)
    study_report = make_report(read_study(grid, extended, added))
    folder = cells[0].folder.parent if smoke or is_shipped(grid.folder) else grid.folder
    _write_files(study_report, folder)
    _print(study_report, folder)
    _log_to_wandb(study_report, folder, tracking)
    return study_report, folder


def make_report(study: Study) -> StudyReport:
    """Make the tables and texts of a report."""
    return StudyReport(
        study=study,
        rows=results_rows(study),
        scores=score_table(study),
        costs=cost_table(study),
        corpus=corpus_table(study),
        state=describe_state(study),
        findings=describe_findings(study),
        method=describe_method(study),
    )


def _write_files(study_report: StudyReport, folder: Path) -> None:
    study = study_report.study
    write_atomically(folder / "results.csv", csv_table(study_report.rows))

    # The tables, with the texts between them.
    parts = [
        markdown_prose("\n".join(study_report.state)),
        study_report.scores.as_markdown(),
        study_report.corpus.as_markdown() if study_report.corpus else "",
        markdown_prose("\n".join(study_report.findings)),
        study_report.costs.as_markdown(),
        markdown_prose("\n\n".join(study_report.method)),
    ]
    markdown = "\n\n".join(part.strip() for part in parts if part)
    write_atomically(folder / "table.md", f"{markdown}\n")
    tables = [study_report.scores, study_report.costs]
    captions = [
        [*study_report.findings[:1], *describe_scores(study)],
        ["Costs of each setting, means over seeds.", *describe_costs(study)],
    ]
    if study_report.corpus:
        tables.append(study_report.corpus)
        captions.append(describe_corpus_scores(study))
    write_atomically(folder / "table.tex", as_latex(study.grid.name, tables, captions))

    # Where the trainings ran, and their hours.
    environments = json.dumps(summarize_environments(study), indent=2, ensure_ascii=False)
    write_atomically(folder / "environment.json", f"{environments}\n")

    figure = draw_study(study)
    for kind in PICTURES:
        save_figure(figure, folder / f"figure.{kind}")


def _print(study_report: StudyReport, folder: Path) -> None:
    study = study_report.study
    console = make_console()
    counts = f"{len(study.results)} of {len(study.cells)} trainings"
    print_on(console, f"{study.grid.name}: {counts}", style="bold")
    console.print(study_report.scores.as_rich(1 + len(METRICS)))
    if study_report.corpus:
        print_on(console, "")
        console.print(study_report.corpus.as_rich(len(study_report.corpus.columns)))
    print_on(console, "\n".join(["", *study_report.findings, ""]))
    console.print(study_report.costs.as_rich(1 + len(COSTS)))
    print_on(console, "\n".join(["", *study_report.method, *study_report.state, ""]))
    pictures = f"figure.{{{','.join(PICTURES)}}}"
    print_on(console, f"written to {folder}: {', '.join(TEXTS)}, {pictures}")


def _log_to_wandb(study_report: StudyReport, folder: Path, tracking: TrackingConfig) -> None:
    """Log the report as a W&B run of its own."""
    grid = study_report.study.grid
    config = {
        "control": grid.control,
        "grid": grid.settings,
        "seeds": grid.seeds,
        "reference_cell": grid.reference_cell,
    }
    tables: dict[str, Sequence[list[Any]]] = {
        "results": study_report.rows,
        "scores": study_report.scores.as_rows(),
        "costs": study_report.costs.as_rows(),
    }
    if study_report.corpus:
        tables["corpus"] = study_report.corpus.as_rows()
    texts = {
        "state": study_report.state,
        "findings": study_report.findings,
        "method": study_report.method,
    }

    # The tables row by row, the figure, and the texts as a summary.
    runs = study_report.study.cells[0].folder.parent
    tracking = replace(tracking, group=grid.name, name="report", tags=[])
    with track(tracking, runs, config, job_type="report") as trackers:
        for tracker in trackers:
            for name, (titles, *data) in tables.items():
                table = Table(columns=titles, data=data, allow_mixed_types=True)
                tracker.log_metrics({name: table})
            tracker.log_metrics({"figure": Image(str(folder / "figure.png"))})
            tracker.summarize(texts)

            # The run may be offline by now: a connection may have been lost.
            run = tracker.experiment
            if run.offline:
                command = shlex.join(["wandb", "sync", str(Path(run.dir).parent)])
                print_on(make_console(), f"to send this report to your W&B account: {command}")


def _tracking(cell: Cell, overrides: Sequence[str]) -> TrackingConfig:
    """Return the ``tracking`` section of a study with the overrides of its report.

    Raises:
        ConfigError: an override of another section.
    """
    for override in overrides:
        if not override.startswith("tracking."):
            raise ConfigError(
                f"command line: {override}: a report does not change its runs; legal: "
                "tracking.KEY=VALUE"
            )
    return compose.load(cell.files, [*cell.overrides, *overrides]).tracking
