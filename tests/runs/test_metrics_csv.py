import csv
from pathlib import Path

import pytest

from headcount.runs.metrics_csv import MetricsFile, truncate_metrics


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
        truncate_metrics(tmp_path, 10)
        assert len(list(csv.reader(path.open()))) == 11
        again = MetricsFile(tmp_path)
        for step in (10, 11):
            again.log_metrics({"train/loss": step / 2}, step)
        assert path.read_text() == whole


def test_nothing_was_logged(tmp_path: Path) -> None:
    truncate_metrics(tmp_path, 3)
    MetricsFile(tmp_path).save()
    assert not list(tmp_path.iterdir())


WRITTEN = "best,step,train/loss\n,0,1.5\n2,1,0.5\n,2,0.25\n"
CUT = "best,step,train/loss\n,0,1.5\n2,1,0.5\n"


@pytest.mark.parametrize(
    "edited",
    [
        WRITTEN.replace(",0,", ",0.0,").replace(",1,", ",1.0,").replace(",2,", ",2.0,"),
        WRITTEN.replace(",1,", ",1e0,"),
        "\ufeff" + WRITTEN,
        WRITTEN.replace("\n", "\r\n"),
        WRITTEN.replace(",", ";"),
        WRITTEN.replace(",", "\t"),
        "\ufeff" + WRITTEN.replace(",", ";").replace(".", ",").replace("\n", "\r\n"),
        WRITTEN.replace("\n", "\n\n"),
    ],
)
def test_a_file_that_a_spreadsheet_saved_is_read(edited: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(edited, encoding="utf-8", newline="")
    truncate_metrics(tmp_path, 2)
    assert (tmp_path / "metrics.csv").read_text() == CUT


@pytest.mark.parametrize(
    "edited",
    [
        WRITTEN.replace("step", "stop").encode(),
        WRITTEN.replace(",1,", ",one,").encode(),
        WRITTEN.replace(",1,", ",1.5,").encode(),
        WRITTEN.replace(",1,", ",nan,").encode(),
        WRITTEN.replace(",1,", ",,").encode(),
        WRITTEN.replace("0.5", "0.5,7").encode(),
        WRITTEN.encode() + b'"\n',
        WRITTEN.encode("utf-16"),
        b"\xff\xfe\n",
    ],
)
def test_a_damaged_file_is_put_aside(
    edited: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(edited)
    truncate_metrics(tmp_path, 2)
    assert not path.exists() and (tmp_path / "metrics.csv.damaged").read_bytes() == edited
    output = capsys.readouterr().out
    assert output.startswith(f"{path}: damaged (") and output.count("\n") == 1
    MetricsFile(tmp_path).log_metrics({"train/loss": 0.25}, 2)
    assert path.read_text() == "step,train/loss\n2,0.25\n"
