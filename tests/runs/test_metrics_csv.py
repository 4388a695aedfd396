import csv
from pathlib import Path

from headcount.runs.metrics_csv import MetricsFile, cut_metrics


def test_rows_are_there_at_once_and_columns_come_as_they_are_needed(tmp_path: Path) -> None:
    metrics, path = MetricsFile(tmp_path), tmp_path / "metrics.csv"
    metrics.log_metrics({"train/loss": 1.5}, 0)
    assert path.read_text() == "step,train/loss\n0,1.5\n"
    metrics.log_metrics({"best": 2}, 1)
    metrics.save()
    assert path.read_text() == "best,step,train/loss\n,0,1.5\n2,1,\n"


def test_rows_after_a_step_are_dropped_and_logged_again(tmp_path: Path) -> None:
    metrics, path = MetricsFile(tmp_path), tmp_path / "metrics.csv"
    for step in range(12):
        metrics.log_metrics({"train/loss": step / 2}, step)
    whole = path.read_text()
    for torn in (whole, whole.removesuffix("\n"), whole[:-5], whole + "1"):
        path.write_text(torn)
        cut_metrics(tmp_path, 10)
        assert len(list(csv.reader(path.open()))) == 11
        again = MetricsFile(tmp_path)
        for step in (10, 11):
            again.log_metrics({"train/loss": step / 2}, step)
        assert path.read_text() == whole


def test_nothing_was_logged(tmp_path: Path) -> None:
    cut_metrics(tmp_path, 3)
    MetricsFile(tmp_path).save()
    assert not list(tmp_path.iterdir())
