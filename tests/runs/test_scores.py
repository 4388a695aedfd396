import json
from pathlib import Path

import numpy as np
import pytest

from headcount.config.schema import EvaluationConfig
from headcount.errors import ConfigError
from headcount.evaluation.report import Report, report
from headcount.runs.scores import read_results, write_results

IDS = ["a,1", 'b"2', "c\n3"]  # a table has to quote them
REFERENCES = [["one two three"], ["four", "five"], ["six"]]


def write(folder: Path) -> Report:
    """Write what an evaluation leaves.

    One summary is empty, so that some figures are not there.
    """
    evaluation = EvaluationConfig(baselines=["lead-1"])
    texts = ["one two", "", "six six"], [False, False, True], ["one two.", "Four and five", "Six"]
    judged = report(*texts, REFERENCES, evaluation=evaluation, seed=0)
    folder.mkdir()
    write_results(folder, judged, IDS, split="test", seed=3, step=7)
    rows = (
        {"id": i, "summary": text, "references": r}
        for i, text, r in zip(IDS, texts[0], REFERENCES, strict=True)
    )
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return judged


def test_what_is_written_is_read_to_the_last_digit(tmp_path: Path) -> None:
    judged = write(tmp_path / "run")
    scored = read_results(tmp_path / "run")
    assert scored.signature == judged.signature and scored.rows == {"a,1": 0, 'b"2': 1, "c\n3": 2}
    assert (
        np.array_equal(scored.values, judged.systems[0].values, equal_nan=True)
        and np.isnan(scored.values).any()
    )
    assert scored.references == dict(zip(IDS, REFERENCES, strict=True))


def test_scores_are_json_for_any_reader(tmp_path: Path) -> None:
    """NaN is not JSON; a figure that nothing has is null."""
    write(tmp_path / "run")
    text = (tmp_path / "run" / "scores.json").read_text()
    assert "NaN" not in text and json.loads(text)["systems"]["human"]["cut"] is None


@pytest.mark.parametrize("name", ["scores.json", "per_example_metrics.csv", "predictions.jsonl"])
@pytest.mark.parametrize("damage", [None, b"", b"\xff\xfe", b"{", b"id,words\na,few\n"])
def test_missing_or_damaged_files_are_said_in_one_line(
    name: str, damage: bytes | None, tmp_path: Path
) -> None:
    write(tmp_path / "run")
    if damage is None:
        (tmp_path / "run" / name).unlink()
    else:
        (tmp_path / "run" / name).write_bytes(damage)
    with pytest.raises(ConfigError, match=r"^[^\n]*run(/\S+)?: (no \S+ in it|damaged)[^\n]*$"):
        read_results(tmp_path / "run")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scores.json in it"):
        read_results(tmp_path / "none")
