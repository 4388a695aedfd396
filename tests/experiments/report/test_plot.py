from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Annotation

from headcount.experiments.cell import Cell
from headcount.experiments.grid import load_grid
from headcount.experiments.report.plot import (
    NO_VERDICT_COLOR,
    STYLES,
    WIDTH,
    choose_axis,
    draw_study,
    separate,
)
from headcount.experiments.report.study import read_study
from headcount.experiments.verdicts import COLORS, SYMBOLS
from tests.experiments.studies import HEADS, write_study


def cell(label: str, axes: dict[str, Any], *, is_reference: bool = False) -> Any:
    return SimpleNamespace(label=label, axes=axes, is_reference=is_reference)


def test_a_single_value_has_an_axis_of_powers_of_two() -> None:
    plan = choose_axis(
        [cell(str(heads), {"model.num_heads": heads, "seed": 0}) for heads in (8, 1, 2)]
    )
    assert plan.title == "number of heads" and plan.ticks == {0: "1", 1: "2", 3: "8"}
    assert list(plan.series[""].items()) == [("1", 0), ("2", 1), ("8", 3)] and plan.joined


def test_a_value_near_zero_has_a_linear_axis() -> None:
    plan = choose_axis([cell(str(rate), {"model.dropout": rate}) for rate in (0.0, 0.1, 0.3)])
    assert plan.title == "dropout" and list(plan.ticks.values()) == ["0", "0.1", "0.3"]
    assert list(plan.ticks) == pytest.approx([0, 1, 3])


def test_numbers_varied_one_at_a_time_have_a_line_each_through_the_baseline() -> None:
    keys = "model.encoder_heads", "model.cross_heads"
    settings = [(4, 4), (1, 4), (16, 4), (4, 1)]
    cells = [
        cell(str(s), dict(zip(keys, s, strict=True)), is_reference=s == (4, 4)) for s in settings
    ]
    plan = choose_axis(cells)
    assert plan.title == "number of heads" and plan.ticks == {0: "1", 2: "4", 4: "16"}
    assert plan.series == {
        "encoder heads": {"(1, 4)": 0, "(4, 4)": 2, "(16, 4)": 4},
        "cross heads": {"(4, 1)": 0, "(4, 4)": 2},
    }


def test_a_product_has_a_line_for_each_setting_of_the_rest() -> None:
    cells = [
        cell(
            f"{heads}{copying}",
            {"model.num_heads": heads, "model.copying": copying},
            is_reference=heads == 1,
        )
        for heads in (1, 2)
        for copying in (True, False)
    ]
    assert choose_axis(cells).series == {
        "copying=True": {"1True": 1, "2True": 2},
        "copying=False": {"1False": 1, "2False": 2},
    }


def test_what_is_no_number_has_a_place_each() -> None:
    plan = choose_axis(
        [
            cell("gpt,copying=true", {"configs": "gpt.yaml"}),
            cell("recurrent", {"configs": "r.yaml"}),
        ]
    )
    assert plan.ticks == {0: "gpt\ncopying=true", 1: "recurrent"} and not plan.joined
    many = [cell(f"{a}{b}", {"a": a, "b": b}) for a in (1, 2) for b in "abcde"]
    assert len(many) // 2 > len(STYLES) and not choose_axis(many).joined


def test_means_intervals_seeds_and_baselines_are_drawn(tmp_path: Path) -> None:
    cells = write_study(Path("study"), lambda cell: 20 + cell.axes["model.num_heads"] / 8)
    study = read_study(load_grid(Path("study")), cells)
    figure = draw_study(study)
    assert figure.get_size_inches()[0] == WIDTH < 3.5  # a column of a paper
    panels = figure.axes
    assert [panel.get_ylabel() for panel in panels] == [
        f"ROUGE-{kind} (F1 × 100)" for kind in ("1", "2", "L")
    ]
    for panel, metric in zip(panels, ("rouge1", "rouge2", "rougeL"), strict=True):
        found = [row.estimates[metric] for row in study.settings]
        drawn = [(line, bars) for line, _, [bars] in panel.containers]
        assert [line.get_ydata().tolist() for line, _ in drawn] == [[each.mean] for each in found]
        for (_, bars), each in zip(drawn, found, strict=True):
            [[(_, low), (_, high)]] = bars.get_segments()
            assert (low, high) == pytest.approx((each.low, each.high))
        dots = [
            float(y) for line in panel.lines if line.get_marker() == "." for y in line.get_ydata()
        ]
        assert dots == [result.systems["model"][metric].mean for result in study.results]
        lines = {
            float(drawn.get_ydata()[0])
            for drawn in panel.lines
            if list(drawn.get_xdata()) == [0, 1]
        }
        assert lines == {figures[metric].mean for figures in study.baselines.values()}
        labels = [text for text in panel.texts if isinstance(text, Annotation)]
        names = sorted((text.get_position()[1], text.get_text()) for text in labels)
        assert [name for _, name in names] == ["random-1", "longest-1", "lead-1", "oracle-1"]
        low, high = panel.get_ylim()
        assert all(
            b[0] - a[0] > 0.08 * (high - low) for a, b in zip(names, names[1:], strict=False)
        )
        for label in labels:
            assert label.xy[1] == study.baselines[label.get_text()][metric].mean


def test_a_verdict_has_a_colour_and_a_symbol(tmp_path: Path) -> None:
    def score(cell: Cell) -> float:
        return 30 if cell.axes["model.num_heads"] == 1 else 20

    grid = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 4, 8]").replace("[0, 1, 2]", "[0, 1, 2, 3, 4]")
    cells = write_study(Path("study"), score, grid=grid + "margin: {rouge2: 2}\n")
    study = read_study(load_grid(Path("study")), cells)
    drawn = draw_study(study)
    for panel, metric in zip(drawn.axes, ("rouge1", "rouge2", "rougeL"), strict=True):
        verdicts = [row.comparisons[metric].verdict for row in study.settings[:2]]
        assert verdicts[0] == "better"
        assert (verdicts[1] == "equal within the margin") == (metric == "rouge2")
        colors = [line.get_color() for line, _, _ in panel.containers]
        assert colors == [*(COLORS[verdict] for verdict in verdicts), NO_VERDICT_COLOR]
        symbols = [text for text in panel.texts if not isinstance(text, Annotation)]
        assert [text.get_text() for text in symbols] == [SYMBOLS[verdict] for verdict in verdicts]
        assert [text.get_color() for text in symbols] == colors[:2]
    [legend] = drawn.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == [
        "▲ better",
        "= equal within the margin",
    ]


def test_a_verdict_from_two_seeds_is_marked(tmp_path: Path) -> None:
    grid = HEADS.replace("[1, 2, 4, 8, 16]", "[1, 8]").replace("[0, 1, 2]", "[0, 1]")
    cells = write_study(Path("study"), lambda cell: 20, grid=grid)
    drawn = draw_study(read_study(load_grid(Path("study")), cells))
    for panel in drawn.axes:
        [symbol] = [text for text in panel.texts if not isinstance(text, Annotation)]
        assert symbol.get_text().endswith("†")
    [legend] = drawn.legends
    assert legend.get_texts()[-1].get_text() == "† fewer than three seeds"


def test_colours_of_verdicts_are_distinct_for_the_colour_blind() -> None:
    """By simulation of deuteranopia and protanopia (Vienot et al. 1999), in linear RGB."""
    simulations = {
        "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
        "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    }
    for matrix in simulations.values():
        seen = []
        for color in COLORS.values():
            rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
            seen.append(np.clip(np.array(matrix) @ rgb**2.2, 0, 1) ** (1 / 2.2))
        for number, color in enumerate(seen):
            for other in seen[:number]:
                assert np.linalg.norm(color - other) > 0.2


def test_labels_are_spread_as_little_as_needed() -> None:
    assert separate([1.0, 5.0, 9.0], 2) == [1, 5, 9]
    assert separate([4.0, 4.0], 2) == [3, 5]
    assert separate([1.0, 4.0, 4.0, 4.5], 1) == pytest.approx(
        [1, 3.1667, 4.1667, 5.1667], abs=1e-3
    )
    assert separate([], 1) == []


def test_a_setting_that_is_not_finished_keeps_its_place(tmp_path: Path) -> None:
    cells = write_study(
        Path("study"), lambda cell: 20, keep=lambda cell: cell.label == "num_heads=4"
    )
    [line, *_] = draw_study(read_study(load_grid(Path("study")), cells)).axes[0].lines
    assert list(line.get_xdata()) == [2] and line.axes.get_xlim() == pytest.approx((-0.4, 4.4))
