"""The section ``run`` of a config."""

from __future__ import annotations

import re
from dataclasses import dataclass

from headcount.config.section import Section, key
from headcount.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """The run folder."""

    directory: str = key("runs", "folder in which run folders are created")
    name: str | None = key(
        None, "run folders are named NAME-1, NAME-2, ...; null: after the config files"
    )
    folder: str | None = key(None, "the run folder itself; null: a new one in run.directory")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ConfigError(
                f"run.name={self.name} is not a folder's name; legal: letters, digits, '_', '-' "
                "and '.'"
            )
