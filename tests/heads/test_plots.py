from pathlib import Path

import numpy as np

from headcount.heads.analysis import analyse
from headcount.heads.attention_maps import attention_maps
from headcount.heads.plots import draw_attention, draw_curves, draw_heat_maps, save_plot
from tests.heads.test_analysis import make_evaluator


def test_pictures_show_every_head_and_every_order(small, tmp_path: Path) -> None:
    evaluator = make_evaluator(small, tmp_path)
    analysis = analyse(evaluator)

    heat_maps = draw_heat_maps(analysis)
    shown = [panel.images[0].get_array() for panel in heat_maps.axes if panel.images]
    importances = [result.normalized_importance for result in analysis.heads]
    np.testing.assert_allclose(
        np.concatenate([np.asarray(grid).ravel() for grid in shown[:3]]), importances
    )

    curves = draw_curves(analysis)
    titles = [panel.get_title(loc="left") for panel in curves.axes]
    assert titles == ["all heads", "encoder heads only", "decoder heads only", "cross heads only"]
    labels = [text.get_text() for text in curves.legends[0].get_texts()]
    assert "2 random orders" in labels and "gradient importance" in labels

    maps = attention_maps(evaluator.summarizer.model, evaluator.split.batch([0]))
    attention = draw_attention(maps, analysis.heads)
    panels = [panel.get_title() for panel in attention.axes if panel.get_title()]
    assert len(panels) == len(analysis.heads)

    first = [path.read_bytes() for path in save_plot(heat_maps, tmp_path, "a")]
    second = [path.read_bytes() for path in save_plot(draw_heat_maps(analysis), tmp_path, "b")]
    assert first == second  # the same bytes from the same figures
