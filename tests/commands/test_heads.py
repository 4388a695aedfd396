import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger

from headcount.commands.export import export
from headcount.commands.heads import analyse_heads, compare_heads, sample_rows
from headcount.config.load import load
from headcount.errors import ConfigError
from headcount.heads import analysis as analysis_module
from headcount.runs.wandb_tracking import Tracker
from tests.runs.wandb_records import offline_runs

FEW = [
    "tracking.mode=disabled",
    "heads.documents=5",
    "heads.points=3",
    "heads.random_orders=1",
    "generation.max_tokens=5",
]


@pytest.fixture(autouse=True)
def blank_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw next to nothing, which takes most of the time of a small analysis.

    tests/heads/test_plots.py and test_across.py look at what is drawn.
    """
    names = [
        "draw_heat_maps",
        "draw_curves",
        "draw_attention",
        "draw_profiles",
        "draw_mean_curves",
    ]
    for name in names:
        monkeypatch.setattr(f"headcount.commands.heads.{name}", lambda *_: Figure(figsize=(1, 1)))


def run_config(folder: Path, *changes: str):
    name = "config.yaml" if (folder / "config.yaml").exists() else "config.json"
    return load([str(folder / name)], [*FEW, *changes])


def test_an_analysis_is_written_printed_and_not_repeated(
    finished_run: Path, capsys, monkeypatch
) -> None:
    run = finished_run
    folder, analysis = analyse_heads(run, run_config(run))
    assert folder == run / "heads-1"
    written = {path.name for path in folder.iterdir()}
    tables = {"heads.csv", "curves.csv", "table.md", "table.tex", "findings.md"}
    pictures = {
        f"{name}.{kind}"
        for name in ("heat_maps", "pruning", "attention")
        for kind in ("svg", "pdf", "png")
    }
    assert written >= tables | pictures | {"config.yaml", "measurements.jsonl"}
    printed = capsys.readouterr().out
    assert "heads on 5 validation documents" in printed and "Of all heads," in printed
    assert len(analysis.heads) == 6

    # The same command reads the measurements again; other settings are another analysis.
    def measure(*args: object) -> None:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr("headcount.heads.measure.HeadEvaluator._measure", measure)
        again, same = analyse_heads(run, run_config(run))
    assert again == folder and repr(same) == repr(analysis)
    other, _ = analyse_heads(run, run_config(run, "heads.split=test"))
    assert other == run / "heads-2"


def test_an_interrupted_analysis_resumes_in_its_folder(
    finished_run: Path, capsys, monkeypatch
) -> None:
    run = finished_run

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(analysis_module, "_pruning_curves", stop)
        analyse_heads(run, run_config(run))
    assert not (run / "heads-1" / "findings.md").exists()
    folder, _ = analyse_heads(run, run_config(run))
    assert folder == run / "heads-1" and (folder / "findings.md").exists()
    assert "resumes after" in capsys.readouterr().out


def test_an_export_can_be_analysed(finished_run: Path, tmp_path: Path) -> None:
    run = finished_run
    export(run, tmp_path / "exported")
    folder, analysis = analyse_heads(tmp_path / "exported", run_config(tmp_path / "exported"))
    _, of_run = analyse_heads(run, run_config(run))
    assert folder == tmp_path / "exported" / "heads-1"
    assert analysis.score == of_run.score


def test_another_model_is_rejected(finished_run: Path) -> None:
    run = finished_run
    with pytest.raises(ConfigError, match="model.decoder_layers=2"):
        analyse_heads(run, run_config(run, "model.decoder_layers=2"))


def test_the_sample_is_fixed_and_in_order() -> None:
    assert sample_rows(1000, 20) == sample_rows(1000, 20) == sorted(set(sample_rows(1000, 20)))
    assert sample_rows(4, 20) == [0, 1, 2, 3]
    assert set(sample_rows(1000, 10)) < set(sample_rows(1000, 20))


def test_measurements_state_what_they_depend_on(finished_run: Path) -> None:
    run = finished_run
    folder, _ = analyse_heads(run, run_config(run))
    with (folder / "measurements.jsonl").open() as lines:
        provenance = json.loads(next(lines))["provenance"]
    assert provenance["settings"]["heads.documents"] == 5
    assert provenance["checkpoint"] and provenance["documents"]


def test_several_runs_are_compared(finished_run_of, capsys) -> None:
    runs = [finished_run_of(), finished_run_of("seed=1", name="other")]
    folder = compare_heads({run: run_config(run) for run in runs})
    assert folder == runs[0] / "heads-comparison-1"
    assert "sorted importances" in (folder / "comparison.md").read_text()
    assert "removable share" in (folder / "comparison.csv").read_text()
    assert "2 runs compared" in capsys.readouterr().out
    assert all((run / "heads-1" / "findings.md").exists() for run in runs)


def test_wandb_gets_the_table_and_the_pictures(finished_run: Path, monkeypatch) -> None:
    logged: dict[str, object] = {}

    def log_table(self: WandbLogger, key: str, columns: list[str], data: list[list[str]]) -> None:
        logged[key] = (columns, data)

    def log_image(self: WandbLogger, key: str, images: list[str]) -> None:
        logged[key] = [Path(image).name for image in images]

    monkeypatch.setattr(WandbLogger, "log_table", log_table)
    monkeypatch.setattr(Tracker, "log_image", log_image)
    run = finished_run
    name = "a name of its own"
    folder, _ = analyse_heads(
        run, run_config(run, "tracking.mode=offline", f"tracking.name={name}")
    )
    [tracked] = offline_runs(folder)
    assert tracked.started.display_name == name
    columns, rows = logged.pop("heads")
    assert columns[:3] == ["site", "layer", "head"] and len(rows) == 6
    assert logged == {name: [f"{name}.png"] for name in ("heat_maps", "pruning", "attention")}
