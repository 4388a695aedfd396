import json
from pathlib import Path

import pytest
from pytorch_lightning.loggers import WandbLogger

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.report import write as module
from headcount.experiments.report.write import report
from tests.experiments.studies import HEADS, write_study

STUDY = Path("experiments/heads")
WRITTEN = [
    "environment.json",
    "figure.pdf",
    "figure.png",
    "figure.svg",
    "results.csv",
    "table.md",
    "table.tex",
]


SMALL = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8]").replace("[0, 1, 2]", "[0, 1]")


def score(cell: Cell) -> float:
    return 25 - 3 * (cell.axes["model.num_heads"] == 1)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name in WRITTEN}


def test_a_report_is_the_same_bytes_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half-finished.

    One cell failed, one was begun, one never; what is missing stands in the table.
    """
    missing = ["num_heads=16,seed=0", "num_heads=16,seed=1", "num_heads=1,seed=2"]
    grid = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8, 16]")
    cells = write_study(STUDY, score, grid=grid, keep=lambda cell: cell.name not in missing)
    [sixteen, begun, other] = [
        next(cell for cell in cells if cell.name == name) for name in missing
    ]
    sixteen.folder.with_name(f"{sixteen.folder.name}.failed").write_text("1\n")
    begun.folder.mkdir()
    report(STUDY)
    first, output = written(STUDY), capsys.readouterr().out
    assert sorted(first) == WRITTEN and sorted(path.name for path in STUDY.iterdir()) == [
        *WRITTEN[:4],
        "grid.yaml",
        *WRITTEN[4:],
    ]
    assert b"<dc:date>" not in first["figure.svg"] and b"CreationDate" not in first["figure.pdf"]
    table = first["table.md"].decode()
    for text in (
        "6 of 9 trainings",
        f"{sixteen.name}: FAILED, see {sixteen.log}",
        f"{begun.name}: started, not finished",
    ):
        assert text in table and text in output
    assert (
        "| 16<br>seed 2 |" in table
        and "- 16 heads (1 of 3 seeds, one seed: about other documents only): " in table
    )
    assert (
        "- 1 head (2 of 3 seeds, from two seeds): -" in table
        and "<br>† from two seeds |" in table
        and "| lead-1 | 18.46<br>" in table
        and f"{other.name}: not started" in table
    )
    assert not list(Path("runs").rglob("wandb"))
    assert "Environment of 6 trainings: processor A CPU" in table
    assert json.loads(first["environment.json"])["trainings"] == 6
    assert b"detectable" not in first["table.tex"] and "Smallest detectable" in table
    report(STUDY)
    assert written(STUDY) == first


def test_nothing_finished_leaves_the_outcome_alone(tmp_path: Path) -> None:
    write_study(STUDY, score, grid=SMALL, keep=lambda cell: False)
    (STUDY / "table.md").write_text("committed")
    with pytest.raises(ConfigError, match="no training of 4 is finished"):
        report(STUDY)
    assert sorted(path.name for path in STUDY.iterdir()) == ["grid.yaml", "table.md"]
    assert (STUDY / "table.md").read_text() == "committed"


def test_only_its_tracking_can_be_changed(tmp_path: Path) -> None:
    write_study(STUDY, score, grid=SMALL)
    with pytest.raises(ConfigError, match="command line: seed=1: .*; legal: tracking.KEY=VALUE"):
        report(STUDY, ["seed=1"])
    with pytest.raises(ConfigError, match="tracking.mod=offline: unknown key; did you mean mode"):
        report(STUDY, ["tracking.mod=offline"])


def test_a_report_is_a_wandb_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(STUDY, score, grid=SMALL)
    seen = {}
    finalize = WandbLogger.finalize

    def look(self: WandbLogger, status: str) -> None:
        run = self.experiment
        seen.update(
            {"job_type": run.job_type, "group": run.group, "name": run.name, **dict(run.summary)}
        )
        finalize(self, status)

    monkeypatch.setattr(WandbLogger, "finalize", look)
    monkeypatch.setattr(
        module, "save_figure", lambda figure, path: figure.savefig(path, dpi=20)
    )  # quicker
    report(STUDY, ["tracking.mode=offline"])
    assert (seen["job_type"], seen["group"], seen["name"]) == ("report", "heads", "report")
    assert (
        seen["results"]["nrows"] == 4
        and seen["scores"]["nrows"] == 2 + 4
        and seen["costs"]["nrows"] == 2
    )
    assert seen["figure"]["format"] == "png"
    assert seen["findings"][0] == "0 of 1 setting compared differ significantly from 8 heads."
    output = capsys.readouterr().out
    [waiting] = Path("runs/heads/wandb").glob("offline-run-*")
    assert f"wandb sync {waiting.resolve()}" in output


def test_names_of_a_study_are_text_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A results file may come from somebody else.

    Its names are no LaTeX, HTML, mathematics or escapes.
    """
    hostile = "=\\input{x}<script>alert(1)</script>$\\frac{1}{2}$\x1b[2J"
    monkeypatch.setattr("tests.experiments.studies.BASELINES", {"lead-1": 10.0, hostile: 30.0})
    write_study(STUDY, score, grid=SMALL)
    report(STUDY)
    files = {
        name: content.decode()
        for name, content in written(STUDY).items()
        if name.startswith(("table", "res"))
    }
    assert all("\x1b" not in text for text in [*files.values(), capsys.readouterr().out])
    assert "<script>" not in files["table.md"] and "&lt;script&gt;" in files["table.md"]
    assert (
        "\\input" not in files["table.tex"] and r"\textbackslash{}input\{x\}" in files["table.tex"]
    )
    assert (
        "$\\frac" not in files["table.md"].replace("\\$", "")
        and "$\\frac" not in files["table.tex"]
    )
