from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headcount.experiments.grid import load_grid
from headcount.experiments.report.plot import STYLES, WIDTH, choose_axis, draw_study
from headcount.experiments.report.study import read_study
from tests.experiments.studies import write_study


def cell(label: str, axes: dict[str, Any], *, is_reference: bool = False) -> Any:
    return SimpleNamespace(label=label, axes=axes, is_reference=is_reference)


def test_one_number_stands_on_an_axis_of_powers_of_two() -> None:
    plan = choose_axis(
        [cell(str(heads), {"model.num_heads": heads, "seed": 0}) for heads in (8, 1, 2)]
    )
    assert plan.title == "number of heads" and plan.ticks == {0: "1", 1: "2", 3: "8"}
    assert list(plan.series[""].items()) == [("1", 0), ("2", 1), ("8", 3)] and plan.joined


def test_a_number_near_zero_stands_on_a_plain_axis() -> None:
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
        [(line, _, [bars])] = panel.containers
        assert line.get_ydata().tolist() == [each.mean for each in found]
        ends = [[float(y) for _, y in bar] for bar in bars.get_segments()]
        assert ends == [pytest.approx([each.low, each.high]) for each in found]
        dots = next(drawn for drawn in panel.lines if len(drawn.get_xdata()) == 15)
        seeds = [result.scores["systems"]["model"][metric]["mean"] for result in study.results]
        assert list(dots.get_ydata()) == seeds
        lines = {
            float(drawn.get_ydata()[0])
            for drawn in panel.lines
            if list(drawn.get_xdata()) == [0, 1]
        }
        assert lines == {figures[metric].mean for figures in study.baselines.values()}
        names = sorted((text.get_position()[1], text.get_text()) for text in panel.texts)
        assert [name for _, name in names] == ["random-1", "longest-1", "lead-1", "oracle-1"]
        low, high = panel.get_ylim()
        assert all(
            b[0] - a[0] > 0.08 * (high - low) for a, b in zip(names, names[1:], strict=False)
        )


def test_a_setting_that_is_not_finished_keeps_its_place(tmp_path: Path) -> None:
    cells = write_study(
        Path("study"), lambda cell: 20, keep=lambda cell: cell.label == "num_heads=4"
    )
    [line, *_] = draw_study(read_study(load_grid(Path("study")), cells)).axes[0].lines
    assert list(line.get_xdata()) == [2] and line.axes.get_xlim() == pytest.approx((-0.4, 4.4))
