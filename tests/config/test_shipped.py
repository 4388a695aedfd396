"""Names of configs. Those of studies are in tests/experiments/test_shipped_studies.py, the wheel is
in tests/test_wheel.py."""

from pathlib import Path

import pytest

from headcount.config.load import load
from headcount.config.shipped import SHIPPED, find_config
from headcount.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]


def test_the_link_leads_to_the_top_of_the_repository() -> None:
    assert (SHIPPED / "configs").resolve() == REPOSITORY / "configs"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docstrings", "configs/docstrings.yaml"),
        ("configs/docstrings.yaml", "configs/docstrings.yaml"),
        ("data/xsum", "configs/data/xsum.yaml"),
        ("model/transformer.yaml", "configs/model/transformer.yaml"),
    ],
)
def test_a_config_by_name(name: str, expected: str) -> None:
    assert Path(find_config(name)).resolve() == REPOSITORY / expected


def test_the_current_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "docstrings").mkdir()  # a folder is no config
    assert find_config("docstrings").startswith(str(SHIPPED))
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "docstrings.yaml").write_text("seed: 3\n")
    assert find_config("docstrings") == "configs/docstrings.yaml"
    assert load(["docstrings"], []).seed == 3
    assert load(["docstrings"], []).run.name == "docstrings"
    (tmp_path / "docstrings.yaml").write_text("seed: 4\n")
    assert load(["docstrings"], []).seed == 4


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match="^docstring: no such file in .*did you mean docstrings"):
        load(["docstring"], [])
    with pytest.raises(ConfigError, match=r"legal: data/arxiv, .*docstrings, .*model/transformer"):
        load(["qqq"], [])
