from pathlib import Path

import pytest
import torch

from headcount.training.attention_plot import Axis, draw_attention, draw_cross_attention


@pytest.mark.parametrize("heads", [1, 3, 8])
def test_a_panel_a_head_shows_its_weights(heads: int, tmp_path: Path) -> None:
    weights = torch.rand(heads, 3, 5).softmax(-1)
    figure = draw_cross_attention(weights, ["$x", "b", "(end)"], ["_", "^", "\\", "$", "d"])
    panels = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("head ")]
    assert len(panels) == heads
    for panel, shown in zip(panels, weights, strict=True):
        assert torch.equal(torch.as_tensor(panel.images[0].get_array()), shown)
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["$x", "b", "(end)"]
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == [
        "_",
        "^",
        "\\",
        "$",
        "d",
    ]
    figure.savefig(tmp_path / "picture.png")  # text is text: no formula is read into "$"


def test_the_title_counts_what_a_head_attends_to() -> None:
    weights = torch.zeros(2, 2, 4)
    weights[0, :, 1] = 1
    weights[1] = 0.25
    titles = [
        axes.get_title(loc="left")
        for axes in draw_cross_attention(weights, ["a", "b"], list("wxyz")).axes
    ]
    assert titles[:2] == [
        "head 1: attends to 1.0 tokens on average",
        "head 2: attends to 4.0 tokens on average",
    ]


@pytest.mark.parametrize(
    ("heads", "targets", "sources"),
    [(1, 1, 1), (16, 1, 1), (16, 20, 40), (4, 60, 500), (16, 64, 500), (16, 500, 500)],
)
def test_names_and_panels_have_room(heads: int, targets: int, sources: int) -> None:
    """From one token to 500, and for 16 heads: no name overlaps the next, panels are not tiny, and
    the picture stays within what a viewer opens."""
    weights = torch.rand(heads, targets, sources).softmax(-1)
    queries = Axis(title="queries", tokens=[f"q{token}" for token in range(targets)])
    keys = Axis(title="keys", tokens=[f"k{token}" for token in range(sources)])
    figure = draw_attention(weights, queries, keys)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert width <= 20 and height <= 70

    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(panels) == heads
    inches = figure.dpi_scale_trans.inverted()
    for panel in (panels[0], panels[-1]):
        box = panel.get_window_extent().transformed(inches)
        assert box.width >= 1.9 and box.height >= 0.3
        columns = len(panel.get_xticks())
        rows = len(panel.get_yticks())
        assert columns == 1 or box.width / columns >= 0.08  # 6 points
        assert rows == 1 or box.height / rows >= 0.08
    is_thinned = "one token in" in figure.get_supxlabel()
    assert is_thinned == (sources > 200)
    names = [label.get_text() for label in panels[-1].get_xticklabels()]
    assert names[0] == "k0" and set(names) <= set(keys.tokens)


def test_panels_share_the_scale_of_the_largest_weight() -> None:
    weights = torch.full((2, 2, 100), 0.01)
    weights[1, 0] = 0
    weights[1, 0, 3] = 1
    figure = draw_cross_attention(weights, ["a", "b"], ["x"] * 100)
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.get_title(loc="left")}
    assert limits == {(0.0, 1.0)}
