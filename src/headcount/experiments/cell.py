"""A cell: one training of a study, with its resolved config and the run folder that this config
determines.

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
# Bytes of a cell's folder name. With its suffixes, most file systems allow 255.
MAX_FOLDER_LENGTH = 150


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of a study.

    Attributes:
        name: ``num_heads=4,seed=0``; with an inner axis
            ``num_heads=4,learning_rate=0.001,seed=0``.
        label: the name without seed and inner axis, see ``Grid.label``.
        setting: values of the axes, as the grid gives them.
        axes: every axis of the grid with its value, also where the grid leaves it to the config;
            the overlay is None in a cell without one.
        choice: the inner axis with its value; empty without ``select``.
        seed: of this training.
        is_reference: whether all other settings are compared with this one.
        files: config files, in order.
        overrides: ``key=value`` each, over the files.
        config: the checked config.
        fingerprint: of everything in the config that can change a result. No two cells of a study
            have the same.
        folder: the run folder, whether or not it exists.
    """

    name: str
    label: str
    setting: dict[str, Any]
    axes: dict[str, Any]
    choice: dict[str, Any]
    seed: int
    is_reference: bool
    files: list[str]
    overrides: list[str]
    config: Config
    fingerprint: str
    folder: Path

    @property
    def seed_group(self) -> tuple[str, str]:
        """The setting and the value of the inner axis: the same for cells that differ in the seed
        alone."""
        return self.label, str(self.choice)

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
        not be the one that its folder's fingerprint names.

        Args:
            group: of its W&B run.
        """
        config = as_dict(self.config)
        config["run"]["folder"] = str(self.folder)

        # W&B limits the length of names and tags.
        values = self.axes | self.choice | {"seed": self.seed}
        tags = [f"{key}={value}" for key, value in values.items()]
        config["tracking"] |= {
            "group": shorten(group, MAX_NAME_LENGTH),
            "name": shorten(self.name, MAX_NAME_LENGTH),
            "tags": [shorten(tag, MAX_TAG_LENGTH) for tag in tags],
        }
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_atomically(self.config_file, text)

    def command(self) -> list[str]:
        """Return the command that trains this cell from ``config_file``, or resumes its training.

        With ``-P`` Python imports nothing from the current folder.
        """
        return [sys.executable, "-P", "-m", "headcount", "train", str(self.config_file)]


def shorten(text: str, limit: int) -> str:
    """Return a text within a limit of bytes.

    A longer text is cut, and ends with a digest that distinguishes it from others.
    """
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: limit - 9].decode(errors='ignore')}-{digest}"


def read_keys(file: str) -> dict[str, Any]:
    """Return the keys that a config file sets, dotted, with their values."""
    return compose.flatten(OmegaConf.to_container(compose.read_yaml(file)))


def fingerprint(config: Config) -> str:
    """Return 8 hex digits of what differs from the defaults and can change a result.

    A new key in the schema changes no fingerprint, so that earlier trainings are still found.
    """
    changed = compose.changed(config)
    with_effect = {key: value for key, value in changed.items() if has_effect(key, config)}
    text = json.dumps(with_effect, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
