import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.errors import ConfigError
from headcount.evaluation.report import ScoreReport, report
from headcount.runs.scores import read_results, write_results

IDS = ["a,1", 'b"2', "c\n3"]  # a table has to quote them
REFERENCES = [["one two three"], ["four", "five"], ["six"]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScoreReport]:
    """What an evaluation leaves, and its report.

    One summary is empty, so that some figures are not there.
    """
    folder = tmp_path_factory.mktemp("written") / "run"
    evaluation = EvaluationConfig(baselines=["lead-1"])
    texts = ["one two", "", "six six"], [False, False, True], ["one two.", "Four and five", "Six"]
    judged = report(*texts, REFERENCES, evaluation=evaluation)
    folder.mkdir()
    write_results(folder, judged, IDS, split="test", seed=3, step=7)
    rows = (
        {"id": i, "summary": text, "references": r}
        for i, text, r in zip(IDS, texts[0], REFERENCES, strict=True)
    )
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder, judged


@pytest.fixture
def run(written: tuple[Path, ScoreReport], tmp_path: Path) -> Path:
    """Return a copy, which a test may damage."""
    return Path(shutil.copytree(written[0], tmp_path / "run"))


def test_what_is_written_is_read_to_the_last_digit(written: tuple[Path, ScoreReport]) -> None:
    folder, judged = written
    scored = read_results(folder)
    assert scored.signature == judged.signature and scored.rows == {"a,1": 0, 'b"2': 1, "c\n3": 2}
    assert (
        np.array_equal(scored.values, judged.systems[0].values, equal_nan=True)
        and np.isnan(scored.values).any()
    )
    assert scored.references == dict(zip(IDS, REFERENCES, strict=True))


def test_scores_are_json_for_any_reader(run: Path) -> None:
    """NaN is not JSON; a figure that nothing has is null."""
    text = (run / "scores.json").read_text()
    assert "NaN" not in text and json.loads(text)["systems"]["human"]["cut"] is None


@pytest.mark.parametrize("name", ["scores.json", "per_example_metrics.csv", "predictions.jsonl"])
@pytest.mark.parametrize("damage", [None, b"", b"\xff\xfe", b"{", b"id,words\na,few\n"])
def test_missing_or_damaged_files_are_said_in_one_line(
    name: str, damage: bytes | None, run: Path
) -> None:
    if damage is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(damage)
    with pytest.raises(ConfigError, match=r"^[^\n]*run(/\S+)?: (no \S+ in it|damaged)[^\n]*$"):
        read_results(run)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scores.json in it"):
        read_results(tmp_path / "none")


@pytest.mark.parametrize("signature", [None, 1, ["rouge"]])
def test_a_signature_that_is_no_text_is_damage(signature: object, run: Path) -> None:
    path = run / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"signature": signature}))
    with pytest.raises(ConfigError, match=r"run/scores.json: damaged \(TypeError: signature="):
        read_results(run)
