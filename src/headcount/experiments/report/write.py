"""The command that says what a study has found, also when it is not finished.

Into the experiment's folder go ``results.csv`` (a row a finished training), ``table.md``,
``table.tex`` and ``figure.svg``, ``figure.pdf`` and ``figure.png``: the same bytes from the same
runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wandb import Image, Table

from headcount.config import load as compose
from headcount.config.schema import TrackingConfig
from headcount.errors import ConfigError
from headcount.escape import markdown_prose
from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells
from headcount.experiments.grid import load_grid
from headcount.experiments.report.findings import say_findings, say_method, say_state
from headcount.experiments.report.plot import draw_study, save_figure
from headcount.experiments.report.study import METRICS, read_study
from headcount.experiments.report.tables import (
    COSTS,
    as_csv,
    as_latex,
    cost_block,
    results_rows,
    score_block,
)
from headcount.runs.files import write_atomically
from headcount.runs.wandb_tracking import Tracker, track
from headcount.terminal import make_console, say

PICTURES = ("svg", "pdf", "png")


def report(experiment: Path, overrides: Sequence[str] = (), *, smoke: bool = False) -> None:
    """Read a study's finished trainings, compare them, write and print what they say.

    Args:
        experiment: a folder with a ``grid.yaml``.
        overrides: ``tracking.KEY=VALUE`` each, for the report's own W&B run.
        smoke: of the ``--smoke`` trainings; that stays out of the experiment's folder, and goes
            where they lie.

    Raises:
        ConfigError: the grid is wrong, nothing is finished yet, or a finished run is damaged.
    """
    grid = load_grid(experiment)
    cells = make_cells(grid, smoke=smoke)
    tracking = _tracking(cells[0], overrides)
    study = read_study(grid, cells)
    folder = cells[0].folder.parent if smoke else experiment
    rows, scores, costs = results_rows(study), score_block(study), cost_block(study)
    state, findings, method = say_state(study), say_findings(study), say_method(study)
    write_atomically(folder / "results.csv", as_csv(rows))
    prose = [
        markdown_prose(text)
        for text in ("\n".join(state), "\n".join(findings), "\n\n".join(method))
    ]
    parts = [prose[0], scores.as_markdown(), prose[1], costs.as_markdown(), prose[2]]
    write_atomically(
        folder / "table.md", "\n\n".join(part.strip() for part in parts if part) + "\n"
    )
    write_atomically(
        folder / "table.tex", as_latex(grid.name, [scores, costs], [*findings[:1], *method[:-1]])
    )
    figure = draw_study(study)
    for kind in PICTURES:
        save_figure(figure, folder / f"figure.{kind}")
    console = make_console()
    say(console, f"{grid.name}: {len(study.results)} of {len(cells)} trainings", style="bold")
    for table, lines in (
        (scores.as_rich(1 + len(METRICS)), findings),
        (costs.as_rich(1 + len(COSTS)), method + state),
    ):
        console.print(table)
        say(console, "\n".join(["", *lines, ""]))
    say(
        console,
        f"written to {folder}: results.csv, table.md, table.tex, figure.{{{','.join(PICTURES)}}}",
    )
    tracking = replace(tracking, group=grid.name, name="report", tags=[])
    plain = {
        "control": grid.control,
        "grid": grid.settings,
        "seeds": grid.seeds,
        "baseline": grid.baseline,
    }
    said = {"state": state, "findings": findings, "method": method}
    with track(tracking, cells[0].folder.parent, plain, job_type="report") as loggers:
        for logger in loggers:
            if isinstance(logger, Tracker):
                tables: dict[str, Sequence[list[Any]]] = {"results": rows}
                tables |= {"scores": scores.as_rows(), "costs": costs.as_rows()}
                for name, (titles, *data) in tables.items():
                    logger.log_metrics(
                        {name: Table(columns=titles, data=data, allow_mixed_types=True)}
                    )
                logger.log_metrics({"figure": Image(str(folder / "figure.png"))})
                logger.attempt(lambda run: run.summary.update(said))
                run = (
                    logger.experiment
                )  # the one that all this went to: a connection may have been lost
                if run.offline:
                    command = f"wandb sync {Path(run.dir).parent}"
                    sent = f"to send this report to your W&B account: {command}"
                    say(console, sent)


def _tracking(cell: Cell, overrides: Sequence[str]) -> TrackingConfig:
    """Return the ``tracking`` section of a study, with changes.

    Nothing else of a report can be changed.
    """
    for override in overrides:
        if not override.startswith("tracking."):
            raise ConfigError(
                f"command line: {override}: its runs are what they are; legal: tracking.KEY=VALUE"
            )
    return compose.load(cell.files, [*cell.overrides, *overrides]).tracking
