"""Every knob of an experiment: its name, type, default and meaning stand here, once.

Nothing here imports torch, so that a mistake is answered at once.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import json
import math
import re
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

Schedule = Literal["cosine", "inverse_sqrt", "constant"]
Architecture = Literal["transformer", "gpt", "recurrent"]
Attention = Literal["dot_product", "query_key_norm", "additive"]
Positions = Literal["sinusoidal", "learned", "rotary", "alibi", "none"]
Norm = Literal["layernorm", "rmsnorm", "none"]
Activation = Literal["relu", "gelu", "swiglu"]
Tie = Literal["all", "output", "none"]
Cell = Literal["gru", "lstm"]
NormPosition = Literal["pre", "post"]
RougeType = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
ReferenceRule = Literal["mean", "max", "best-by-rouge1"]
Unit = Literal["sentence", "line"]

BASELINES = ["lead-1", "lead-3", "longest-3", "random-3", "oracle-3"]
OURS = {
    "logger",
    "callbacks",
    "default_root_dir",
    "enable_checkpointing",
    "enable_progress_bar",
    "plugins",
    "use_distributed_sampler",
}  # Trainer arguments that we set
TRAINER_DEFAULTS = {
    "devices": 1,
    "max_steps": 2000,
    "max_epochs": -1,
    "val_check_interval": 200,
    "check_val_every_n_epoch": None,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
}


LONGEST_LINE = 2000  # characters of an error


class ConfigError(ValueError):
    """A mistake in a config, said in one line that names the key, the value and what would be legal."""

    def __init__(self, message: str) -> None:
        """Make one line of the message, whatever values it quotes, and not too long a one."""
        line = " ".join(message.split())
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        super().__init__(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ...")


class RunError(RuntimeError):
    """What ended a run and is no mistake in its config, said in one line."""


def user_path(name: str, text: str) -> Path:
    """Return a path that a user wrote, with ``~`` expanded.

    Raises:
        ConfigError: it is no path, or its home directory is unknown; the message names the key.
    """
    try:
        if "\0" in text:
            raise ConfigError(f"{name}={text}: a path without NUL characters is needed")
        path = Path(text).expanduser()
        path.exists()
        return path
    except OSError as error:
        raise ConfigError(f"{name}={text}: {error.strerror or error}; legal: a path") from None
    except RuntimeError:
        raise ConfigError(f"{name}={text}: the home directory is unknown; legal: a path without ~") from None


def key(default: Any, meaning: str, *, at_least: float | None = None, below: float | None = None) -> Any:
    """Declare a knob: its default, its one-line meaning and, for a number, its range."""
    metadata = {"meaning": meaning, "at_least": at_least, "below": below}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the sections share: a number outside its declared range is refused."""

    def __post_init__(self) -> None:
        """Check every number against its range, and that no text is empty."""
        prefix = type(self).__name__.removesuffix("Config").lower()
        for knob in fields(self):
            value = getattr(self, knob.name)
            texts = value if isinstance(value, list) else [value]
            if any(isinstance(text, str) and not text.strip() for text in texts):
                legal = "null, or a text" if knob.default is None else "a text that is not empty"
                if knob.name.endswith("_split") and knob.name != "train_split":
                    legal = "the name of a split, or null to carve one out of the training split"
                raise ConfigError(f"{prefix}.{knob.name}={value} is empty; legal: {legal}")
        for knob in fields(self):
            value, low, high = getattr(self, knob.name), *map(knob.metadata.get, ("at_least", "below"))
            if not isinstance(value, int | float):
                continue
            high = math.inf if high is None else high
            if (low is not None and not value >= low) or not value < high:
                legal = f"at least {low}" + (f" and below {high}" if high < math.inf else "")
                name = f"{prefix}.{knob.name}" if prefix else knob.name
                raise ConfigError(f"{name}={value} is out of range: {legal}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """The summarizer: its architecture, its heads by place, and what its layers are made of."""

    architecture: Architecture = key("transformer", "encoder-decoder, decoder-only, or recurrent encoder-decoder")
    attention: Attention = key("dot_product", "how a query is matched with a key; recurrent is additive")
    embedding_size: int = key(256, "width of every token's vector", at_least=1)
    num_heads: int = key(4, "heads of every attention block", at_least=1)
    encoder_heads: int = key("${model.num_heads}", "heads of the encoder's self-attention", at_least=1)
    decoder_heads: int = key("${model.num_heads}", "heads of the decoder's self-attention", at_least=1)
    cross_heads: int = key("${model.num_heads}", "heads of cross-attention; of additive attention", at_least=1)
    head_dim: int | None = key(None, "width of each head; null: embedding_size / heads", at_least=1)
    num_kv_heads: int | None = key(None, "key-value heads, which divide the heads; null: as many", at_least=1)
    encoder_kv_heads: int | None = key("${model.num_kv_heads}", "those of the encoder's self-attention", at_least=1)
    decoder_kv_heads: int | None = key("${model.num_kv_heads}", "those of the decoder's self-attention", at_least=1)
    cross_kv_heads: int | None = key("${model.num_kv_heads}", "those of cross-attention", at_least=1)
    encoder_layers: int = key(3, "layers that read the document; gpt has none", at_least=0)
    decoder_layers: int = key(3, "layers that write the summary", at_least=1)
    feedforward_size: int = key(1024, "hidden width of a Transformer's feed-forward blocks", at_least=1)
    activation: Activation = key("gelu", "of a Transformer's feed-forward blocks")
    norm: Norm = key("layernorm", "kind of norm; recurrent has none")
    norm_position: NormPosition = key("pre", "where a Transformer's norms stand: before blocks or after")
    positions: Positions = key("sinusoidal", "how a token's place is told to the model; recurrent knows it")
    cell: Cell = key("gru", "cell of recurrent layers")
    copying: bool = key(False, "pointer-generator: the next token may come from the document by its attention")
    coverage: float = key(0.0, "weight of the loss on looking at the same token again; needs copying", at_least=0)
    dropout: float = key(0.1, "dropout of embeddings and residual branches", at_least=0, below=1)
    attention_dropout: float = key(0.0, "dropout of attention weights", at_least=0, below=1)
    tie_embeddings: Tie = key("all", "one matrix for documents, summaries and output, for the last two, or none")

    def __post_init__(self) -> None:
        """Check that the settings go together."""
        Section.__post_init__(self)
        if isinstance(self.encoder_heads, str):
            return  # the schema itself, in which it is still to be looked up
        for name, legal in self._only().items():
            value = getattr(self, name)
            if value not in legal:
                shown = ", ".join("null" if choice is None else str(choice) for choice in legal)
                raise ConfigError(
                    f"model.{name}={value} does not go with model.architecture={self.architecture}; legal: {shown}"
                )
        if self.coverage and not self.copying:
            raise ConfigError(f"model.coverage={self.coverage} does not go with model.copying=False; legal: 0")
        if self.architecture == "recurrent" and self.embedding_size % 2:
            raise ConfigError(
                f"model.embedding_size={self.embedding_size} does not go with model.architecture=recurrent, whose "
                "encoder gives half of it to either direction; legal: even numbers"
            )
        used = {"transformer": ("encoder", "decoder", "cross"), "gpt": ("decoder",), "recurrent": ("cross",)}
        for place in used[self.architecture]:
            self._check_heads(place)

    def _only(self) -> dict[str, tuple[Any, ...]]:
        """Return, for the keys in which the architecture leaves less than every choice, what is legal."""
        depths = tuple(range(1, max(2, self.encoder_layers + 1)))
        stacked = {
            "norm": tuple(norm for norm in get_args(Norm) if norm != "none"),
            "attention": tuple(kind for kind in get_args(Attention) if kind != "additive"),
        }
        if self.architecture == "transformer":
            return {"encoder_layers": depths, **stacked}
        unused = ["encoder"] + (["cross"] if self.architecture == "gpt" else ["decoder"])
        following = {f"{place}_heads": (self.num_heads,) for place in unused}
        following_kv = {f"{place}_kv_heads": (self.num_kv_heads,) for place in unused}
        if self.architecture == "gpt":
            choices = {"encoder_layers": (0,), "tie_embeddings": ("all", "none")}
            return {**choices, **stacked, **following, **following_kv}
        none = ("head_dim", "num_kv_heads", "encoder_kv_heads", "decoder_kv_heads", "cross_kv_heads")
        alone = {"attention": ("additive",), "norm": ("none",), "positions": ("none",), "attention_dropout": (0.0,)}
        return {"encoder_layers": depths, **alone, **following, **dict.fromkeys(none, (None,))}

    def _check_heads(self, place: str) -> None:
        heads, kv_heads = getattr(self, f"{place}_heads"), getattr(self, f"{place}_kv_heads")
        heads_key = "num_heads" if heads == self.num_heads else f"{place}_heads"
        kv_key = "num_kv_heads" if kv_heads == self.num_kv_heads else f"{place}_kv_heads"
        if self.head_dim is None and self.embedding_size % heads:
            legal = _divisors(self.embedding_size)
            raise ConfigError(
                f"model.{heads_key}={heads} does not divide model.embedding_size={self.embedding_size}; "
                f"legal: {', '.join(map(str, legal))}, or any with a model.head_dim"
            )
        if kv_heads is not None and heads % kv_heads:
            legal = _divisors(heads)
            raise ConfigError(
                f"model.{kv_key}={kv_heads} does not divide model.{heads_key}={heads}; "
                f"legal: {', '.join(map(str, legal))}"
            )
        width = self.head_dim or self.embedding_size // heads
        if self.positions == "rotary" and width % 2 and place != "cross":
            raise ConfigError(
                f"model.positions=rotary does not go with model.{heads_key}={heads}, whose heads are {width} wide; "
                "legal: an even width"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Where the pairs come from and how they are batched."""

    path: str = key("docstrings", "docstrings, a Hugging Face hub id, or a local file or folder")
    name: str | None = key(None, "configuration of the hub data set")
    revision: str | None = key(None, "commit or branch of the hub data set")
    document_columns: list[str] = key(["document"], "the document is the first of these there is; a.b is nested")
    summary_columns: list[str] = key(["summary"], "likewise the summary; a list in it is several references")
    reference_columns: list[str] = key([], "all of these columns that there are hold further references")
    train_split: str = key("train", "name of the training split")
    validation_split: str | None = key("validation", "name of the validation split; null: carved out of training")
    test_split: str | None = key("test", "name of the test split; null: carved out of training")
    carved_examples: int = key(1000, "examples of a carved split", at_least=1)
    carving_seed: int = key(0, "decides which examples are carved out", at_least=0)
    streaming: bool = key(False, "read training pairs as they come, for a set larger than memory or disk")
    shuffle_buffer: int = key(10_000, "pairs of a stream among which the next one is drawn", at_least=1)
    max_document_tokens: int = key(512, "longer documents are cut, and counted", at_least=2)
    max_summary_tokens: int = key(64, "longer training summaries are cut, and counted", at_least=2)
    batch_tokens: int = key(4096, "a training batch holds up to this many tokens of both sides", at_least=1)
    length_pools: int = key(
        0, "sort by length within pools of this many batches, for a model that has to pad; 0: no sorting", at_least=0
    )
    num_workers: int = key(0, "processes that make batches ahead; 0: made when asked for", at_least=0)
    cache_dir: str = key("~/.cache/headcount", "prepared data and tokenizers, reused by content")

    def __post_init__(self) -> None:
        """Check that the longest pair fits into a batch."""
        Section.__post_init__(self)
        longest = self.max_document_tokens + self.max_summary_tokens
        if longest > self.batch_tokens:
            raise ConfigError(
                f"data.batch_tokens={self.batch_tokens} is too small for one pair of data.max_document_tokens="
                f"{self.max_document_tokens} and data.max_summary_tokens={self.max_summary_tokens}; legal: at "
                f"least {longest}"
            )
        whole = {"length_pools": self.length_pools > 0}
        whole |= {name: getattr(self, name) is None for name in ("validation_split", "test_split")}
        for name in [name for name, needed in whole.items() if needed and self.streaming]:
            raise ConfigError(f"data.{name}={getattr(self, name)} needs the whole split; legal: data.streaming=False")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Section):
    """Byte-level, trained on the training split alone; or one that is there."""

    algorithm: Literal["bpe", "unigram"] = key("bpe", "how pieces of words are chosen")
    vocabulary_size: int = key(8000, "tokens in the vocabulary, the 256 bytes included", at_least=260)
    training_pairs: int = key(200_000, "pairs of the training split that it is trained on, from the first", at_least=1)
    words: str | None = key(None, "regular expression of what is one word though it has more than letters in it")
    path: str | None = key(None, "tokenizer.json of a pretrained model, to take instead of training one")

    def __post_init__(self) -> None:
        """Check that the regular expression is one."""
        Section.__post_init__(self)
        try:
            re.compile(self.words or "")
        except re.error as error:
            raise ConfigError(f"tokenizer.words={self.words} is not a regular expression: {error}") from None


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Section):
    """AdamW and the learning rate over time."""

    learning_rate: float = key(1e-3, "peak learning rate", at_least=0)
    schedule: Schedule = key("cosine", "what follows the warm-up")
    warmup_steps: int = key(200, "steps of linear warm-up", at_least=0)
    weight_decay: float = key(0.01, "AdamW's, on matrices only", at_least=0)
    beta1: float = key(0.9, "AdamW's", at_least=0, below=1)
    beta2: float = key(0.98, "AdamW's", at_least=0, below=1)
    averaging: float = key(
        0.0,
        "what a moving average of the weights keeps of itself at a step; it validates and writes; 0: none",
        at_least=0,
        below=1,
    )
    label_smoothing: float = key(0.1, "probability mass spread over the vocabulary in the loss", at_least=0, below=1)


@dataclass(frozen=True, kw_only=True)
class DecodingConfig(Section):
    """How summaries are written; validation writes greedily."""

    strategy: Literal["greedy", "beam", "sample"] = key("greedy", "the likeliest token, the likeliest text, or drawn")
    max_tokens: int = key("${data.max_summary_tokens}", "longest summary, its end token included", at_least=1)
    min_tokens: int = key(0, "shortest summary, its end token included", at_least=0)
    no_repeat_ngram: int = key(0, "no run of this many words twice in a summary; 3 is trigram blocking", at_least=0)
    repetition_penalty: float = key(1.0, "multiplies the log-probability of tokens written before", at_least=1)
    beams: int = key(4, "beam: hypotheses kept of each document", at_least=1)
    groups: int = key(1, "beam: groups of diverse beam search; they divide beams", at_least=1)
    diversity: float = key(0.0, "beam: taken off a token's score for each group that just chose it", at_least=0)
    length_penalty: Literal["wu", "average", "none"] = key("wu", "beam: what a score is divided by")
    length_alpha: float = key(1.0, "beam: exponent of the length penalty", at_least=0)
    coverage_penalty: float = key(0.0, "beam: weight of what of the document was not looked at", at_least=0)
    temperature: float = key(1.0, "sample: below 1 sharpens, above 1 flattens", at_least=1e-3)
    top_k: int = key(0, "sample: only the likeliest k; 0: all", at_least=0)
    top_p: float = key(1.0, "sample: only the likeliest that reach p together; 1: all", at_least=0, below=1.0001)
    returned: int = key(1, "summaries of each document, with scores", at_least=1)
    long_documents: Literal["truncate", "split"] = key(
        "truncate", "those beyond data.max_document_tokens are cut, or read in windows whose summaries are joined"
    )
    precision: Literal["float32", "bfloat16"] = key("float32", "of the weights that write test and new summaries")
    batch_size: int = key(64, "documents decoded together", at_least=1)

    def __post_init__(self) -> None:
        """Check that the settings go together."""
        Section.__post_init__(self)
        if self.diversity and self.groups == 1:
            raise ConfigError(f"decoding.diversity={self.diversity} does nothing with decoding.groups=1; legal: 0")
        if self.beams % self.groups:
            legal = _divisors(self.beams)
            raise ConfigError(
                f"decoding.groups={self.groups} does not divide decoding.beams={self.beams}; "
                f"legal: {', '.join(map(str, legal))}"
            )
        if self.returned > 1 and self.long_documents == "split":
            raise ConfigError(
                f"decoding.returned={self.returned} does not go with decoding.long_documents=split, which joins "
                "summaries; legal: 1"
            )
        most = {"greedy": 1, "beam": self.beams, "sample": self.returned}[self.strategy]
        if self.returned > most:
            raise ConfigError(
                f"decoding.returned={self.returned} is more than decoding.strategy={self.strategy} finds; "
                f"legal: at most {most}"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """Validation and scores."""

    validation_examples: int = key(256, "size of the fixed validation sample", at_least=1)
    select_by: RougeType = key("rougeL", "validation score that chooses the checkpoint")
    references: ReferenceRule = key("mean", "what several references make of a score")
    baselines: list[str] = key(BASELINES, "in the table of scores; K is a number of units")
    unit: Unit = key("sentence", "what baselines take from a document")

    def __post_init__(self) -> None:
        """Check the names of the baselines."""
        Section.__post_init__(self)
        for name in self.baselines:
            if not re.fullmatch(r"(lead|longest|random|oracle)-[1-9]\d*", name):
                raise ConfigError(
                    f"evaluation.baselines={name} is not a baseline; legal: lead-K, longest-K, random-K and oracle-K"
                )


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Section):
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = key("auto", "auto: online where a key is configured")
    project: str = key("headcount", "W&B project")
    entity: str | None = key(None, "W&B user or team")
    group: str | None = key(None, "W&B group")
    name: str | None = key(None, "W&B run name; null: the run folder's")
    tags: list[str] = key([], "W&B tags")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """The run folder."""

    directory: str = key("runs", "run folders are made in here")
    name: str | None = key(None, "run folder is NAME-1, NAME-2, ...; null: the names of the config files")
    folder: str | None = key(None, "the run folder itself; null: one in run.directory, by its name")

    def __post_init__(self) -> None:
        """Check that the name stays within the directory."""
        Section.__post_init__(self)
        if self.name is not None and not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ConfigError(f"run.name={self.name} is not a folder's name; legal: letters, digits, '_', '-' and '.'")


@dataclass(frozen=True, kw_only=True)
class Config(Section):
    """Everything that a run depends on."""

    seed: int = key(0, "seeds initialization, data order and dropout", at_least=0, below=2**32)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    run: RunConfig = field(default_factory=RunConfig)
    trainer: dict[str, Any] = key(TRAINER_DEFAULTS, "handed to pytorch_lightning.Trainer")

    def __post_init__(self) -> None:
        """Check ``trainer`` against the signature of Lightning's Trainer."""
        Section.__post_init__(self)
        _check_trainer(self.trainer)
        if self.data.streaming and self.trainer.get("max_steps", -1) < 0:
            raise ConfigError(
                "trainer.max_steps=-1 does not go with data.streaming=True, which has no end; legal: steps"
            )
        gpt = self.model.architecture == "gpt"
        room = self.data.max_summary_tokens if gpt else self.max_positions
        if self.decoding.min_tokens > self.decoding.max_tokens:
            raise ConfigError(
                f"decoding.min_tokens={self.decoding.min_tokens} is more than decoding.max_tokens="
                f"{self.decoding.max_tokens}; legal: at most {self.decoding.max_tokens}"
            )
        if self.decoding.max_tokens > room:
            raise ConfigError(
                f"decoding.max_tokens={self.decoding.max_tokens} is beyond the model's positions, which data."
                f"max_document_tokens and data.max_summary_tokens decide; legal: at most {room}"
            )

    @property
    def max_positions(self) -> int:
        """Positions that the model must know: the longest document or summary; for gpt, both together."""
        lengths = self.data.max_document_tokens, self.data.max_summary_tokens
        return sum(lengths) if self.model.architecture == "gpt" else max(lengths)


@cache
def _trainer_signature() -> dict[str, set[str] | None]:
    """Read the arguments of Lightning's Trainer and their plain types, without importing Lightning (4 s).

    Returns:
        For each argument the names of its types, or None where one of them is not a plain type.
    """
    package = importlib.util.find_spec("pytorch_lightning")
    if package is None or package.origin is None:
        raise ConfigError("pytorch-lightning is not installed; see requirements.txt")
    source = Path(package.origin).parent / "trainer" / "trainer.py"
    plain = {"int": "int", "float": "float", "str": "str", "bool": "bool", "None": "NoneType", "list": "list"}
    signature: dict[str, set[str] | None] = {}
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            for argument in node.args.kwonlyargs:
                text = ast.unparse(argument.annotation) if argument.annotation else "Any"
                text = re.sub(r"(list|dict)\[[^\]]*\]", r"\1", text)
                names = set(re.findall(r"\w+", text.replace("Optional", "None"))) - {"Union", "timedelta", "dict"}
                signature[argument.arg] = {plain[n] for n in names} if names <= plain.keys() else None
            break
    return signature


def _check_trainer(trainer: dict[str, Any]) -> None:
    signature = _trainer_signature()
    for name, value in trainer.items():
        if name in OURS:
            raise ConfigError(f"trainer.{name}={value} is not yours to set: headcount sets it")
        if name not in signature:
            raise ConfigError(
                f"trainer.{name}={value}: unknown key; {legal_names(name, sorted(set(signature) - OURS))}"
            )
        types = signature[name]
        kind = type(value).__name__
        try:
            json.dumps(value)
        except TypeError:
            legal = "text, numbers, and lists and mappings of those"
            raise ConfigError(f"trainer.{name}={value}: wrong type {kind}; legal: {legal}") from None
        if types and not (kind in types or kind == "dict" or (kind == "int" and "float" in types)):
            legal = " or ".join(sorted(types)).replace("NoneType", "null")
            raise ConfigError(f"trainer.{name}={value}: wrong type {kind}; legal: {legal}")
    steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs", -1)
    if steps >= 0 and epochs is not None and epochs >= 0:
        raise ConfigError(
            f"trainer.max_steps={steps} and trainer.max_epochs={epochs} are two budgets; set one of them to -1"
        )
    if steps < 0 and (epochs is None or epochs < 0) and not trainer.get("fast_dev_run"):
        raise ConfigError(f"trainer.max_steps={steps} and trainer.max_epochs={epochs} are no budget; set one of them")


def _divisors(number: int) -> list[int]:
    """Return the divisors of a number that anybody would want, the number of heads of a layer, say."""
    return [n for n in range(1, min(number, 1024) + 1) if number % n == 0]


def legal_names(name: str, names: list[str]) -> str:
    """Return the name that was probably meant, or all that are legal."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"legal: {', '.join(names)}"
