"""What every section of a config is made of: keys, and the checks of each key alone.

A section is a dataclass, each key a field that ``key`` declares with default, range and meaning.
Nothing in the sections imports torch, so that a mistake is reported at once.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any

from headcount.errors import ConfigError


def key(
    default: Any,
    meaning: str,
    *,
    at_least: float | None = None,
    below: float | None = None,
    legal: str | None = None,
) -> Any:
    """Declare a key.

    Args:
        default: its default; ``${section.name}`` is the value of another key.
        meaning: as ``config --schema`` prints it.
        at_least: the lowest legal number.
        below: the number that a legal one is below.
        legal: what an error calls legal where a text is empty; None: in general terms.
    """
    metadata = {"meaning": meaning, "at_least": at_least, "below": below, "legal": legal}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of all sections.

    It checks that numbers are in their range and that no text is empty. Checks that concern
    several keys are in the ``__post_init__`` of their section.
    """

    def __post_init__(self) -> None:
        section = self.name_in_errors()
        for declared in fields(self):
            name = f"{section}.{declared.name}" if section else declared.name
            value = getattr(self, declared.name)
            _check_text(name, value, declared)
            if isinstance(value, int | float):
                _check_range(name, value, declared)

    @classmethod
    def name_in_errors(cls) -> str:
        """Return what errors call the section: ``ModelConfig`` is ``model``, and what ``Config``
        declares itself is in no section."""
        return cls.__name__.removesuffix("Config").lower()


def _check_text(name: str, value: Any, declared: Field[Any]) -> None:
    """Check that a text, or each text of a list, is not empty."""
    texts = value if isinstance(value, list) else [value]
    if not any(isinstance(text, str) and not text.strip() for text in texts):
        return

    legal = declared.metadata.get("legal")
    if legal is None:
        legal = "null, or a text" if declared.default is None else "a text that is not empty"
    raise ConfigError(f"{name}={value} is empty; legal: {legal}")


def _check_range(name: str, value: float, declared: Field[Any]) -> None:
    """Check that a number is in the range of its key, which is finite."""
    at_least = declared.metadata.get("at_least")
    below = declared.metadata.get("below")
    upper = math.inf if below is None else below
    is_high_enough = at_least is None or value >= at_least
    if is_high_enough and value < upper:  # false for NaN
        return

    legal = f"at least {at_least}" + (f" and below {upper}" if upper < math.inf else "")
    raise ConfigError(f"{name}={value} is out of range: {legal}")


def legal_divisors(number: int) -> str:
    """Return the divisors of a number as an error lists them.

    They end at 1024, which is more than the heads of any layer.
    """
    divisors = [n for n in range(1, min(number, 1024) + 1) if number % n == 0]
    return ", ".join(map(str, divisors))
