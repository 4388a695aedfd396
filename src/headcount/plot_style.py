"""The style of pictures for papers, and how they are written: the same bytes each time."""

import os
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

STYLE: Any = {
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a name with two dollar signs is a name
    "svg.hashsalt": "headcount",  # the same ids in each svg
    "pdf.fonttype": 42,  # letters stay letters, which publishers ask for
}
NO_DATE: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


def save_figure(figure: Figure, path: Path, *, dpi: float = 300) -> None:
    """Write a figure completely or not at all, the same bytes each time.

    Args:
        figure: what to write.
        path: its suffix is the format: svg, pdf or png.
        dpi: pixels an inch, of a png.
    """
    kind = path.suffix.removeprefix(".")
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with rc_context(STYLE):
            figure.savefig(scratch, format=kind, dpi=dpi, metadata=NO_DATE[kind])
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
