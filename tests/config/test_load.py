from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from headcount.config import load as compose
from headcount.config.load import as_dict, load, schema, sort_arguments, to_yaml
from headcount.config.schema import Config
from headcount.errors import ConfigError
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


def test_a_place_that_is_not_there_has_no_say() -> None:
    """Cross-attention is not rotary, so its heads may be odd.

    Num_heads need not fit where no place has that number.
    """
    load(
        [],
        [
            "model.positions=rotary",
            "model.embedding_size=12",
            "model.num_heads=2",
            "model.cross_heads=4",
        ],
    )
    places = ["model.encoder_heads=3", "model.decoder_heads=3", "model.cross_heads=3"]
    load([], ["model.embedding_size=18", *places])


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


def test_stages_are_what_they_change() -> None:
    config = load([], ["stages=[{steps: 30,objective: infill},{}]", "optimizer.warmup_steps=7"])
    [(first, pretraining), (second, training)] = config.stage_plan
    assert (first, second) == (0, 30)
    assert (pretraining.objective, training.objective) == ("infill", "summarize")
    assert pretraining.warmup_steps == training.warmup_steps == 7
    [(_, only)] = load([], ["data.objective=gap_sentences"]).stage_plan
    assert only.objective == "gap_sentences" and only.steps is None


def test_heads_by_layer() -> None:
    changes = [
        "model.encoder_heads=[8,4,2]",
        "model.num_kv_heads=2",
        "model.cross_kv_heads=[1,2,4]",
    ]
    model = load([], changes).model
    assert [model.heads_of("encoder", layer) for layer in range(3)] == [8, 4, 2]
    assert [model.heads_of("cross", layer) for layer in range(3)] == [4, 4, 4]
    assert [model.kv_heads_of("encoder", layer) for layer in range(3)] == [2, 2, 2]
    assert [model.kv_heads_of("cross", layer) for layer in range(3)] == [1, 2, 4]
    assert [model.head_dim_of("encoder", layer) for layer in range(3)] == [32, 64, 128]
    assert model.count_heads() == 14 + 12 + 12


RECURRENT = "architecture: recurrent, attention: additive"
MISTAKES = {
    "model: {num_head: 3}": "x.yaml: model.num_head=3: unknown key; did you mean num_heads?",
    "modle: {}": "x.yaml: modle={}: unknown key; did you mean model?",
    "zzz: 1": "x.yaml: zzz=1: unknown key; legal: seed, model,",
    "{data: {bpe_dropout: 0.1}, tokenizer: {algorithm: unigram}}": "data.bpe_dropout=0.1 does not "
    "go with tokenizer.algorithm=unigram; legal: 0",
    "{data: {streaming: true, teacher_summaries: t.jsonl}}": "data.teacher_summaries=t.jsonl "
    "needs the whole split; legal: data.streaming=False",
    "stages: [{steps: 3}, {steps: 4}]": "x.yaml: stages: steps=4 of stage 2, the last one, which",
    "stages: [{}, {}]": "x.yaml: stages: steps=null of stage 1, which another one follows; legal:",
    "stages: [{steps: 0}, {}]": "x.yaml: stage.steps=0 is out of range: at least 1",
    "stages: [{step: 3}, {}]": "x.yaml: stages[0].step=3: unknown key; did you mean steps?",
    "stages: {steps: 3}": "x.yaml: stages={'steps': 3}: wrong type dict; legal: a list",
    "stages: [gap_sentences]": "x.yaml: stages[0]=gap_sentences: wrong type str; legal: a mapping "
    "of steps,",
    "stages: [{steps: 3, objective: denoise}, {}]": "x.yaml: objective: Invalid value 'denoise'",
    "model: {num_heads: four}": "x.yaml: model.num_heads: Value 'four'",
    "model: {num_heads: null}": "x.yaml: model.num_heads: Incompatible value 'None'",
    "model: {num_heads: 3}": "x.yaml: model.num_heads=3 does not divide "
    "model.embedding_size=256; legal: 1, 2, 4, 8",
    "model: {num_heads: 0}": "x.yaml: model.num_heads=0 is out of range: at least 1",
    "model: {dropout: 1.0}": "x.yaml: model.dropout=1.0 is out of range: at least 0 and below 1",
    "model: {positions: foo}": "x.yaml: model.positions: Invalid value 'foo', expected one of "
    "['sinusoidal',",
    "model: {positions: rotary, num_heads: 256}": "model.positions=rotary does not go with "
    "model.num_heads=256, whose",
    "model: {num_kv_heads: 3}": "x.yaml: model.num_kv_heads=3 does not divide "
    "model.num_heads=4; legal: 1, 2, 4",
    "model: {cross_heads: 3}": "x.yaml: model.cross_heads=3 does not divide "
    "model.embedding_size=256",
    "model: {encoder_heads: 8, encoder_kv_heads: 3}": "model.encoder_kv_heads=3 does not divide "
    "model.encoder_heads=8",
    "model: {encoder_heads: [8, 4]}": "x.yaml: model.encoder_heads=[8, 4] does not go with the "
    "number of encoder blocks, 3; legal: one number from 1, or a list of 3 of them",
    "model: {cross_heads: []}": "x.yaml: model.cross_heads=[] does not go with the number of",
    "model: {decoder_heads: [8, 0, 4]}": "x.yaml: model.decoder_heads=[8, 0, 4] does not go with",
    "model: {decoder_heads: [8, 4, 3]}": "model.decoder_heads=3 does not divide model.embedding",
    "model: {decoder_heads: [8, 4, two]}": "x.yaml: model.decoder_heads: Value",
    "model: {decoder_heads: [8, 2.5, 4]}": "x.yaml: model.decoder_heads: Value",
    "model: {num_heads: [8, 4, 4]}": "x.yaml: model.num_heads: ",
    "model: {cross_heads: [8, 4, 2], cross_kv_heads: [8, 4, 4]}": "model.cross_kv_heads=4 does "
    "not divide model.cross_heads=2",
    "model: {architecture: gpt}": "model.encoder_layers=3 does not go with "
    "model.architecture=gpt; legal: 0",
    "model: {architecture: gpt, encoder_layers: 0, cross_heads: 2}": "model.cross_heads=2 does "
    "not go with model.arch",
    "model: {architecture: gpt, encoder_layers: 0, tie_embeddings: output}": "model.tie_embeddings=output does not go",
    "model: {architecture: recurrent}": "model.attention=dot_product does not go with "
    "model.architecture=recurrent; l",
    f"model: {{{RECURRENT}, norm: none}}": "model.positions=sinusoidal does not go with",
    f"model: {{{RECURRENT}, norm: none, positions: none, head_dim: 8}}": "model.head_dim=8 does not go with",
    "model: {encoder_layers: 0}": "model.encoder_layers=0 does not go with "
    "model.architecture=transformer; legal: 1",
    "model: {attention: additive}": "model.attention=additive does not go with "
    "model.architecture=transformer",
    "model: {norm: none}": "model.norm=none does not go with model.architecture=transformer; "
    "legal: layernorm, rmsnorm",
    "model: {coverage: 1.0}": "model.coverage=1.0 does not go with model.copying=False; legal: 0",
    "model: 3": "x.yaml: model=3: wrong type int; legal: a mapping of architecture,",
    "- 1": "x.yaml: wrong type list; legal: a mapping of seed,",
    "seed: -1": "x.yaml: seed=-1 is out of range",
    "data: {batch_tokens: 100}": "data.batch_tokens=100 is too small for one pair",
    "generation: {max_tokens: 513}": "generation.max_tokens=513 is beyond the model's positions",
    "generation: {strategy: beam, num_beams: 4, num_beam_groups: 3}": "generation.num_beam_groups=3 does not divide g",
    "generation: {num_return_sequences: 2}": "generation.num_return_sequences=2 is more than "
    "generation.strategy=gree",
    "generation: {strategy: mbr, num_beam_groups: 3}": "generation.num_beam_groups=3 does not divide generation.mbr_num_beams=8",
    "generation: {strategy: mbr, mbr_num_beams: 1, mbr_num_samples: 0}": "leave nothing to choose from",
    "generation: {strategy: mbr, num_return_sequences: 25}": "legal: at most 24",
    "generation: {num_return_sequences: 2, strategy: beam, long_documents: split}": "generation.num_return_sequences=",
    "evaluation: {baselines: [lead-0]}": "evaluation.baselines=lead-0 is not a baseline; legal: "
    "lead-K, longest-K,",
    "evaluation: {metrics: [meteor]}": "evaluation.metrics=meteor is not a metric; legal: rouge, "
    "bleu, chrf",
    "evaluation: {references: best}": "x.yaml: evaluation.references: Invalid value 'best', "
    "expected one of ['mean',",
    "run: {name: ../x}": "run.name=../x is not a folder's name",
    "trainer: {max_epoch: 3}": "x.yaml: trainer.max_epoch=3: unknown key; did you mean "
    "max_epochs?",
    "trainer: {max_epochs: abc}": "x.yaml: trainer.max_epochs=abc: wrong type str; legal: null "
    "or int",
    "trainer: {max_epochs: 3}": "trainer.max_steps=2000 and trainer.max_epochs=3 are two budgets",
    "trainer: {max_steps: -1}": "trainer.max_steps=-1 and trainer.max_epochs=-1 are no budget; "
    "set one of them",
    "generation: {top_p: 1.5}": "generation.top_p=1.5 is out of range",
    "generation: {diversity_penalty: 0.5}": "generation.diversity_penalty=0.5 does nothing with "
    "generation.num_beam_g",
    "generation: {min_tokens: 65}": "generation.min_tokens=65 is more than "
    "generation.max_tokens=64; legal: at most 64",
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
    "optimizer: {learning_rate: .inf}": "x.yaml: optimizer.learning_rate=inf is out of range: "
    "at least 0",
    "model: {embedding_size: 1000000007}": "does not divide model.embedding_size=1000000007; "
    "legal: 1,",
    'data: {"pa\\nth": "a\\eb"}': "x.yaml: data.pa th=a\\x1bb: unknown key; did you mean path?",
    "trainer: {2020-01-01: 1}": "x.yaml: ",
    "trainer: [a]": "x.yaml: Cannot merge",
    "trainer: {'max steps': 1}": "x.yaml: trainer.max steps=1: unknown key; did you mean "
    "max_steps?",
    "data: {test_split: ''}": "data.test_split= is empty; legal: the name of a split, or null "
    "to carve one out of the",
    "data: {validation_split: ' '}": "data.validation_split= is empty; legal: the name of a "
    "split, or null",
    "data: {train_split: ''}": "data.train_split= is empty; legal: a text that is not empty",
    "data: {path: ''}": "data.path= is empty; legal: a text that is not empty",
    "data: {document_columns: [a, '']}": "data.document_columns=['a', ''] is empty",
    "tokenizer: {path: ''}": "tokenizer.path= is empty; legal: null, or a text",
    "run: {folder: ''}": "run.folder= is empty; legal: null, or a text",
    "run: {directory: ''}": "run.directory= is empty; legal: a text that is not empty",
    "tracking: {tags: ['']}": "tracking.tags=[''] is empty",
    "decoding: {beams: 2}": "decoding={'beams': 2}: unknown key; did you mean generation?",
    "generation: {beams: 2}": "generation.beams=2: unknown key; did you mean num_beams?",
    "generation: {returned: 2}": "generation.returned=2: unknown key; did you mean "
    "num_return_sequences?",
    "optimizer: {averaging: 0.9}": "optimizer.averaging=0.9: unknown key; did you mean ema_decay?",
    "tracking: {project: a/b}": "tracking.project=a/b is not a name to W&B; legal: up to 128",
    f"tracking: {{tags: [{'x' * 65}]}}": "is too long; legal: up to 64 characters",
    "format_version: 2": "x.yaml: format_version=2 is not known here; legal: 1",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load([write(tmp_path / "x.yaml", text)], [])
    assert MISTAKES[text] in str(caught.value)
    assert "x.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
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


def test_heads_that_are_off_are_heads_of_the_model() -> None:
    pruned = "model.head_mask={decoder: [[1, 0, 0, 1], [0, 0, 0, 0]]}"
    layers = ["model.encoder_layers=1", "model.decoder_layers=2", pruned]
    config = load([], [*layers, "generation.heads_off=[encoder.0.3,decoder.0.1,cross.1.0]"])
    assert config.generation.heads_off == ["encoder.0.3", "decoder.0.1", "cross.1.0"]
    names = ["encoder.1.0", "encoder.0.4", "decoder.0.2", "decoder.1.0", "cross.2.0", "cross.0"]
    names += ["cross.0.-1", "other.0.0", "cross.0.0.0", f"cross.0.{'1' * 300}"]
    for name in names:
        with pytest.raises(ConfigError, match=r"heads_off=[^\n]*: the model has no such"):
            load([], [*layers, f"generation.heads_off=[{name}]"])


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
    if not text.startswith("["):
        assert getattr(getattr(load([], [f"{key}={text}"]), section), name) == text


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
