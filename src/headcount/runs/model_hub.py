"""Exports on the Hugging Face hub: downloaded once, then used like local ones."""

from pathlib import Path

from headcount.errors import ConfigError
from headcount.runs.folder import EXPORT_FILES, RunFile

TIMEOUT = 30  # seconds, for an answer of the hub


def find_model(name: Path) -> Path:
    """Return the folder of a run or an export, which may be one of the hub.

    Args:
        name: a folder, or the id of an export on the hub, ``OWNER/NAME`` or
            ``OWNER/NAME@REVISION``. A folder comes first, and nothing is an id whose first part is
            a folder: a misspelt run is not looked for on the hub.

    Raises:
        ConfigError: the hub has no such export, or cannot be reached and nothing was downloaded
            before.
    """
    identifier, _, revision = str(name).partition("@")
    parts = Path(identifier).parts
    if name.exists() or len(parts) != 2 or parts[0] in ("/", "..") or Path(parts[0]).exists():
        return name

    # Download the files of an export, and nothing else that may be there.
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
        raise ConfigError(f"{name}: on the hub, but no export; legal: what headcount push made")
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


def path_beside(folder: Path, file: str) -> Path:
    """Return where a command writes a file about a model, if the user does not say.

    It is in the model's folder. For a model of the hub it is the current folder, so that the hub's
    cache holds only what was downloaded.
    """
    return folder / file if hub_name(folder) is None else Path(file)
