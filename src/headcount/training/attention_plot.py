"""Pictures of attention: a panel for each head of a block, tokens at both axes.

They stay readable from one token to many hundreds: panels have a smallest and a largest size, and
where not all tokens fit, every second, third or n-th is named.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

INCHES_PER_TOKEN = 0.16
INCHES_PER_NAME = 0.11  # the closest that names of tokens may be
MIN_PANEL = 2.7, 0.5  # inches, width and height; the title needs the width
MAX_PANEL = 14.0, 5.0
TITLE_INCHES = 0.35
MAX_WIDTH = 17.0  # inches of all panels side by side
MAX_HEIGHT = 44.0  # inches of all panels, one above the other
MAX_COLORBAR = 4.0  # inches


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What an axis of a picture of attention shows.

    Attributes:
        title: of the axis.
        tokens: the names of the tokens.
    """

    title: str
    tokens: Sequence[str]


def draw_cross_attention(
    weights_HTS: Tensor, written: Sequence[str], document: Sequence[str]
) -> Figure:
    """Draw the cross-attention of one layer; see ``draw_attention``.

    Args:
        weights_HTS: attention of each head to the document for each token that is written.
        written: the T tokens of the summary.
        document: the S tokens of the document.
    """
    queries = Axis(title="summary", tokens=written)
    return draw_attention(weights_HTS, queries, Axis(title="document", tokens=document))


def draw_attention(weights_HTS: Tensor, queries: Axis, keys: Axis) -> Figure:
    """Draw the attention weights of one block, one panel per head.

    All panels share the color scale, whose end is the largest weight.

    Args:
        weights_HTS: of the block, each row sums to one.
        queries: the T tokens that attend.
        keys: the S tokens that are attended to.

    Returns:
        The figure, to be saved or logged.
    """
    # A panel grows with its tokens, within limits.
    heads, targets, sources = weights_HTS.shape
    width = _between(MIN_PANEL[0], sources * INCHES_PER_TOKEN, MAX_PANEL[0])
    columns = max(1, min(int(MAX_WIDTH / width), math.isqrt(heads - 1) + 1))
    rows = -(-heads // columns)
    highest = min(MAX_PANEL[1], MAX_HEIGHT / rows)
    height = _between(MIN_PANEL[1], targets * INCHES_PER_TOKEN, highest)

    size = 2 + columns * width, 1 + rows * (height + TITLE_INCHES)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)

    weights_HTS = weights_HTS.float().cpu()
    largest = float(weights_HTS.max())
    labelled_keys = _labelled_tokens(sources, width)
    labelled_queries = _labelled_tokens(targets, height)
    for head, panel in enumerate(panels.flat):
        if head >= heads:
            panel.set_axis_off()
            continue

        weights_TS = weights_HTS[head]
        image = panel.imshow(
            weights_TS, cmap="Blues", vmin=0, vmax=largest, aspect="auto", interpolation="nearest"
        )
        # exp(entropy) is the number of tokens that equal attention would be given to.
        attended = torch.special.entr(weights_TS).sum(-1).mean().exp()
        panel.set_title(
            f"head {head + 1}: attends to {attended:.1f} tokens on average", fontsize=8, loc="left"
        )

        # Names of tokens; those of the keys stand below the lowest panel of a column.
        names = [keys.tokens[token] for token in labelled_keys]
        panel.set_xticks(labelled_keys, names, rotation=90, fontsize=6, parse_math=False)
        names = [queries.tokens[token] for token in labelled_queries]
        panel.set_yticks(labelled_queries, names, fontsize=6, parse_math=False)
        has_panel_below = head + columns < heads
        panel.tick_params(labelbottom=not has_panel_below)

    figure.supxlabel(_axis_title(keys.title, labelled_keys), fontsize=8)
    figure.supylabel(_axis_title(queries.title, labelled_queries), fontsize=8)

    shrink = min(1.0, MAX_COLORBAR / size[1])
    colorbar = figure.colorbar(image, ax=panels, shrink=shrink, anchor=(0.0, 1.0), aspect=30)
    colorbar.set_label("attention weight", fontsize=8)
    colorbar.ax.tick_params(labelsize=6)
    return figure


def _between(low: float, value: float, high: float) -> float:
    return max(low, min(value, high))


def _labelled_tokens(tokens: int, inches: float) -> range:
    """Return which tokens have a label where an axis has this length."""
    step = max(1, math.ceil(tokens * INCHES_PER_NAME / inches))
    return range(0, tokens, step)


def _axis_title(title: str, named: range) -> str:
    return title if named.step == 1 else f"{title} (one token in {named.step} is named)"
