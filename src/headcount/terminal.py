"""Output to the terminal. Every text is made printable, whatever it contains and whatever encoding
the terminal has."""

import sys
from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from headcount.escape import printable


class SafeConsole(Console):
    """A console of Rich that prints control characters as escapes."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of what is printed, their texts made printable."""
        for segment in super().render(renderable, options):
            # Segments of Rich's own control codes move the cursor of a progress bar.
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def make_console(
    file: IO[str] | None = None, *, stderr: bool = False, width: int | None = None
) -> SafeConsole:
    """Return a console that takes texts literally, without markup.

    Args:
        file: where to print; None: standard output.
        stderr: print to standard error.
        width: in columns; None: that of the terminal.
    """
    return SafeConsole(
        file=file, stderr=stderr, width=width, markup=False, highlight=False, emoji=False
    )


def print_on(console: Console, text: str, style: str = "") -> None:
    """Print a text on a console, without breaking long lines."""
    console.print(
        printable(text), style=style, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def print_line(text: str, *, file: IO[str] | None = None, end: str = "\n") -> None:
    """Print a text without breaking long lines, and flush it."""
    print(printable(text), file=file or sys.stdout, end=end, flush=True)


def escape_unencodable() -> None:
    """Let standard output and error escape characters that their encoding lacks.

    With ``PYTHONIOENCODING=ascii``, or a locale without UTF-8, an accent would end a run.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
