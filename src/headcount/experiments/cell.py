"""A cell: one training of a study, with its whole config and the run folder that this config
decides.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from headcount.config import load as compose
from headcount.config.load import as_dict
from headcount.config.schema import Config
from headcount.runs.files import write_atomically
from headcount.runs.folder import has_effect

MAX_TAG_LENGTH = 64  # W&B rejects longer ones
MAX_NAME_LENGTH = 128  # of a W&B run or group
MAX_FOLDER_LENGTH = (
    150  # bytes of a cell's folder name; 255 with its suffixes is the limit of most file systems
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of a study.

    Attributes:
        name: ``num_heads=4,seed=0``; with an inner axis
            ``num_heads=4,learning_rate=0.001,seed=0``.
        label: the same without seed and inner axis, as ``Grid.label`` has it.
        setting: its axes as the grid gives them.
        axes: every axis of the grid with its value here, also where the grid leaves it to the
            config.
        choice: the inner axis with its value here; empty without ``select``.
        seed: of this training.
        is_baseline: whether all others are compared with this setting.
        files: config files, in order.
        overrides: ``key=value`` each, over the files.
        config: the checked config.
        fingerprint: of all in the config that can change a result; no two cells of a study have
            the same.
        folder: the run folder, whether or not it is there.
    """

    name: str
    label: str
    setting: dict[str, Any]
    axes: dict[str, Any]
    choice: dict[str, Any]
    seed: int
    is_baseline: bool
    files: list[str]
    overrides: list[str]
    config: Config
    fingerprint: str
    folder: Path

    @property
    def log(self) -> Path:
        """What the training printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def config_file(self) -> Path:
        """The resolved config that the training is started from."""
        return self.folder.with_name(f"{self.folder.name}.yaml")

    def write_config(self, group: str) -> None:
        """Write the resolved config of the training, as it was when the study was launched.

        The files of the study may be edited while it runs. A training that read them again would
        be another one than the fingerprint in its folder's name says.

        Args:
            group: what its W&B run belongs to.
        """
        tags = [
            f"{key}={value}"
            for key, value in (self.axes | self.choice | {"seed": self.seed}).items()
        ]
        plain = as_dict(self.config)
        plain["run"]["folder"] = str(self.folder)
        plain["tracking"] |= {
            "group": shorten(group, MAX_NAME_LENGTH),
            "name": shorten(self.name, MAX_NAME_LENGTH),
            "tags": [shorten(tag, MAX_TAG_LENGTH) for tag in tags],
        }
        write_atomically(
            self.config_file, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        )

    def command(self) -> list[str]:
        """Return the command that trains this cell, or resumes its training, from ``config_file``.

        With ``-P`` Python imports nothing from the current folder.
        """
        return [sys.executable, "-P", "-m", "headcount", "train", str(self.config_file)]


def shorten(text: str, limit: int) -> str:
    """Return a text within a limit of bytes.

    Of a longer one the beginning, and a digest that tells it from others.
    """
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: limit - 9].decode(errors='ignore')}-{digest}"


def read_keys(file: str) -> dict[str, Any]:
    """Return what a config file sets, as dotted names and values."""
    return compose.flatten(OmegaConf.to_container(compose.read_yaml(file)))


def fingerprint(config: Config) -> str:
    """Return 8 hex digits of what differs from the defaults and can change a result.

    A key that is new in the schema changes no fingerprint, so that what was trained before it is
    still found.
    """
    differs = {
        key: value for key, value in compose.changed(config).items() if has_effect(key, config)
    }
    return hashlib.sha256(json.dumps(differs, sort_keys=True).encode()).hexdigest()[:8]
