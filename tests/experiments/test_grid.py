from pathlib import Path

import pytest

from headcount.errors import ConfigError
from headcount.experiments.grid import load_grid

GOOD = {
    "configs": "[a.yaml]",
    "control": "fixed_width",
    "grid": "{model.num_heads: [1, 2], model.norm_position: [pre]}",
    "seeds": "[0, 1]",
    "reference_cell": "{model.num_heads: 2, model.norm_position: pre}",
}


def write(folder: Path, **changes: str) -> Path:
    folder.mkdir(exist_ok=True)
    lines = {**GOOD, **changes}
    (folder / "grid.yaml").write_text(
        "".join(f"{key}: {value}\n" for key, value in lines.items() if value)
    )
    return folder


def test_a_mapping_is_a_product_and_a_list_is_its_cells(tmp_path: Path) -> None:
    grid = load_grid(write(tmp_path / "study"))
    assert grid.name == "study" and grid.axes == ["model.num_heads", "model.norm_position"]
    assert grid.settings == [
        {"model.num_heads": 1, "model.norm_position": "pre"},
        {"model.num_heads": 2, "model.norm_position": "pre"},
    ]
    assert grid.label(grid.reference_cell) == "num_heads=2,norm_position=pre"
    explicit = "[{configs: x/gpt.yaml, data.name: a/b c}, {configs: x/gpt.yaml, run.name: 1}]"
    with pytest.raises(ConfigError, match="run.name changes no result"):
        load_grid(write(tmp_path / "study", grid=explicit))
    explicit = explicit.replace("run.name", "data.path")
    grid = load_grid(
        write(
            tmp_path / "study",
            grid=explicit,
            reference_cell="{configs: x/gpt.yaml, data.name: a/b c}",
        )
    )
    assert [grid.label(setting) for setting in grid.settings] == ["gpt,name=a_b_c", "gpt,path=1"]


def test_text_and_numbers_are_taken_as_they_are_written(tmp_path: Path) -> None:
    """YAML would make a boolean, a number or an octal number of them."""
    grid = load_grid(
        write(
            tmp_path,
            grid="{data.revision: [no, 0012345, 1e5], model.num_heads: [1, 02]}",
            reference_cell="{data.revision: no, model.num_heads: 1}",
            overrides="{data.name: off, data.path: on}",
            seeds="[010, 011]",
        )
    )
    assert [setting["data.revision"] for setting in grid.settings[::2]] == ["no", "0012345", "1e5"]
    assert grid.label(grid.settings[1]) == "revision=no,num_heads=2"
    assert grid.overrides == {"data.name": "off", "data.path": "on"}
    assert grid.seeds == [10, 11]


def test_a_boolean_is_written_as_in_yaml(tmp_path: Path) -> None:
    grid = load_grid(
        write(
            tmp_path,
            grid="{model.copying: [yes, false]}",
            reference_cell="{model.copying: true}",
            overrides="{model.copying: off}",
        )
    )
    assert [grid.label(setting) for setting in grid.settings] == ["copying=true", "copying=false"]
    assert grid.overrides == {"model.copying": False}


def test_keys_with_the_same_last_name_are_distinguished(tmp_path: Path) -> None:
    cells = "[{data.name: 1, tokenizer.name: 1}]"
    grid = load_grid(
        write(tmp_path, grid=cells, reference_cell="{data.name: 1, tokenizer.name: 1}")
    )
    assert grid.label(grid.reference_cell) == "data.name=1,tokenizer.name=1"


def test_heads_by_layer_are_an_axis(tmp_path: Path) -> None:
    axis = "{model.encoder_heads: [8, [8, 4], [4, 8]]}"
    grid = load_grid(write(tmp_path, grid=axis, reference_cell="{model.encoder_heads: 8}"))
    labels = [grid.label(setting) for setting in grid.settings]
    assert labels == ["encoder_heads=8", "encoder_heads=8-4", "encoder_heads=4-8"]


MISTAKES = {
    "configs=": "configs is missing; legal: a list of YAML files",
    "config=[a]": "config=['a']: unknown key; did you mean configs?",
    "configs=a.yaml": "configs=a.yaml: wrong value; legal: a list of YAML files",
    "control=fixed": "control=fixed: wrong value; legal: fixed_width, fixed_head_dim, "
    "matched_parameters, none",
    "grid={model.num_heads: 4}": "grid.model.num_heads=4: wrong value; legal: a mapping of keys "
    "to lists of values",
    "grid={}": "grid={}: a cell without axes; legal: a mapping",
    "grid=3": "grid=3: wrong value; legal: a mapping",
    "seeds=3": "seeds=3: wrong value; legal: a list of whole numbers",
    "seeds=[0, 0]": "seeds=[0, 0]: wrong value; legal: a list of whole numbers, each once",
    "seeds=[0, x]": "seeds=[0, 'x']: wrong value",
    "reference_cell={model.num_heads: 3}": "reference_cell={'model.num_heads': 3}: not a cell of the grid; "
    "legal: num_heads=1,",
    "baseline={model.num_heads: 1}": "baseline={'model.num_heads': 1}: unknown key; did you mean reference_cell?",
    "grid={seed: [1, 2]}": "grid: seed is not set here; legal: seeds: [0, 1, 2]",
    "overrides={seed: 1}": "overrides: seed is not set here",
    "grid={tracking.mode: [offline]}": "grid: tracking.mode changes no result",
    "grid={model.num_heads: [2, 2], model.norm_position: [pre]}": "grid: cell num_heads=2,norm_position=pre is listed twice",
    "select={over: optimizer.learning_rate}": "select={'over': 'optimizer.learning_rate'}: "
    "wrong value; legal: {over:",
    "select={over: {model.num_heads: [1]}, by: validation/rouge2}": "select.over: model.num_heads is an axis",
    "select={over: {a.b: [1]}, by: test/rouge2}": "select.by=test/rouge2: wrong value; legal: "
    "{over",
    "select={over: {a.b: [1]}, by: validation/loss}": "where SCORE is validation/rouge1, "
    "validation/rouge2, ",
    "seeds=[0": "grid.yaml: while parsing",
    "varied_together=[model.num_heads]": "varied_together=['model.num_heads']: one key alone; "
    "legal: a list of at least two keys",
    "grid=[{configs: 3}]": "grid: configs=3: wrong value; legal: a YAML file",
    "grid=[{configs: a/gpt.yaml}, {configs: b/gpt.yaml}]": "grid: {configs: a/gpt.yaml} and "
    "{configs: b/gpt.yaml} are both named gpt; legal: names that differ",
    "select={over: {1: [2]}, by: validation/rougeL}": "select.over={1: [2]}: wrong value",
    "select={over: {optimizer.learning_rate: [0.001, 1.0e-3]}, by: validation/rougeL}": "select.over."
    "optimizer.learning_rate=[0.001, 0.001]: a value is listed twice",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_is_one_line(change: str, tmp_path: Path) -> None:
    key, value = change.split("=", 1)
    with pytest.raises(ConfigError) as caught:
        load_grid(write(tmp_path / "study", **{key: value}))
    message = str(caught.value)
    assert (
        message.startswith(f"{tmp_path}/study/grid.yaml: ")
        and MISTAKES[change] in message
        and "\n" not in message
    )


def test_a_solved_key_is_no_axis(tmp_path: Path) -> None:
    one = "{model.feedforward_size: 8}"
    with pytest.raises(
        ConfigError, match="model.feedforward_size is solved under control=matched_parameters"
    ):
        load_grid(
            write(tmp_path, control="matched_parameters", grid=f"[{one}]", reference_cell=one)
        )


def test_a_folder_without_a_grid(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; legal: a folder with a grid.yaml"):
        load_grid(tmp_path)


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_a_margin_for_a_score_of_the_corpus_is_rejected_with_the_reason(
    metric: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "study", margin=f"{{{metric}: 0.5}}")
    message = f"{metric} is a score of the whole corpus, for which a study has no test; legal: "
    with pytest.raises(ConfigError, match=message):
        load_grid(folder)
