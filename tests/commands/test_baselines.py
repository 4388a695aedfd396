import os
import re
from pathlib import Path

import pytest

from headcount.commands.baselines import baselines
from headcount.config.load import load
from tests.conftest import write_data

CONFIGS = Path(__file__).parent.parent.parent / "configs"
PUBLISHED = {  # F1 x 100 of ROUGE-1, ROUGE-2, ROUGE-L on the test split
    ("dialogsum", "mean"): {
        "lead-1": (22.04, 5.15, 19.02),
        "lead-3": (26.95, 6.71, 20.39),
        "longest-3": (23.31, 6.24, 16.88),
        "oracle-3": (38.68, 14.28, 30.2),
        "human": (53.37, 26.73, 44.99),
    },
    ("dialogsum", "max"): {"lead-3": (32.02, 10.21, 24.87)},
    ("scitldr", "mean"): {"lead-1": (22.45, 5.93, 17.19), "oracle-3": (35.45, 13.77, 26.63)},
    ("scitldr", "max"): {"lead-1": (31.23, 12.32, 24.95)},
}


def printed(message: str) -> dict[str, list[float]]:
    """Return the means of the first table that was printed."""
    rows = re.findall(r"^ (\S+) +" + r" +".join([r"(\d+\.\d\d)"] * 4) + "$", message, re.M)
    return {name: [float(cell) for cell in cells] for name, *cells in rows}


def test_prints_a_table_with_its_signature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", lists=True)
    names = ["lead-1", "random-2", "oracle-1"]
    where = [f"data.path={data}", f"data.cache_dir={tmp_path / 'cache'}", "evaluation.unit=line"]
    baselines(load([], [*where, f"evaluation.baselines=[{','.join(names)}]"]))
    output = capsys.readouterr().out
    assert "test: 12 examples; F1 x 100" in output
    assert output.endswith(
        "\nrouge-score:0.1.2|nrefs:2|references:mean|tokenizer:rouge-score|stemmer:porter|sentences:split-3|bootstrap:1000|seed:0\n"
    )
    rows = printed(output)
    assert list(rows) == [*names, "human"] and all(len(row) == 4 for row in rows.values())
    assert rows["oracle-1"][0] > rows["lead-1"][0]


@pytest.mark.skipif(
    "HEADCOUNT_DATA" not in os.environ, reason="HEADCOUNT_DATA names no folder of data sets"
)
@pytest.mark.parametrize(("name", "rule"), PUBLISHED)
def test_published_figures(
    name: str, rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [
        f"data.path={os.environ['HEADCOUNT_DATA']}/{name}",
        f"data.cache_dir={tmp_path / 'cache'}",
    ]
    baselines(
        load([str(CONFIGS / "data" / f"{name}.yaml")], [*where, f"evaluation.references={rule}"])
    )
    rows = printed(capsys.readouterr().out)
    for baseline, expected in PUBLISHED[name, rule].items():
        assert rows[baseline][:3] == pytest.approx(expected, abs=0.05), baseline
