from pathlib import Path

import pytest
import torch

from headcount.training.attention_plot import draw_cross_attention


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


def test_the_title_counts_what_a_head_looks_at() -> None:
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
