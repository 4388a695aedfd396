"""Make a config.

The schema, then each YAML file from left to right, then ``key=value`` from the command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from headcount.config.schema import Config
from headcount.config.sections.stages import StageConfig
from headcount.config.shipped import find_config
from headcount.errors import ConfigError, legal_names

MAX_YAML_DEPTH = 20  # levels of a YAML file
# The same in C, several times as fast; PyYAML may be built without it.
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BASE_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
TEXT_TYPES = (str, str | None, list[str])  # of keys whose values are text
NULLS = ("null", "~", "None", "")  # on the command line, where a text may be missing
DECIMAL = re.compile(r"[+-]?0[0-9]+")  # a number with leading zeros
LEGAL_TEXTS = "legal: a list of texts, as in [a, b]"
RENAMED = {  # earlier names of keys and sections
    "decoding": "generation",
    "beams": "num_beams",
    "groups": "num_beam_groups",
    "diversity": "diversity_penalty",
    "returned": "num_return_sequences",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "length_alpha": "length_penalty_alpha",
    "averaging": "ema_decay",
}

# The ``config.json`` of an export is a config like any other, with these keys besides: the version
# of its format, and what the transformers library needs to know the model.
EXPORT_FORMAT = 1
MODEL_TYPE = "headcount"  # of the models of headcount.hf
HUB_KEYS = (
    "model_type",
    "architectures",
    "is_encoder_decoder",
    "vocab_size",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "transformers_version",
    "dtype",
    "use_cache",
)


def load(files: list[str], overrides: list[str], *, where: str = "command line") -> Config:
    """Merge the schema, the files and the overrides.

    Args:
        files: YAML files, or names of the package's; a later one wins.
        overrides: ``key=value`` each; they win over the files.
        where: the overrides come from, for messages.

    Returns:
        The checked config.

    Raises:
        ConfigError: one line that says where, which key, which value, and what would be legal.
    """
    _forbid_environment()
    files = [find_config(file) for file in files]

    # One layer for each file and one for the overrides.
    layers = _Layers({"run": {"name": _run_name(files)}})
    for file in files:
        with layers.source(file):
            given = _read_texts(file)
            if isinstance(given, DictConfig):
                _remove_export_keys(given, file)
            layers.add(given, file)
    if overrides:
        with layers.source(where):
            _check_assignments(overrides, where)
            layers.add(_parse_overrides(overrides), where)
    return layers.to_config()


def _forbid_environment() -> None:
    """Let no config read the environment, where keys and passwords are: somebody else may have
    written it."""
    OmegaConf.clear_resolver("oc.env")


def _run_name(files: list[str]) -> str:
    """Return the default name of a run, from the names of its files; a preset and the recipe for
    it share theirs."""
    stems = "-".join(dict.fromkeys(Path(file).stem for file in files))
    return re.sub(r"[^\w.-]", "_", stems).lstrip(".-")[:100] or "run"


def _check_assignments(overrides: list[str], where: str) -> None:
    """Check that each override is ``key=value``."""
    for override in overrides:
        if not re.match(r"\w+(\.\w+)*=", override):
            raise ConfigError(f"{where}: {override}: not a setting; legal: KEY=VALUE")


class _Layers:
    """The settings of several sources, each on top of the earlier ones.

    It remembers where each key was set, for messages.

    Args:
        defaults: the lowest layer, on top of the schema.
    """

    def __init__(self, defaults: dict[str, Any]) -> None:
        self.merged = OmegaConf.merge(_structured(Config), defaults)
        self.sources: list[str] = []
        self.source_of: dict[str, str] = {}  # by key
        self.required: dict[str, str] = {}  # keys that are ??? in a file, and that file

    @contextmanager
    def source(self, where: str) -> Iterator[None]:
        """Name a source, and report every error within a ``with`` statement as one of it."""
        self.sources.append(where)
        try:
            yield
        except (
            OmegaConfBaseException,
            yaml.YAMLError,
            OSError,
            ValueError,
            TypeError,
            RecursionError,
        ) as error:
            raise _one_line(error, where) from None

    def add(self, given: DictConfig | ListConfig, where: str) -> None:
        """Check the names of settings, and merge them over the earlier ones."""
        for name in _remove_required(given):
            self.required.setdefault(name, where)
        names = list(_check_keys(OmegaConf.to_container(given), Config, where))
        # Neither is used again. A copy of both would take a third of the time of loading.
        self.merged = OmegaConf.unsafe_merge(self.merged, given)
        self.source_of.update(dict.fromkeys(names, where))

    def to_config(self) -> Config:
        """Return the config, after the checks of types, of ranges and across keys."""
        self._check_required()
        try:
            config = OmegaConf.to_object(self.merged)
        except (OmegaConfBaseException, ConfigError) as error:
            raise _one_line(error, self._sources_of(str(error))) from None
        assert isinstance(config, Config)
        return config

    def _check_required(self) -> None:
        """Check that what a recipe leaves open was set by another source."""
        missing = [name for name in self.required if name not in self.source_of]
        if missing:
            file = self.required[missing[0]]
            raise ConfigError(
                f"{file}: {', '.join(missing)} must be set by another file, or on the command "
                f"line; legal: a preset such as configs/data/{Path(file).name}, or "
                f"{missing[0]}=VALUE"
            )

    def _sources_of(self, message: str) -> str:
        """Return where the keys that a message names were set; all sources if none of them was."""
        found = []
        for name in re.findall(r"[a-z]+\.\w+|seed", message):
            if name in self.source_of:
                found.append(self.source_of[name])
        return ", ".join(dict.fromkeys(found or self.sources))


def from_dict(plain: dict[str, Any], where: str) -> Config:
    """Return the config of a nested dict that ``as_dict`` made, or of an export's ``config.json``.

    Args:
        plain: the nested dict.
        where: it was found, for messages.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    _forbid_environment()
    try:
        plain = dict(plain)
        _remove_export_keys(plain, where)
        for _ in _check_keys(plain, Config, where):
            pass
        config = OmegaConf.to_object(OmegaConf.merge(_structured(Config), plain))
    except (OmegaConfBaseException, ConfigError, ValueError, TypeError, AttributeError) as error:
        raise _one_line(error, where) from None
    assert isinstance(config, Config)
    return config


@cache
def _type_hints(section: Any) -> dict[str, Any]:
    """Return the types of a section's keys, which are resolved once."""
    return get_type_hints(section)


def _declared_keys(section: Any = Config, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each key of the schema: dotted name, type and dataclass field."""
    hints = _type_hints(section)
    for declared in fields(section):
        if is_dataclass(hints[declared.name]):
            yield from _declared_keys(hints[declared.name], f"{prefix}{declared.name}.")
        else:
            yield prefix + declared.name, hints[declared.name], declared


def _check_keys(given: Any, schema: Any, source: str, prefix: str = "") -> Iterator[str]:
    """Reject unknown keys; yield the dotted name of each key that is set."""
    if not isinstance(given, dict):
        what = f"{prefix.rstrip('.')}={given}: wrong type" if prefix else "wrong type"
        names = ", ".join(declared.name for declared in fields(schema))
        raise ConfigError(f"{source}: {what} {type(given).__name__}; legal: a mapping of {names}")

    hints = _type_hints(schema)
    for name, value in given.items():
        full = f"{prefix}{name}"
        if name not in hints:
            raise ConfigError(
                f"{source}: {full}={value}: unknown key; {_suggest(str(name), list(hints))}"
            )

        # Sections have keys of their own, and so have stages and the trainer's arguments.
        if is_dataclass(hints[name]):
            yield from _check_keys(value, hints[name], source, f"{full}.")
        elif name == "stages":
            _check_stages(value, source)
            yield full
        elif name == "trainer" and isinstance(value, dict):
            yield from (f"{full}.{argument}" for argument in value)
        else:
            yield full


def _check_stages(stages: Any, source: str) -> None:
    """Reject what is no list of stages, and unknown keys in one."""
    if not isinstance(stages, list):
        raise ConfigError(
            f"{source}: stages={stages}: wrong type {type(stages).__name__}; legal: a list"
        )
    for number, stage in enumerate(stages):
        for _ in _check_keys(stage, StageConfig, source, f"stages[{number}]."):
            pass


def _suggest(name: str, names: list[str]) -> str:
    renamed = RENAMED.get(name)
    return f"did you mean {renamed}?" if renamed in names else legal_names(name, names)


def _remove_export_keys(given: DictConfig | dict[str, Any], where: str) -> None:
    """Remove what the ``config.json`` of an export has beside the settings."""
    if "format_version" not in given:
        return
    version = given.pop("format_version")
    if version != EXPORT_FORMAT:
        raise ConfigError(
            f"{where}: format_version={version} is not known here; legal: {EXPORT_FORMAT}"
        )
    for name in HUB_KEYS:
        given.pop(name, None)


def _remove_required(given: Any) -> list[str]:
    """Remove the keys whose value is ``???`` from a file's settings, and return their names."""
    names: list[str] = []
    settings: Any = OmegaConf.to_container(given)
    if not isinstance(settings, dict):
        return names
    for section, keys in settings.items():
        if not isinstance(keys, dict):
            continue
        for key, value in keys.items():
            if value == "???":
                del given[section][key]
                names.append(f"{section}.{key}")
    return names


def _read_texts(file: str) -> DictConfig | ListConfig:
    """Read a YAML file, in which a key of text keeps its text as it is written.

    YAML would make a boolean of ``no`` and a number of ``0012345`` or ``12e4567``; and of the
    number ``010`` it would make 8.
    """
    given = read_yaml(file)
    if isinstance(given, DictConfig):
        texts = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=BASE_LOADER)
        # A file that holds only "null" is an empty config, and a text to this loader.
        if not isinstance(texts, dict):
            return given
        for name, kind, _ in _declared_keys():
            _restore_text(given, texts, name, kind)
        for name in _names_of_trainer(given):
            _restore_text(given, texts, name, int)
    return given


def _names_of_trainer(given: DictConfig) -> list[str]:
    """Return the names of the Trainer's arguments that are set, with their section."""
    plain: Any = OmegaConf.to_container(given)
    trainer = plain.get("trainer") if isinstance(plain, dict) else None
    return [f"trainer.{name}" for name in trainer] if isinstance(trainer, dict) else []


def _parse_overrides(overrides: list[str]) -> DictConfig:
    """Parse ``key=value`` settings; a key of text takes the text as it is written.

    Raises:
        ConfigError: a value is no YAML, or no list of texts where one is needed.
    """
    given = OmegaConf.create()
    kinds = _kinds()
    for override in overrides:
        name, _, text = override.partition("=")
        kind = kinds.get(name)

        # Text is not YAML, in which a regular expression such as [a-z]+ is a broken list; but YAML
        # is right about a missing value and a quoted one.
        if kind in (str, str | None) and not _is_quoted(text):
            is_null = text.strip() in NULLS and kind == str | None
            OmegaConf.update(given, name, None if is_null else text)
            continue

        # Other values are YAML, in which numbers with leading zeros would be octal.
        if DECIMAL.fullmatch(text):
            override = f"{name}={int(text)}"
        try:
            given.merge_with_dotlist([override])
            if kind == list[str]:
                texts = _nest(name, yaml.load(text, Loader=BASE_LOADER))
                _restore_text(given, texts, name, kind)
        except yaml.YAMLError as error:
            legal = LEGAL_TEXTS if kind == list[str] else "legal: a value of YAML, such as [1, 2]"
            reason = getattr(error, "problem", None) or error
            raise ConfigError(f"{override}: not YAML: {reason}; {legal}") from None
    return given


def _is_quoted(text: str) -> bool:
    return text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1


def _nest(name: str, value: Any) -> dict[str, Any]:
    section, _, key = name.partition(".")
    return {section: {key: value}} if key else {section: value}


def _restore_text(given: DictConfig, texts: Any, name: str, kind: Any) -> None:
    """Put the text of a key in place of what YAML made of it.

    Args:
        given: the parsed settings; they are changed.
        texts: the same, parsed with every value as text.
        name: of the key, with dots.
        kind: its declared type.

    Raises:
        ConfigError: the key needs a list of texts, and has something else.
    """
    # The key in both, if it was set at all.
    section, _, key = name.rpartition(".")
    inner = given.get(section) if section else given
    inner_texts = texts.get(section) if section else texts
    if not isinstance(inner, DictConfig) or not isinstance(inner_texts, dict) or key not in inner:
        return
    values: Any = OmegaConf.to_container(inner)
    value = values[key]
    text = inner_texts.get(key)

    # A list is replaced as a whole, a text only where YAML made something else of it.
    if kind == list[str]:
        is_text = isinstance(text, list) and all(isinstance(item, str) for item in text)
        if is_text:
            inner[key] = text
        elif "${" not in str(text):
            shown = text if isinstance(text, str) else value
            raise ConfigError(f"{name}={shown}: not a list of texts; {LEGAL_TEXTS}")
    elif kind in TEXT_TYPES:
        if isinstance(text, str) and isinstance(value, bool | int | float):
            inner[key] = text

    # A number with leading zeros is decimal, and octal to YAML.
    elif isinstance(value, int) and isinstance(text, str) and DECIMAL.fullmatch(text):
        inner[key] = int(text)


def restore_texts(given: Any, texts: Any, key: str = "") -> Any:
    """Return the content of a file whose keys are those of the config, with dots, at any depth:
    with the text of keys of text, and with decimal numbers, as it is written.

    Args:
        given: the parsed content.
        texts: the same, parsed with every value as text.
        key: the key that the content belongs to.
    """
    if isinstance(given, dict) and isinstance(texts, dict):
        return {name: restore_texts(given[name], texts.get(str(name)), name) for name in given}
    if isinstance(given, list) and isinstance(texts, list) and len(given) == len(texts):
        return [restore_texts(*pair, key) for pair in zip(given, texts, strict=True)]
    if not isinstance(texts, str) or not isinstance(given, bool | int | float):
        return given
    if _kinds().get(key) in TEXT_TYPES:
        return texts
    return int(texts) if isinstance(given, int) and DECIMAL.fullmatch(texts) else given


@cache
def _kinds() -> dict[str, Any]:
    """Return the declared type of each key."""
    return {name: kind for name, kind, _ in _declared_keys()}


def sort_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the files and folders, and the overrides, among arguments.

    What begins with a key of the schema and ``=`` is an override, also where a file has that name.
    A path may have a ``=`` in it, as the folders of a study's cells do.
    """
    sections = {declared.name for declared in fields(Config)}

    def is_override(argument: str) -> bool:
        key, equals, _ = argument.partition("=")
        return bool(equals) and (key.split(".")[0] in sections or not os.path.exists(argument))

    files = [argument for argument in arguments if not is_override(argument)]
    return files, [argument for argument in arguments if is_override(argument)]


def sort_texts(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the texts and the overrides among arguments.

    Only what begins with a key of the schema and ``=`` is an override: a text may have a ``=``.
    """
    sections = "|".join(declared.name for declared in fields(Config))
    override = re.compile(rf"({sections})(\.\w+)*=")
    texts = [argument for argument in arguments if not override.match(argument)]
    return texts, [argument for argument in arguments if override.match(argument)]


def read_yaml(file: str | Path) -> DictConfig | ListConfig:
    """Read a YAML file.

    Raises:
        ConfigError: it is nested as no config is, and as would overflow the parser's stack.
        OSError: it cannot be read.
        ValueError: it is no UTF-8.
        yaml.YAMLError: it is no YAML.
        OmegaConfBaseException: OmegaConf rejects it.
    """
    text = Path(file).read_text(encoding="utf-8")
    depth = 0
    for event in yaml.parse(text, Loader=SAFE_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_YAML_DEPTH:
            line = event.start_mark.line + 1
            raise ConfigError(f"{file}:{line}: nested too deeply; legal: {MAX_YAML_DEPTH} levels")
    return OmegaConf.load(file)


@cache
def _structured(config: type[Config]) -> DictConfig:
    return OmegaConf.structured(config)


def as_dict(config: Config) -> dict[str, Any]:
    """Return a config as a nested dict of plain values, as YAML files and checkpoints hold it."""
    return asdict(config)


def flatten(plain: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested dict as dotted names and values."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def changed(config: Config) -> dict[str, Any]:
    """Return what of a resolved config differs from the defaults, as dotted names and values."""
    known = flatten(as_dict(config))
    defaults = flatten(OmegaConf.to_container(_structured(Config)))

    # A default may be the value of another key: ${model.num_heads}.
    for key, value in defaults.items():
        if isinstance(value, str) and value.startswith("${"):
            defaults[key] = known[value[2:-1]]
    return {
        key: value for key, value in known.items() if key not in defaults or value != defaults[key]
    }


def _one_line(error: Exception, where: str) -> ConfigError:
    """Return an error as one line that begins with where the setting is."""
    if isinstance(error, ConfigError):
        message = str(error)
        if not where:
            return ConfigError(message)
        return error if message.startswith(where) else ConfigError(f"{where}: {message}")

    # OmegaConf explains an error in several lines.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    full_key = getattr(error, "full_key", None)
    message = f"{full_key}: {lines[0]}" if full_key else "; ".join(lines)
    return ConfigError(f"{where}: {message}")


def schema_rows() -> list[tuple[str, str, str, str]]:
    """Return name, type, default and meaning of every key."""
    rows = []
    for name, kind, declared in _declared_keys():
        default = declared.default
        if declared.default_factory is not MISSING:
            default = declared.default_factory()
        shown = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=10**6)
        meaning = declared.metadata["meaning"]
        rows.append((name, _describe_type(kind), shown.splitlines()[0], meaning))
    return rows


def _describe_type(kind: Any) -> str:
    """Return a type in words; of a key with a few legal values, the values."""
    if get_origin(kind) is Literal:
        return " | ".join(get_args(kind))
    if get_origin(kind) is list:
        return f"list[{get_args(kind)[0].__name__}]"
    return str(getattr(kind, "__name__", kind))


def schema() -> str:
    """Return every key with its type, default and meaning, one per line."""
    rows = schema_rows()

    # The trainer's default is too long to align the others with.
    aligned = [row for row in rows if row[0] != "trainer"]
    widths = []
    for column in range(3):
        widths.append(max(len(row[column]) for row in aligned))
    return "\n".join("  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows)


def to_yaml(config: Config) -> str:
    """Return a resolved config as YAML."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)
