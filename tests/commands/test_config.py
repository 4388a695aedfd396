import pytest

from headcount.commands.config import config
from headcount.config.load import load
from headcount.errors import ConfigError


def test_the_resolved_config_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    config(["model.num_heads=8", "seed=5"])
    printed = capsys.readouterr().out
    assert "seed: 5\n" in printed and "  encoder_heads: 8\n" in printed
    with open("again.yaml", "w") as file:
        file.write(printed)
    assert load(["again.yaml"], []).model == load([], ["model.num_heads=8"]).model


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    config([], schema=True)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("model.num_heads ") for line in lines) and len(lines) > 50


def test_nothing_to_print() -> None:
    with pytest.raises(ConfigError, match="^config: no files; legal: CONFIG"):
        config([])
