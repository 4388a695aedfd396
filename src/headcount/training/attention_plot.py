"""A picture of where each head looks in the document while it writes a summary."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor


def draw_cross_attention(
    weights_HTS: Tensor, written: Sequence[str], document: Sequence[str]
) -> Figure:
    """Draw the cross-attention of one layer, a panel a head.

    Args:
        weights_HTS: where each head looks in the document for each token that is written.
        written: the T tokens of the summary.
        document: the S tokens of the document.

    Returns:
        The figure, to be saved or logged.
    """
    heads, targets, sources = weights_HTS.shape
    columns = 1 if sources > 2 * targets else 2
    layout = -(-heads // columns)
    size = 2 + columns * sources * 0.16, 1 + layout * (targets * 0.16 + 0.4)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(layout, columns, sharex=True, sharey=True, squeeze=False)
    for head, panel in enumerate(panels.flat):
        if head >= heads:
            panel.set_axis_off()
            continue
        weights_TS = weights_HTS[head].float().cpu()
        image = panel.imshow(
            weights_TS, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        entropy = torch.special.entr(weights_TS).sum(-1).mean().exp()
        panel.set_title(
            f"head {head + 1}: looks at {entropy:.1f} tokens on average", fontsize=8, loc="left"
        )
        panel.set_xticks(range(sources), document, rotation=90, fontsize=6, parse_math=False)
        panel.set_yticks(range(targets), written, fontsize=6, parse_math=False)
        panel.tick_params(labelbottom=head + columns >= heads)  # where no panel is below
    figure.supxlabel("document", fontsize=8)
    figure.supylabel("summary", fontsize=8)
    figure.colorbar(image, ax=panels, label="attention weight", shrink=0.6)
    return figure
