"""A plot of how long documents and summaries are."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from headcount.data.batches import EncodedPairs

SHOWN_PERCENTILE = 99.5  # longer texts lie beyond the end of the axis


def draw_lengths(splits: dict[str, EncodedPairs], path: Path) -> None:
    """Draw histograms of the tokens of documents and summaries, with the limits that cut them.

    Args:
        splits: by role; each is a line.
        path: the picture to write.
    """
    layout = next(iter(splits.values())).layout
    documents = {role: split.documents.lengths + 1 for role, split in splits.items()}
    summaries = {role: split.summaries.lengths + 2 for role, split in splits.items()}

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, documents, "documents", layout.max_document_tokens, "max_document_tokens")
    _draw(right, summaries, "summaries", layout.max_summary_tokens, "max_summary_tokens")
    figure.savefig(path, dpi=120)


def _draw(
    axes: Axes, lengths: Mapping[str, NDArray[np.integer]], side: str, limit: int, name: str
) -> None:
    ends = [int(np.percentile(of_split, SHOWN_PERCENTILE)) for of_split in lengths.values()]
    end = max(limit, *ends)
    for role, of_split in lengths.items():
        axes.hist(
            of_split, bins=50, range=(0, end * 1.05), density=True, histtype="step", label=role
        )
    axes.axvline(limit, color="black", linestyle=":", label=name)
    axes.set(xlabel=f"tokens of {side}", yticks=[])
    axes.legend(framealpha=1, edgecolor="none")
