"""A picture of how long documents and summaries are."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from headcount.data.batches import EncodedPairs


def draw_lengths(splits: dict[str, EncodedPairs], path: Path) -> None:
    """Draw the tokens of documents and summaries, a line a split, and the limit that cuts them."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    sides = [
        ("documents", [s.documents.lengths + 1 for s in splits.values()], "max_document_tokens"),
        ("summaries", [s.summaries.lengths + 2 for s in splits.values()], "max_summary_tokens"),
    ]
    for axes, (side, lengths, limit) in zip(figure.subplots(1, 2), sides, strict=True):
        cut = getattr(next(iter(splits.values())).layout, limit)
        end = max(cut, *(int(np.percentile(some, 99.5)) for some in lengths))
        for role, some in zip(splits, lengths, strict=True):
            axes.hist(
                some, bins=50, range=(0, end * 1.05), density=True, histtype="step", label=role
            )
        axes.axvline(cut, color="black", linestyle=":", label=limit)
        axes.set(xlabel=f"tokens of {side}", yticks=[])
        axes.legend(framealpha=1, edgecolor="none")
    figure.savefig(path, dpi=120)
