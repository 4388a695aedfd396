import re
from pathlib import Path

import pytest

from headcount.config.load import as_dict
from headcount.errors import ConfigError
from headcount.experiments.cells import make_cells
from headcount.experiments.controls import check_controls, count_cost
from headcount.experiments.grid import load_grid
from tests.experiments.test_grid import write

SMALL = "{model.embedding_size: 32, model.encoder_layers: 1, tokenizer.vocabulary_size: 300"


def check(
    folder: Path,
    control: str,
    grid: str,
    reference_cell: str,
    overrides: str = "",
    varied_together: str = "",
) -> list[int]:
    """Return the parameters of each cell."""
    (folder / "a.yaml").write_text("")
    layers = "" if "decoder_layers" in overrides else ", model.decoder_layers: 1"
    held = f"{SMALL}{layers}, {overrides}}}" if overrides else f"{SMALL}{layers}}}"
    study = load_grid(
        write(
            folder,
            control=control,
            grid=grid,
            reference_cell=reference_cell,
            overrides=held,
            varied_together=varied_together,
            seeds="[0]",
        )
    )
    cells = make_cells(study)
    check_controls(study, cells)
    return [count_cost(cell.config).parameters for cell in cells]


HEADS, EIGHT = "{model.num_heads: [1, 2, 4, 8, 16]}", "{model.num_heads: 8}"


def test_fixed_width_keeps_parameters(tmp_path: Path) -> None:
    assert len(set(check(tmp_path, "fixed_width", HEADS, EIGHT))) == 1


def test_fixed_head_dim_lets_them_grow(tmp_path: Path) -> None:
    grown = check(tmp_path, "fixed_head_dim", HEADS, EIGHT, "model.head_dim: 4")
    assert grown == sorted(set(grown))


BY_LAYER = "{model.decoder_heads: [8, [8, 2], [2, 8]]}"


def test_heads_by_layer_are_controlled(tmp_path: Path) -> None:
    """The width is divided in each layer; a constant width of heads is checked in each."""
    layers = "model.decoder_layers: 2"
    eight = "{model.decoder_heads: 8}"
    assert len(set(check(tmp_path, "fixed_width", BY_LAYER, eight, layers))) == 1
    constant = f"{layers}, model.head_dim: 4"
    fewer = check(tmp_path, "fixed_head_dim", BY_LAYER, eight, constant)
    assert fewer[1] == fewer[2] < fewer[0]
    matched = f"{constant}, model.feedforward_size: 256"
    found = check(tmp_path, "matched_parameters", BY_LAYER, eight, matched)
    assert all(abs(each - found[0]) <= 0.01 * found[0] for each in found)
    with pytest.raises(ConfigError, match=r"head_dim in decoder=\[4, 16\]; legal: 4, as in "):
        check(tmp_path, "fixed_head_dim", BY_LAYER, eight, layers)
    with pytest.raises(ConfigError, match=r"decoder_heads=\[8, 2\] does not go with .* 1; legal"):
        check(tmp_path, "fixed_width", BY_LAYER, eight)


def test_matched_parameters_solves_for_the_feedforward_size(tmp_path: Path) -> None:
    held = "model.head_dim: 4, model.feedforward_size: 256"
    baseline, *_ = check(tmp_path, "matched_parameters", "[{model.num_heads: 8}]", EIGHT, held)
    matched = check(tmp_path, "matched_parameters", HEADS, EIGHT, held)
    assert matched[3] == baseline and all(
        abs(found - baseline) <= 0.01 * baseline for found in matched
    )
    assert max(grown := check(tmp_path, "none", HEADS, EIGHT, held)) > 1.05 * min(grown)


def test_matched_parameters_moves_the_run_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    grid = load_grid(
        write(
            tmp_path,
            control="matched_parameters",
            grid=HEADS,
            reference_cell=EIGHT,
            overrides="{model.head_dim: 8}",
        )
    )
    first, *_ = cells = make_cells(grid)
    assert (
        first.overrides[-1].startswith("model.feedforward_size=")
        and first.config.model.feedforward_size > 1024
    )
    assert (
        first.config.model.feedforward_size == as_dict(first.config)["model"]["feedforward_size"]
    )
    assert len({cell.folder for cell in cells}) == len(cells) == 10


WIDTHS = "[{model.embedding_size: 32}, {model.embedding_size: 64}]"
BROKEN = {
    ("fixed_width", "{model.num_kv_heads: [1, 4]}", "{model.num_kv_heads: 4}", ""): (
        "num_kv_heads=1,seed=0 breaks control=fixed_width: 151,152 parameters; legal: 155,904, "
        "as in num_kv_heads=4"
    ),
    (
        "fixed_width",
        HEADS,
        EIGHT,
        "model.head_dim: 4",
    ): "num_heads=1,seed=0 breaks control=fixed_width: ",
    (
        "fixed_width",
        "[{model.num_heads: 8}]",
        EIGHT,
        "model.head_dim: 4",
    ): "model.head_dim=4; legal: null",
    (
        "fixed_head_dim",
        HEADS,
        EIGHT,
        "",
    ): "control=fixed_head_dim: head_dim in cross=32; legal: 4, as in num_heads=8",
    (
        "fixed_head_dim",
        WIDTHS,
        "{model.embedding_size: 32}",
        "",
    ): "embedding_size=64,seed=0 breaks control=fixed_head",
    ("matched_parameters", HEADS, EIGHT, "model.head_dim: 64, model.feedforward_size: 8"): (
        "parameters with model.feedforward_size=1, which comes nearest; legal: within 1% of"
    ),
    ("none", "{data.max_summary_tokens: [32, 64]}", "{data.max_summary_tokens: 64}", ""): (
        "breaks control=none: generation.max_tokens=32; legal: 64, as in max_summary_tokens=64, "
        "or an axis that says so"
    ),
}


@pytest.mark.parametrize("study", BROKEN)
def test_a_cell_that_breaks_its_control_is_named(
    study: tuple[str, str, str, str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, *study)
    assert BROKEN[study] in str(caught.value) and "\n" not in str(caught.value)


PAIRED = (
    "[{model.num_heads: 8, optimizer.learning_rate: 0.001}, "
    "{model.num_heads: 4, optimizer.learning_rate: 0.002}]"
)
REFERENCE = "{model.num_heads: 8, optimizer.learning_rate: 0.001}"
TOGETHER = "cell num_heads=4,learning_rate=0.002 differs from num_heads=8,learning_rate=0.001 in "


def test_minimum_bayes_risk_is_in_all_cells_or_in_none(tmp_path: Path) -> None:
    """It optimizes the metric by which the cells are compared."""
    some = "{generation.strategy: [beam, mbr]}"
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, "none", some, "{generation.strategy: beam}")
    assert str(caught.value).endswith(
        "cell strategy=mbr,seed=0 has generation.strategy=mbr, which optimizes the metric, and "
        "strategy=beam,seed=0 has generation.strategy=beam: their scores are not comparable; "
        "legal: mbr in all cells, or in none"
    )
    check(tmp_path, "none", "{generation.strategy: [beam, greedy]}", "{generation.strategy: beam}")
    check(tmp_path, "fixed_width", HEADS, EIGHT, "generation.strategy: mbr")


def test_a_width_that_a_control_keeps_is_no_axis(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"legal: 32, as in embedding_size=32, or control: none"):
        check(
            tmp_path,
            "fixed_width",
            "{model.embedding_size: [32, 64]}",
            "{model.embedding_size: 32}",
            "model.num_heads: 4",
        )


def test_parameters_are_matched_at_each_value_of_the_inner_axis(tmp_path: Path) -> None:
    """More layers have more parameters, in the reference cell as in the others."""
    (tmp_path / "a.yaml").write_text("")
    study = load_grid(
        write(
            tmp_path,
            control="matched_parameters",
            grid="{model.num_kv_heads: [2, 8]}",
            reference_cell="{model.num_kv_heads: 8}",
            overrides=f"{SMALL}, model.decoder_layers: 1, model.num_heads: 8}}",
            select="{over: {model.encoder_layers: [1, 3]}, by: validation/rougeL}",
            seeds="[0]",
        )
    )
    cells = make_cells(study)
    check_controls(study, cells)
    parameters = {
        (cell.axes["model.num_kv_heads"], cell.choice["model.encoder_layers"]): count_cost(
            cell.config
        ).parameters
        for cell in cells
    }
    for layers in (1, 3):
        ratio = parameters[2, layers] / parameters[8, layers]
        assert abs(ratio - 1) < 0.01
    assert parameters[2, 3] > 1.2 * parameters[2, 1]


def test_axes_that_change_together_only_are_named(tmp_path: Path) -> None:
    message = f"{TOGETHER}model.num_heads and optimizer.learning_rate at once, and no cell in "
    with pytest.raises(ConfigError, match=f"{message}model.num_heads=4 alone") as caught:
        check(tmp_path, "fixed_width", PAIRED, REFERENCE)
    assert str(caught.value).endswith(
        "or varied_together: [model.num_heads, optimizer.learning_rate]"
    )

    # One of the two alone is not enough, as long as the other one never changes alone.
    one_alone = PAIRED.replace("]", ", {model.num_heads: 4, optimizer.learning_rate: 0.001}]")
    with pytest.raises(ConfigError, match="and no cell in optimizer.learning_rate=0.002 alone"):
        check(tmp_path, "fixed_width", one_alone, REFERENCE)


@pytest.mark.parametrize(
    "grid",
    [
        PAIRED.replace(
            "]",
            ", {model.num_heads: 4, optimizer.learning_rate: 0.001}"
            ", {model.num_heads: 8, optimizer.learning_rate: 0.002}]",
        ),
        "{model.num_heads: [4, 8], optimizer.learning_rate: [0.001, 0.002]}",
    ],
)
def test_axes_that_change_one_at_a_time_too_may_change_together(grid: str, tmp_path: Path) -> None:
    check(tmp_path, "fixed_width", grid, REFERENCE)


def test_axes_may_be_declared_to_change_together(tmp_path: Path) -> None:
    check(
        tmp_path,
        "fixed_width",
        PAIRED,
        REFERENCE,
        varied_together="[model.num_heads, optimizer.learning_rate]",
    )
    with pytest.raises(
        ConfigError, match="varied_together: model.num_head is not varied by the grid; did you"
    ):
        check(
            tmp_path,
            "fixed_width",
            PAIRED,
            REFERENCE,
            varied_together="[model.num_head, optimizer.learning_rate]",
        )


def test_a_declared_key_is_excused_with_its_partners_only(tmp_path: Path) -> None:
    """Two settings change both declared keys; the last one changes one of them, and another."""
    keys = ("model.num_heads", "optimizer.learning_rate", "model.dropout")

    def cell(*values: object) -> str:
        parts = [f"{key}: {value}" for key, value in zip(keys, values, strict=True)]
        return f"{{{', '.join(parts)}}}"

    reference = cell(8, 0.001, 0.1)
    partners = cell(4, 0.002, 0.1)
    alone = cell(8, 0.001, 0.3)

    def check_with(*cells: str) -> None:
        grid = f"[{', '.join((reference, *cells))}]"
        check(
            tmp_path,
            "fixed_width",
            grid,
            reference,
            varied_together="[model.num_heads, optimizer.learning_rate]",
        )

    # The partners are one change, which may be combined with another one that is known, too.
    check_with(partners, alone)
    check_with(partners, alone, cell(4, 0.002, 0.3))
    with pytest.raises(ConfigError, match="no cell in model.dropout=0.3 alone"):
        check_with(partners, cell(4, 0.002, 0.3))
    with pytest.raises(ConfigError, match="no cell in model.num_heads=2 alone"):
        check_with(partners, alone, cell(2, 0.002, 0.3))

    # A member that differs with another key only is excused by nothing.
    with pytest.raises(ConfigError, match="no cell in model.num_heads=4 alone") as caught:
        check_with(partners, alone, cell(4, 0.001, 0.3))
    assert str(caught.value).endswith(
        "or varied_together: [model.num_heads, optimizer.learning_rate, model.dropout]"
    )


def test_values_that_never_occur_alone_are_named(tmp_path: Path) -> None:
    """Each of both axes changes alone in some cell, but not to these values."""
    more = (
        ", {model.num_heads: 4, optimizer.learning_rate: 0.001}"
        ", {model.num_heads: 8, optimizer.learning_rate: 0.002}"
        ", {model.num_heads: 1, optimizer.learning_rate: 0.004}]"
    )
    grid = PAIRED.replace("]", more)
    message = "cell num_heads=1,learning_rate=0.004 differs .* no cell in model.num_heads=1 alone"
    with pytest.raises(ConfigError, match=message):
        check(tmp_path, "fixed_width", grid, REFERENCE)

    # One of the two values alone leaves the other one.
    one_alone = grid.replace("]", ", {model.num_heads: 1, optimizer.learning_rate: 0.001}]")
    with pytest.raises(ConfigError, match="no cell in optimizer.learning_rate=0.004 alone"):
        check(tmp_path, "fixed_width", one_alone, REFERENCE)
    both = one_alone.replace("]", ", {model.num_heads: 8, optimizer.learning_rate: 0.004}]")
    check(tmp_path, "fixed_width", both, REFERENCE)


def test_a_key_of_the_model_that_depends_on_an_axis_is_named(tmp_path: Path) -> None:
    """Keys that follow by default, as ``encoder_heads`` does, are no further difference."""
    with pytest.raises(ConfigError) as caught:
        check(
            tmp_path,
            "none",
            "{model.num_heads: [4, 8]}",
            EIGHT,
            'model.feedforward_size: "${model.num_heads}"',
        )
    message = "num_heads=4,seed=0 breaks control=none: model.feedforward_size=4; legal: 8, as in"
    assert message in str(caught.value)


def test_what_a_config_of_the_grid_sets_may_differ(tmp_path: Path) -> None:
    for name, rate in (("x", 1), ("y", 2)):
        (tmp_path / f"{name}.yaml").write_text(f"optimizer: {{learning_rate: {rate}}}")
    check(tmp_path, "none", "{configs: [x.yaml, y.yaml]}", "{configs: x.yaml}")


OVERLAYS = "{configs: [four.yaml, eight.yaml]}"


def write_overlays(more: str) -> None:
    """Write an overlay with four heads and one with eight, the first one with more keys."""
    Path("four.yaml").write_text(f"model: {{num_heads: 4}}\n{more}\n")
    Path("eight.yaml").write_text("model: {num_heads: 8}\n")


def test_what_an_overlay_changes_together_is_declared(tmp_path: Path) -> None:
    def check_overlays(**options: str) -> None:
        check(tmp_path, "fixed_width", OVERLAYS, "{configs: eight.yaml}", **options)

    write_overlays("optimizer: {learning_rate: 0.005}")
    keys = "model.num_heads and optimizer.learning_rate"
    with pytest.raises(ConfigError, match=f"cell four differs from eight in {keys} at once"):
        check_overlays()
    declared = "[model.num_heads, optimizer.learning_rate]"
    check_overlays(varied_together=declared)

    # A key that is added to the file later is not in the declaration.
    write_overlays("optimizer: {learning_rate: 0.005, weight_decay: 0.3}")
    with pytest.raises(ConfigError, match="no cell in optimizer.weight_decay=0.3 alone"):
        check_overlays(varied_together=declared)

    # Keys that follow by default, or are set to what they would follow, are one change.
    write_overlays("run: {name: four}")
    check_overlays()
    Path("four.yaml").write_text("model: {num_heads: 4, encoder_heads: 4}\n")
    check_overlays()


def test_an_overlay_of_another_cell_excuses_nothing(tmp_path: Path) -> None:
    """A third overlay sets the key that depends on the heads here."""
    Path("base.yaml").write_text(
        'model: {embedding_size: 32, feedforward_size: "${model.num_heads}"}\n'
    )
    write_overlays("")
    Path("wide.yaml").write_text("model: {num_heads: 8, feedforward_size: 64}\n")
    changes = {
        "configs": "[base.yaml]",
        "control": "none",
        "grid": "{configs: [four.yaml, eight.yaml, wide.yaml]}",
        "reference_cell": "{configs: eight.yaml}",
        "seeds": "[0]",
    }
    study = load_grid(write(tmp_path / "study", **changes))
    with pytest.raises(ConfigError, match="cell four,seed=0 breaks .* model.feedforward_size=4;"):
        check_controls(study, make_cells(study))


@pytest.mark.parametrize(
    ("grid", "found"),
    [
        (OVERLAYS, "evaluation.tokenizer=unicode; legal: rouge-score, as in eight"),
        ("{evaluation.references: [mean, max]}", "evaluation.references=max; legal: mean, as in "),
        ("{data.carving_seed: [0, 1]}", "data.carving_seed=1; legal: 0, as in carving_seed=0"),
        (
            "{evaluation.select_by: [rougeL, bleu]}",
            "rougeLsum, bleu are computed; legal: rouge1, ",
        ),
    ],
)
def test_cells_that_no_report_could_compare_are_rejected_before_training(
    grid: str, found: str, tmp_path: Path
) -> None:
    write_overlays("evaluation: {tokenizer: unicode}")
    reference = {
        "c": "{configs: eight.yaml}",
        "evaluation.r": "{evaluation.references: mean}",
        "d": "{data.carving_seed: 0}",
        "evaluation.s": "{evaluation.select_by: rougeL}",
    }
    [cell] = [value for key, value in reference.items() if grid.startswith("{" + key)]
    with pytest.raises(ConfigError, match=re.escape(found)):
        check(tmp_path, "none", grid, cell)


def test_streaming_is_no_axis(tmp_path: Path) -> None:
    """A stream is identified by its source, so that a report would see other data."""
    grid = "{data.streaming: [false, true]}"
    with pytest.raises(
        ConfigError, match=r"data\.streaming=True; legal: False, as in streaming=fa"
    ):
        check(tmp_path, "none", grid, "{data.streaming: false}")


def test_how_checkpoints_are_selected_may_be_varied(tmp_path: Path) -> None:
    check(tmp_path, "none", "{evaluation.patience: [0, 3]}", "{evaluation.patience: 0}")
