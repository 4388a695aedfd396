"""Errors that are shown in one line instead of a traceback."""

import difflib
from collections.abc import Sequence

MAX_MESSAGE_LENGTH = 2000  # characters


class UserError(ValueError):
    """A mistake that the user can correct. The command prints one line and exits with 2."""

    def __init__(self, message: str) -> None:
        # Quoted values may hold line breaks or control characters, and may be very long.
        line = " ".join(message.split())
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        super().__init__(
            line if len(line) <= MAX_MESSAGE_LENGTH else f"{line[:MAX_MESSAGE_LENGTH]} ..."
        )


class ConfigError(UserError):
    """A wrong setting, file or argument.

    The message names the key, its value and what would be legal.
    """


class RunError(RuntimeError):
    """A run that failed for a reason outside its config, such as a full disk.

    The command exits with 1.
    """


def legal_names(name: str, names: Sequence[str]) -> str:
    """Return the end of an error message on an unknown name.

    The most similar legal name, or all of them.
    """
    similar = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {similar[0]}?" if similar else f"legal: {', '.join(names)}"


def first_line(error: object) -> str:
    """Return the first line of an error's message; the type of an error that has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
