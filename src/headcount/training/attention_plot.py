"""The plot of the cross-attention of each head while a summary is generated."""

import math
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor


def draw_cross_attention(
    weights_HTS: Tensor, written: Sequence[str], document: Sequence[str]
) -> Figure:
    """Draw the cross-attention of one layer, a panel for each head.

    Args:
        weights_HTS: attention of each summary token to each document token.
        written: the T tokens of the summary.
        document: the S tokens of the document.
    """
    heads, targets, sources = weights_HTS.shape

    # Wide panels are stacked; others are drawn two in a row.
    columns = 1 if sources > 2 * targets else 2
    rows = math.ceil(heads / columns)
    width = 2 + columns * sources * 0.16
    height = 1 + rows * (targets * 0.16 + 0.4)
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)

    for head, panel in enumerate(panels.flat):
        if head >= heads:
            panel.set_axis_off()
            continue

        weights_TS = weights_HTS[head].float().cpu()
        image = panel.imshow(
            weights_TS, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        # exp(entropy) is the number of tokens that equal attention would be given to.
        attended = torch.special.entr(weights_TS).sum(-1).mean().exp()
        panel.set_title(
            f"head {head + 1}: attends to {attended:.1f} tokens on average", fontsize=8, loc="left"
        )
        panel.set_xticks(range(sources), document, rotation=90, fontsize=6, parse_math=False)
        panel.set_yticks(range(targets), written, fontsize=6, parse_math=False)
        has_panel_below = head + columns < heads
        panel.tick_params(labelbottom=not has_panel_below)

    figure.supxlabel("document", fontsize=8)
    figure.supylabel("summary", fontsize=8)
    figure.colorbar(image, ax=panels, label="attention weight", shrink=0.6)
    return figure
