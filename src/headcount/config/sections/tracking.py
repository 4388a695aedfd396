"""The section ``tracking`` of a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headcount.config.section import Section, key
from headcount.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Section):
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = key(
        "auto", "auto: online if a key is configured"
    )
    project: str = key("headcount", "W&B project")
    entity: str | None = key(None, "W&B user or team")
    group: str | None = key(None, "W&B group")
    name: str | None = key(None, "name of the W&B run; null: that of the run folder")
    tags: list[str] = key([], "tags of the W&B run")
    artifacts: Literal["none", "best"] = key(
        "none", "best: log the best checkpoint as a W&B artifact at the end of the training"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # W&B rejects these when the run starts, long after the data has been prepared.
        for name in ("project", "entity"):
            value = getattr(self, name)
            if value is not None and (set(value) & set("/\\#?%:") or len(value) > 128):
                raise ConfigError(
                    f"tracking.{name}={value} is not a name to W&B; legal: up to 128 characters, "
                    "none of / \\ # ? % :"
                )
        for tag in self.tags:
            if len(tag) > 64:
                raise ConfigError(f"tracking.tags={tag} is too long; legal: up to 64 characters")
