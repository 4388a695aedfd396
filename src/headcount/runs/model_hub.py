"""Exports on the Hugging Face hub, which are downloaded once and then used like local ones."""

from pathlib import Path

from headcount.errors import ConfigError
from headcount.runs.folder import EXPORT_FILES, RunFile

TIMEOUT = 30  # seconds to wait for an answer of the hub


def find_model(name: Path) -> Path:
    """Return the folder of a run or an export; an export on the hub is downloaded.

    Args:
        name: a folder, or the id of an export on the hub, ``OWNER/NAME`` or
            ``OWNER/NAME@REVISION``. An existing folder is preferred. If ``OWNER`` is a folder, the
            name is not an id: a misspelt ``runs/NAME`` must not be requested from the hub.

    Raises:
        ConfigError: the hub has no such export, or cannot be reached and the export was not
            downloaded before.
    """
    identifier, _, revision = str(name).partition("@")
    parts = Path(identifier).parts
    if name.exists() or len(parts) != 2 or parts[0] in ("/", "..") or Path(parts[0]).exists():
        return name

    # Download the files of an export, and no others that the repository may have.
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            identifier,
            revision=revision or None,
            allow_patterns=list(EXPORT_FILES),
            etag_timeout=TIMEOUT,
            max_workers=1,  # one of several that fails closes the connections of the others
        )
    except Exception as error:  # the hub's library and its HTTP client each raise their own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"{name}: no such folder; the hub: {reason}") from None
    if not (Path(folder) / RunFile.WEIGHTS).is_file():
        raise ConfigError(
            f"{name}: on the hub, but not an export; legal: a model uploaded by headcount push"
        )
    return Path(folder)


def hub_name(folder: Path) -> str | None:
    """Return the name, without its owner, of a model that ``find_model`` has downloaded.

    The hub's cache names its folders ``models--OWNER--NAME/snapshots/COMMIT``. None for any other
    folder.
    """
    model = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not model.startswith("models--"):
        return None
    return model.split("--", 2)[-1]


def default_output_path(folder: Path, file: str) -> Path:
    """Return the default path of a file that a command writes about a model.

    It is in the model's folder. For a model from the hub it is in the current folder, so that the
    cache of the hub holds only downloaded files.
    """
    return folder / file if hub_name(folder) is None else Path(file)
