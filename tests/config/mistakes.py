"""What a mistake in a config has to be answered with."""

from pathlib import Path

import pytest

from headcount.config.load import load
from headcount.errors import ConfigError


def check_mistake(text: str, message: str, file: Path) -> None:
    """Check that a config is rejected in one line, which has a message and names the file."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([str(file)], [])
    assert message in str(caught.value)
    assert file.name in str(caught.value)
    assert "\n" not in str(caught.value)
