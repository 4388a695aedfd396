from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from headcount.config import load as compose
from headcount.config.load import as_dict, load, schema, sort_arguments, to_yaml
from headcount.config.schema import Config
from headcount.errors import ConfigError
from tests.config.mistakes import check_mistake
from tests.fuzzing import check_config, edited_configs


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_later_files_and_overrides_win(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "model: {num_heads: 8, dropout: 0.2}\nseed: 1")
    second = write(tmp_path / "b.yaml", "model: {num_heads: 2}")
    config = load([first, second], ["seed=7", "optimizer.learning_rate=1e-4"])
    assert (config.model.num_heads, config.model.dropout, config.seed) == (2, 0.2, 7)
    assert config.optimizer.learning_rate == 1e-4
    assert config.run.name == "a-b"
    plain = as_dict(config)
    assert plain["model"]["num_heads"] == 2 and yaml.safe_load(to_yaml(config)) == plain


def test_resolved_config_loads_to_itself(tmp_path: Path) -> None:
    config = load([], ["model.num_heads=8", "data.max_summary_tokens=40", "tracking.tags=[a,b]"])
    again = load([write(tmp_path / "config.yaml", to_yaml(config))], [])
    assert again == config and as_dict(again) == as_dict(config)


def test_defaults_follow_what_they_name() -> None:
    assert load([], ["data.max_summary_tokens=40"]).generation.max_tokens == 40
    assert (
        load([], ["data.max_summary_tokens=40", "generation.max_tokens=9"]).generation.max_tokens
        == 9
    )
    model = load(
        [],
        [
            "model.num_heads=8",
            "model.cross_heads=2",
            "model.num_kv_heads=2",
            "model.encoder_kv_heads=4",
        ],
    ).model
    assert (model.encoder_heads, model.decoder_heads, model.cross_heads) == (8, 8, 2)
    assert (model.encoder_kv_heads, model.decoder_kv_heads, model.cross_kv_heads) == (4, 2, 2)


MISTAKES = {
    "model: {num_head: 3}": "x.yaml: model.num_head=3: unknown key; did you mean num_heads?",
    "modle: {}": "x.yaml: modle={}: unknown key; did you mean model?",
    "zzz: 1": "x.yaml: zzz=1: unknown key; legal: seed, model,",
    "stages: [{step: 3}, {}]": "x.yaml: stages[0].step=3: unknown key; did you mean steps?",
    "stages: {steps: 3}": "x.yaml: stages={'steps': 3}: wrong type dict; legal: a list",
    "stages: [gap_sentences]": "x.yaml: stages[0]=gap_sentences: wrong type str; legal: a mapping "
    "of steps,",
    "stages: [{steps: 3, objective: denoise}, {}]": "x.yaml: objective: Invalid value 'denoise'",
    "model: {num_heads: four}": "x.yaml: model.num_heads: Value 'four'",
    "model: {num_heads: null}": "x.yaml: model.num_heads: Incompatible value 'None'",
    "model: {positions: foo}": "x.yaml: model.positions: Invalid value 'foo', expected one of "
    "['sinusoidal',",
    "model: {decoder_heads: [8, 4, two]}": "x.yaml: model.decoder_heads: Value",
    "model: {decoder_heads: [8, 2.5, 4]}": "x.yaml: model.decoder_heads: Value",
    "model: {num_heads: [8, 4, 4]}": "x.yaml: model.num_heads: ",
    "model: 3": "x.yaml: model=3: wrong type int; legal: a mapping of architecture,",
    "- 1": "x.yaml: wrong type list; legal: a mapping of seed,",
    "evaluation: {references: best}": "x.yaml: evaluation.references: Invalid value 'best', "
    "expected one of ['mean',",
    "trainer: {max_epoch: 3}": "x.yaml: trainer.max_epoch=3: unknown key; did you mean "
    "max_epochs?",
    "trainer: {max_epochs: abc}": "x.yaml: trainer.max_epochs=abc: wrong type str; legal: null "
    "or int",
    "trainer: {max_epochs: 3}": "trainer.max_steps=2000 and trainer.max_epochs=3 are two budgets",
    "trainer: {max_steps: -1}": "trainer.max_steps=-1 and trainer.max_epochs=-1 are no budget; "
    "set one of them",
    "trainer: {logger: true}": "x.yaml: trainer.logger=True is not yours to set",
    "trainer: 3": "x.yaml: trainer: Cannot assign int",
    "model: {num_heads: 4": "x.yaml: while parsing a flow mapping",
    "seed: 1\nseed: 2": "found duplicate key seed",
    "data: !!python/object/apply:os.system [touch canary]": "could not determine a constructor "
    "for the tag",
    "data: {path: '${nowhere}'}": "Interpolation key 'nowhere' not found",
    "data: {path: '${oc.env:HOME}'}": "Unsupported interpolation type oc.env",
    "seed: &a [*a]": "x.yaml: YAML recursive aliases are not supported",
    "seed: " + "[" * 10_000: "x.yaml:1: nested too deeply; legal: 20 levels",
    "seed: " + "- " * 10_000: "x.yaml: ",
    "trainer: {precision: !!binary aa==}": "x.yaml: trainer.precision=b'i': wrong type bytes; "
    "legal: text,",
    "trainer: {devices: [!!binary aa==]}": "x.yaml: trainer.devices=[b'i']: wrong type list; "
    "legal: text,",
    'data: {"pa\\nth": "a\\eb"}': "x.yaml: data.pa th=a\\x1bb: unknown key; did you mean path?",
    "trainer: {2020-01-01: 1}": "x.yaml: ",
    "trainer: [a]": "x.yaml: Cannot merge",
    "trainer: {'max steps': 1}": "x.yaml: trainer.max steps=1: unknown key; did you mean "
    "max_steps?",
    "decoding: {beams: 2}": "decoding={'beams': 2}: unknown key; did you mean generation?",
    "generation: {beams: 2}": "generation.beams=2: unknown key; did you mean num_beams?",
    "generation: {returned: 2}": "generation.returned=2: unknown key; did you mean "
    "num_return_sequences?",
    "optimizer: {averaging: 0.9}": "optimizer.averaging=0.9: unknown key; did you mean ema_decay?",
    "format_version: 2": "x.yaml: format_version=2 is not known here; legal: 1",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")
    assert not list(tmp_path.glob("canary"))


@settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(edited_configs())
def test_a_config_edited_at_random_is_loaded_or_refused_in_a_line(
    tmp_path: Path, text: str
) -> None:
    """A little of what ``make faults`` tries."""
    check_config(text, tmp_path / "x.yaml")


@pytest.mark.parametrize(
    "override",
    [
        "model.num_head=3",
        "model.num_heads=3",
        "a=[",
        "=3",
        "model=3",
        "seed.x=1",
        "[",
        "seed",
        "a[0]=1",
        ".=",
    ],
)
def test_a_mistake_on_the_command_line_says_so(override: str) -> None:
    with pytest.raises(ConfigError, match="^command line: [^\n]*$"):
        load([], [override])


def test_overrides_and_files_are_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file called ``seed=3`` replaces no override, a path with ``=`` in it is a file, and a text
    may be long."""
    monkeypatch.chdir(tmp_path)
    Path("seed=3").write_text("seed: 7\n")
    folder = Path("num_heads=4,seed=0-abc")
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 5\n")
    long = f"run.name={'x' * 300}"
    arguments = [
        "a.yaml",
        "seed=3",
        str(folder / "config.yaml"),
        long,
        "model.num_head=2",
        "data.name=\0",
    ]
    files, overrides = sort_arguments(arguments)
    assert files == ["a.yaml", str(folder / "config.yaml")]
    assert sort_arguments([str(folder), "seed=4"]) == ([str(folder)], ["seed=4"])
    assert overrides == ["seed=3", long, "model.num_head=2", "data.name=\0"]
    assert load(*sort_arguments(["./seed=3"])).seed == 7
    assert load(*sort_arguments(["seed=3", f"tracking.name={'x' * 300}"])).seed == 3


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("none.yaml", "no such file"),
        ("binary.yaml", "codec can't decode"),
        (".", "directory"),
    ):
        with pytest.raises(ConfigError, match=message):
            load([str(tmp_path / name)], [])


def test_legal_trainer_values_pass() -> None:
    values = [
        "devices=[0,1]",
        "precision=bf16-mixed",
        "fast_dev_run=true",
        "val_check_interval=0.5",
        "max_steps=-1",
    ]
    trainer = load([], [f"trainer.{value}" for value in [*values, "max_epochs=3"]]).trainer
    assert trainer["devices"] == [0, 1] and trainer["gradient_clip_val"] == 1.0


def test_schema_shows_every_key_once() -> None:
    lines = schema().splitlines()
    names = [line.split()[0] for line in lines]
    assert len(set(names)) == len(names) == len(list(compose._declared_keys(Config)))
    assert "model.num_heads" in names and "trainer" in names
    assert next(line.split() for line in lines if line.startswith("model.num_heads"))[:3] == [
        "model.num_heads",
        "int",
        "4",
    ]


TEXTS = {
    "data.name": [
        "no",
        "off",
        "true",
        "1.10",
        "0012345",
        "12e4567",
        "1:30",
        "2020-01-01",
        "null2",
    ],
    "data.revision": ["12e4567", "0012345", "00", "1e5"],
    "tokenizer.words": [r"\d+", "[a-z]+"],
    "run.name": ["2024", "no"],
}


@pytest.mark.parametrize(("key", "text"), [(key, text) for key in TEXTS for text in TEXTS[key]])
def test_text_is_taken_as_it_is_written(key: str, text: str, tmp_path: Path) -> None:
    """YAML would make a boolean, a number or a date of it."""
    section, _, name = key.partition(".")
    if not text.startswith("["):
        found = load([write(tmp_path / "x.yaml", f"{section}: {{{name}: {text}}}")], [])
        assert getattr(getattr(found, section), name) == text
    assert getattr(getattr(load([], [f"{key}={text}"]), section), name) == text


@pytest.mark.parametrize(
    "text",
    ["a: b", "[A-Z]+", "{2}x", "*x", "@x", "%x", "&a", "!x", "| x", "> x", "a #b", "- a", "a, b"],
)
def test_text_on_the_command_line_is_no_yaml(text: str) -> None:
    """A regular expression or a name may begin with what means something to YAML."""
    assert load([], [f"tracking.group={text}"]).tracking.group == text
    assert load([], [f"tracking.name={text}"]).tracking.name == text


@pytest.mark.parametrize("value", ["text", "", "null", "{a: b}", "[a, [b]]", "3", "[a"])
def test_what_is_no_list_of_texts_is_named(value: str, tmp_path: Path) -> None:
    message = r"data\.document_columns=.*: not .*; legal: a list of texts, as in \[a, b\]"
    with pytest.raises(ConfigError, match=f"command line: {message}"):
        load([], [f"data.document_columns={value}"])
    if value != "[a":
        file = write(tmp_path / "x.yaml", f"data: {{document_columns: {value}}}")
        with pytest.raises(ConfigError, match=rf"x\.yaml: {message}"):
            load([file], [])


def test_leading_zeros_are_no_octal_number(tmp_path: Path) -> None:
    """The seeds of ``seq -w 100`` are 001 to 100, of which YAML would make 010 the same as 008."""
    assert load([], ["seed=010"]).seed == load([], ["seed=10"]).seed == 10
    assert load([], ["seed=008"]).seed == 8
    assert load([], ["trainer.max_steps=010"]).trainer["max_steps"] == 10
    file = write(tmp_path / "x.yaml", "seed: 010\ntrainer: {max_steps: 0100}")
    assert load([file], []).seed == 10 and load([file], []).trainer["max_steps"] == 100


def test_a_value_that_is_no_yaml_is_named() -> None:
    with pytest.raises(ConfigError, match=r"command line: optimizer\.learning_rate=\[1: not YAML"):
        load([], ["seed=1", "optimizer.learning_rate=[1"])


def test_text_of_lists_null_and_comments() -> None:
    assert load([], ["tracking.tags=[no,1.10,007]"]).tracking.tags == ["no", "1.10", "007"]
    assert load([], [r"tokenizer.words=#\w+"]).tokenizer.words == r"#\w+"
    for nothing in ("null", "~"):
        assert load([], [f"data.name={nothing}"]).data.name is None
    assert load([], ["data.name='no'"]).data.name == "no"
    assert load([], ["data.test_split=null"]).data.test_split is None


@pytest.mark.parametrize("text", ["null", " null\n", "~", "", "# nothing\n"])
def test_a_file_with_nothing_in_it_is_an_empty_config(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    assert load([str(file)], ["run.name=run"]) == load([], [])
