"""Data sets of the Hugging Face hub."""

import difflib
import re
from pathlib import Path
from typing import Any

from headcount.config.paths import user_path
from headcount.config.sections.data import DataConfig
from headcount.data.files import has_known_suffix
from headcount.errors import ConfigError

HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")
TIMEOUT = 5  # seconds, for the first question to the hub

# How the names of files end that are no data to us. They are no ids of the hub, either.
OTHER_SUFFIXES = (".txt", ".zip", ".gz", ".zst", ".bz2", ".xz", ".xlsx", ".pkl", ".feather")


def load_from_hub(config: DataConfig, split: str) -> tuple[Any, list[str]]:
    """Load a split from the hub, or what was downloaded of it before.

    Returns:
        The data set of ``datasets``, and what its content is known by: its fingerprint, or for a
        stream the commit.

    Raises:
        ConfigError: the data set does not exist, or cannot be reached.
    """
    _check_hub_id(config)
    commit, problem = _ask_for_commit(config)

    import datasets

    datasets.disable_progress_bars()
    cache_dir = str(user_path("data.cache_dir", config.cache_dir) / "datasets")
    try:
        hub = datasets.load_dataset(
            config.path,
            config.name,
            revision=config.revision,
            split=split,
            cache_dir=cache_dir,
            streaming=config.streaming,
        )
        if config.streaming:
            return hub, _key_of_stream(config, split, commit, problem)
        return hub, [hub._fingerprint]
    except Exception as error:  # DatasetsError, those of pyarrow, of fsspec, of the network
        # Often only the cause has the reason.
        reason = _describe(error.__cause__ or error)
        if problem and isinstance(error, ConnectionError):
            raise ConfigError(
                f"data.path={config.path}: {_no_such_file(config)}; the hub cannot be reached "
                f"({problem}), and nothing was downloaded from it before"
            ) from None
        hint = ""
        if "scripts are no longer supported" in reason:
            hint = "; try data.revision=refs/convert/parquet"
        raise ConfigError(
            f"data.path={config.path}: cannot read {split}: {reason}{hint}"
        ) from None


def _key_of_stream(config: DataConfig, split: str, commit: str | None, problem: str) -> list[str]:
    """Return what the content of a streamed split is known by: it is never read as a whole."""
    if commit is None:
        raise ConfigError(f"data.streaming=True needs the hub: {problem}")
    return [config.path, config.name or "", split, commit]


def _check_hub_id(config: DataConfig) -> None:
    """Reject a path that names no file, no folder, and cannot be an id of the hub."""
    path = user_path("data.path", config.path)
    if path.is_symlink():
        raise ConfigError(f"data.path={config.path}: the link leads to nothing")
    is_file_name = has_known_suffix(path) or config.path.endswith(OTHER_SUFFIXES)
    if is_file_name or not HUB_ID.fullmatch(config.path):
        raise ConfigError(
            f"data.path={config.path}: {_no_such_file(config)}; legal: docstrings, one of those, "
            "a hub id"
        )


def _no_such_file(config: DataConfig) -> str:
    """Return that a path does not exist, with the most similar one beside it."""
    path = Path(config.path).expanduser()
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        names = []
    similar = difflib.get_close_matches(path.name, names, n=1)
    suggestion = f", did you mean {path.with_name(similar[0])}?" if similar else ""
    return f"no such file or folder{suggestion}"


def _ask_for_commit(config: DataConfig) -> tuple[str | None, str]:
    """Return the commit of a data set, or None and why the hub did not answer.

    This is one question with a short timeout. If it gets no answer, ``datasets`` is switched to
    its offline mode, where it takes what was downloaded before. Without that it would try again
    and again, for half a minute.

    Raises:
        ConfigError: the hub does not have the data set.
    """
    import datasets
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    if huggingface_hub.constants.is_offline_mode() or datasets.config.HF_HUB_OFFLINE:
        return None, "HF_HUB_OFFLINE is set"
    try:
        return find_commit(config), ""
    except HfHubHTTPError as error:
        response = getattr(error, "response", None)
        if response is None or response.status_code < 500:
            raise ConfigError(
                f"data.path={config.path}: {_no_such_file(config)}; the hub: {_describe(error)}"
            ) from None
        problem = _describe(error)
    except Exception as error:  # OSError, those of requests or httpx; the cache may still do
        problem = _describe(error)

    # From here on without the hub.
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    datasets.config.HF_HUB_OFFLINE = True
    return None, problem


def find_commit(config: DataConfig) -> str:
    """Ask the hub for the commit of a data set at the configured revision."""
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(config.path, revision=config.revision, timeout=TIMEOUT)
    return str(info.sha)


def _describe(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
