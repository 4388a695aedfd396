"""The command ``report``: the results of a study so far, as tables, a figure, text and a page.

The report itself is in ``headcount.experiments.report``, the page in ``headcount.page``.
"""

from pathlib import Path

from headcount.experiments.report.write import report as write_report
from headcount.page.html import STUDY, write_page
from headcount.page.study import describe_study
from headcount.runs.files import write_atomically
from headcount.terminal import print_line

PAGE = "report.html"


def report(experiment: Path, overrides: list[str], *, smoke: bool = False) -> None:
    """Write the report of a study into its folder, also when only some cells are finished.

    Args:
        experiment: a folder with a grid.yaml.
        overrides: ``tracking.KEY=VALUE`` for the W&B run of the report.
        smoke: report the cells of ``ablate --smoke``.

    Raises:
        ConfigError: the study or an override is not legal, or no cell is finished.
    """
    made, folder = write_report(experiment, overrides, smoke=smoke)
    path = folder / PAGE
    write_atomically(path, write_page(STUDY, describe_study(made, folder)))
    print_line(f"page: {path}, opens in any browser")
