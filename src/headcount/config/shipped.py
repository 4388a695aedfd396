"""The configs and studies that come with the package, found by name.

They are in the package's folder ``shipped``. In a clone of the repository its entries are links to
the folders at the top; a wheel holds the files themselves.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from headcount.errors import ConfigError, legal_names

SHIPPED = Path(__file__).parents[1] / "shipped"


def find_config(name: str) -> str:
    """Return the path of a config file.

    The current folder comes first, then the package. ``docstrings`` stands for
    ``configs/docstrings.yaml``.

    Args:
        name: as the user wrote it.

    Raises:
        ConfigError: there is none.
    """
    # A folder is no config file, but the error of reading it says so.
    path = search_config(name) or (name if os.path.exists(name) else None)
    if path is not None:
        return path
    configs = SHIPPED / "configs"
    names = sorted(str(path.relative_to(configs).with_suffix("")) for path in _yaml_files(configs))
    raise ConfigError(
        f"{name}: no such file in {Path.cwd()}, and no config of the package; a YAML file, "
        f"key=value, or a name: {legal_names(name, names)}"
    )


def search_config(name: str) -> str | None:
    """Return the path of a config file as ``find_config`` does, or None if there is none."""
    paths = _candidates(name, "configs", ".yaml")
    return next((path for path in paths if os.path.isfile(path)), None)


def find_study(name: Path) -> Path:
    """Return the folder of a study.

    The current folder comes first, then the package. ``head_count`` stands for
    ``experiments/head_count``.

    Args:
        name: as the user wrote it.

    Returns:
        The folder; the name itself if there is none.
    """
    for path in _candidates(str(name), "experiments", ""):
        if os.path.isfile(os.path.join(path, "grid.yaml")):
            return Path(path)
    return name


def is_shipped(study: Path) -> bool:
    """Return whether a study is one of the package's, which are only read."""
    folder = study.resolve()
    is_in_package = folder.is_relative_to((SHIPPED / "experiments").resolve())
    return is_in_package and not folder.is_relative_to(Path.cwd())


def study_names() -> list[str]:
    """Return the names of the studies of the package."""
    return sorted(path.parent.name for path in (SHIPPED / "experiments").glob("*/grid.yaml"))


def _candidates(name: str, folder: str, ending: str) -> Iterator[str]:
    """Yield the paths that a name may stand for, as they are tried."""
    endings = dict.fromkeys(["", ending])
    for place in ("", str(SHIPPED)):
        for below in ("", folder):
            for end in endings:
                yield os.path.join(place, below, f"{name}{end}")


def _yaml_files(folder: Path) -> Iterator[Path]:
    # Path.rglob does not follow links, os.walk starts at one.
    for place, _, files in os.walk(folder):
        yield from (Path(place, file) for file in files if file.endswith(".yaml"))
