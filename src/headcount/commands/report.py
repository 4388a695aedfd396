"""The command ``report``: what a study has found so far, as tables, a figure and text.

The report itself is in ``headcount.experiments.report``.
"""

from pathlib import Path

from headcount.experiments.report.write import report as write_report


def report(experiment: Path, overrides: list[str], *, smoke: bool = False) -> None:
    """Write the report of a study into its folder, also when only some cells are finished.

    Args:
        experiment: a folder with a grid.yaml.
        overrides: ``tracking.KEY=VALUE`` each, for the report's own W&B run.
        smoke: report the cells of ``ablate --smoke``.

    Raises:
        ConfigError: the study or an override is wrong, or no cell is finished.
    """
    write_report(experiment, overrides, smoke=smoke)
