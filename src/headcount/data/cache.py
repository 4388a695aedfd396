"""The cache of prepared data: an entry is there whole, or it is not there."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from headcount.config import ConfigError


def cached(cache_dir: str, kind: str, key: Any, build: Callable[[Path], None]) -> Path:
    """Return a cached folder; build it first where it is not there.

    It is built beside its place and moved there at the end, so that what a killed process leaves is never taken for
    an entry. Of several processes one builds, the others wait.

    Args:
        cache_dir: the ``data.cache_dir`` of a config.
        kind: what is cached, the first word of the folder's name.
        key: everything that the content depends on, as JSON would have it.
        build: fills an empty folder.

    Raises:
        ConfigError: the cache cannot be written.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(cache_dir).expanduser() / f"{kind}-{digest}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                partial = folder.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                build(partial)
                os.replace(partial, folder)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"data.cache_dir={cache_dir}: cannot write {folder.name}: {reason}") from None
    return folder
