"""Paths that a user wrote."""

from pathlib import Path

from headcount.errors import ConfigError


def user_path(name: str, text: str) -> Path:
    """Return a path that a user wrote, with ``~`` expanded.

    Args:
        name: the key, for the message.
        text: the path.

    Raises:
        ConfigError: it cannot be a path, or its home directory is unknown.
    """
    if "\0" in text:
        raise ConfigError(f"{name}={text}: a path without NUL characters is needed")
    try:
        path = Path(text).expanduser()
        path.exists()  # fails for a name that is too long
    except OSError as error:
        raise ConfigError(f"{name}={text}: {error.strerror or error}; legal: a path") from None
    except RuntimeError:
        raise ConfigError(
            f"{name}={text}: the home directory is unknown; legal: a path without ~"
        ) from None
    return path
