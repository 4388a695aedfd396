"""The schema of a config: for each key its name, type, default, range and meaning, each stated
once.

A section is a dataclass. Checks that concern several keys are in its ``__post_init__``. Nothing
here imports torch, so that a mistake is reported at once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from headcount.config.trainer import TRAINER_DEFAULTS, check_trainer
from headcount.errors import ConfigError

OptimizerName = Literal["adamw", "muon"]
Schedule = Literal["cosine", "inverse_sqrt", "constant"]
Objective = Literal["summarize", "gap_sentences", "infill"]
Architecture = Literal["transformer", "gpt", "recurrent"]
Attention = Literal["dot_product", "query_key_norm", "additive"]
Positions = Literal["sinusoidal", "learned", "rotary", "alibi", "none"]
Norm = Literal["layernorm", "rmsnorm", "none"]
Activation = Literal["relu", "gelu", "swiglu"]
Tie = Literal["all", "output", "none"]
Cell = Literal["gru", "lstm"]
NormPosition = Literal["pre", "post"]
SelectionMetric = Literal["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf"]
CorpusMetricName = Literal["bleu", "chrf"]
BleuTokenizer = Literal["13a", "intl", "zh", "char", "none"]
ReferenceRule = Literal["mean", "max", "best-by-rouge1"]
RougeTokenizer = Literal["rouge-score", "unicode", "character"]
SentenceRule = Literal["newline", "split"]
Unit = Literal["sentence", "line"]
HeadGates = Literal["none", "l0", "top_k"]

EVALUATION_METRICS = ("rouge", *get_args(CorpusMetricName))
BASELINES = ["lead-1", "lead-3", "longest-3", "random-3", "oracle-3"]
ATTENTION_SITES = {  # the attention sites of each architecture
    "transformer": ("encoder", "decoder", "cross"),
    "gpt": ("decoder",),
    "recurrent": ("cross",),
}
HEAD_NAME = re.compile(r"(?P<site>[a-z]+)\.(?P<layer>[0-9]{1,6})\.(?P<head>[0-9]{1,6})")


def key(
    default: Any, meaning: str, *, at_least: float | None = None, below: float | None = None
) -> Any:
    """Declare a key.

    Its default, its meaning as ``config --schema`` prints it and, for a number, its range.
    """
    metadata = {"meaning": meaning, "at_least": at_least, "below": below}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of all sections.

    It checks that numbers are in their range and that no text is empty.
    """

    def __post_init__(self) -> None:
        section = type(self).__name__.removesuffix("Config").lower()
        for declared in fields(self):
            name = f"{section}.{declared.name}" if section else declared.name
            value = getattr(self, declared.name)
            _check_text(name, value, optional=declared.default is None)
            if isinstance(value, int | float):
                _check_range(
                    name, value, declared.metadata.get("at_least"), declared.metadata.get("below")
                )


def _check_text(name: str, value: Any, *, optional: bool) -> None:
    texts = value if isinstance(value, list) else [value]
    if not any(isinstance(text, str) and not text.strip() for text in texts):
        return
    legal = "null, or a text" if optional else "a text that is not empty"
    if name in ("data.validation_split", "data.test_split"):
        legal = "the name of a split, or null to carve one out of the training split"
    raise ConfigError(f"{name}={value} is empty; legal: {legal}")


def _check_range(name: str, value: float, at_least: float | None, below: float | None) -> None:
    upper = math.inf if below is None else below
    is_high_enough = at_least is None or value >= at_least
    if is_high_enough and value < upper:  # false for NaN
        return
    legal = f"at least {at_least}" + (f" and below {upper}" if upper < math.inf else "")
    raise ConfigError(f"{name}={value} is out of range: {legal}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """The summarizer.

    Its architecture, the heads of each attention site, and what its layers are built from.
    """

    architecture: Architecture = key(
        "transformer", "encoder-decoder, decoder-only, or recurrent encoder-decoder"
    )
    attention: Attention = key("dot_product", "attention function; recurrent models use additive")
    embedding_size: int = key(
        256, "width of the embeddings and of the residual stream", at_least=1
    )
    num_heads: int = key(4, "number of heads of every attention block", at_least=1)
    encoder_heads: int | list[int] = key(
        "${model.num_heads}",
        "heads of the encoder's self-attention: one number, or a list with one for each layer",
        at_least=1,
    )
    decoder_heads: int | list[int] = key(
        "${model.num_heads}",
        "heads of the decoder's self-attention: one number, or a list",
        at_least=1,
    )
    cross_heads: int | list[int] = key(
        "${model.num_heads}",
        "heads of cross-attention, also of additive attention: one number, or a list",
        at_least=1,
    )
    head_dim: int | None = key(
        None, "width of each head; null: embedding_size / heads", at_least=1
    )
    num_kv_heads: int | None = key(
        None,
        "number of key-value heads, a divisor of the heads; null: one for each head",
        at_least=1,
    )
    encoder_kv_heads: int | list[int] | None = key(
        "${model.num_kv_heads}",
        "key-value heads of the encoder's self-attention: one number, or a list",
        at_least=1,
    )
    decoder_kv_heads: int | list[int] | None = key(
        "${model.num_kv_heads}",
        "key-value heads of the decoder's self-attention: one number, or a list",
        at_least=1,
    )
    cross_kv_heads: int | list[int] | None = key(
        "${model.num_kv_heads}",
        "key-value heads of cross-attention: one number, or a list",
        at_least=1,
    )
    head_mask: dict[str, Any] = key(
        {},
        "which of these heads remain of a pruned model, whose heads keep their width: for each "
        "site a list of 0 and 1 for each layer; headcount prune sets it",
    )
    encoder_layers: int = key(3, "number of encoder layers; gpt has none", at_least=0)
    decoder_layers: int = key(3, "number of decoder layers", at_least=1)
    feedforward_size: int = key(
        1024, "hidden width of a Transformer's feed-forward blocks", at_least=1
    )
    activation: Activation = key("gelu", "activation of a Transformer's feed-forward blocks")
    norm: Norm = key("layernorm", "normalization layer; recurrent models have none")
    norm_position: NormPosition = key(
        "pre", "normalize before each block (pre-norm) or after it (post-norm)"
    )
    positions: Positions = key("sinusoidal", "positional encoding; recurrent models have none")
    cell: Cell = key("gru", "cell of recurrent layers")
    copying: bool = key(
        False, "pointer-generator network: the next token may be copied from the document"
    )
    coverage: float = key(
        0.0,
        "weight of the coverage loss, which penalizes repeated attention; needs copying",
        at_least=0,
    )
    dropout: float = key(0.1, "dropout of embeddings and residual branches", at_least=0, below=1)
    attention_dropout: float = key(0.0, "dropout of attention weights", at_least=0, below=1)
    layer_dropout: float = key(
        0.0,
        "stochastic depth: probability that an example skips a residual branch of a layer in "
        "training; recurrent models have none",
        at_least=0,
        below=1,
    )
    tie_embeddings: Tie = key(
        "all",
        "share one embedding matrix: all (document, summary and output), output (the last two), "
        "or none",
    )
    start_from: str | None = key(
        None,
        "run folder or export whose best weights a training starts from; shapes and tokenizer "
        "must be the same; null: random weights",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if str(self.encoder_heads).startswith("${"):
            return  # the schema itself, before interpolation

        # Keys that the architecture restricts.
        for name, legal in self._legal_values().items():
            value = getattr(self, name)
            if value not in legal:
                shown = ", ".join("null" if choice is None else str(choice) for choice in legal)
                raise ConfigError(
                    f"model.{name}={value} does not go with "
                    f"model.architecture={self.architecture}; legal: {shown}"
                )

        # Keys that need another one.
        if self.coverage and not self.copying:
            raise ConfigError(
                f"model.coverage={self.coverage} does not go with model.copying=False; legal: 0"
            )
        if self.architecture == "recurrent" and self.embedding_size % 2:
            raise ConfigError(
                f"model.embedding_size={self.embedding_size} does not go with "
                "model.architecture=recurrent, whose "
                "encoder gives half of it to either direction; legal: even numbers"
            )

        # Heads of each site and layer.
        for site in ATTENTION_SITES[self.architecture]:
            layers = self.layers_of(site)
            for name in (f"{site}_heads", f"{site}_kv_heads"):
                self._check_list(name, site)
            for layer in range(layers if self._differ(site) else 1):
                self._check_heads(site, layer)
        self._check_head_mask()

    def heads_of(self, site: str, layer: int) -> int:
        """Return the number of heads that a block is built with, before pruning."""
        heads: int | list[int] = getattr(self, f"{site}_heads")
        return heads[layer] if isinstance(heads, list) else heads

    def kv_heads_of(self, site: str, layer: int) -> int:
        """Return the number of key-value heads that a block is built with, before pruning."""
        kv_heads: int | list[int] | None = getattr(self, f"{site}_kv_heads")
        if kv_heads is None:
            return self.heads_of(site, layer)
        return kv_heads[layer] if isinstance(kv_heads, list) else kv_heads

    def head_dim_of(self, site: str, layer: int) -> int:
        """Return the width of the heads of a block."""
        return self.head_dim or self.embedding_size // self.heads_of(site, layer)

    def kept_heads(self, site: str, layer: int) -> list[int] | None:
        """Return which heads of a block remain, by their indices before pruning; None: all."""
        if site not in self.head_mask:
            return None
        return [index for index, kept in enumerate(self.head_mask[site][layer]) if kept]

    def heads_left(self, site: str, layer: int) -> int:
        """Return the number of heads of a block, after pruning."""
        kept = self.kept_heads(site, layer)
        return self.heads_of(site, layer) if kept is None else len(kept)

    def has_head(self, name: str) -> bool:
        """Return whether the model has a head of this name, such as ``cross.0.3``."""
        match = HEAD_NAME.fullmatch(name)
        if match is None or match["site"] not in ATTENTION_SITES[self.architecture]:
            return False
        layer = int(match["layer"])
        if layer >= self.layers_of(match["site"]):
            return False
        return int(match["head"]) < self.heads_left(match["site"], layer)

    def _check_head_mask(self) -> None:
        """Check that the mask fits the heads and layers, and leaves what the model needs."""
        sites = ATTENTION_SITES[self.architecture]
        for site, mask in self.head_mask.items():
            name = f"model.head_mask.{site}"
            if site not in sites:
                raise ConfigError(f"{name}: no site of this model; legal: {', '.join(sites)}")
            layers = self.layers_of(site)
            rows = mask if isinstance(mask, list) else []
            is_legal = len(rows) == layers and all(
                isinstance(row, list)
                and len(row) == self.heads_of(site, layer)
                and set(row) <= {0, 1}
                for layer, row in enumerate(rows)
            )
            if not is_legal:
                raise ConfigError(
                    f"{name}={mask} does not fit the model; legal: {layers} lists of "
                    f"{getattr(self, f'{site}_heads')} numbers, 0 or 1"
                )

        # Copying and plots use the last attention to the document.
        last = "cross" if "cross" in sites else "decoder"
        if last in self.head_mask and not any(self.head_mask[last][-1]):
            raise ConfigError(
                f"model.head_mask.{last}: no head is left in the last layer that attends to the "
                "document; legal: at least one"
            )

    def count_heads(self) -> int:
        """Return the number of heads of all attention blocks."""
        heads = 0
        for site in ATTENTION_SITES[self.architecture]:
            layers = self.layers_of(site)
            if self._differ(site):
                heads += sum(self.heads_left(site, layer) for layer in range(layers))
            else:
                heads += layers * self.heads_of(site, 0)
        return heads

    def layers_of(self, site: str) -> int:
        """Return the number of attention blocks of a site."""
        if self.architecture == "recurrent":
            return 1
        return self.encoder_layers if site == "encoder" else self.decoder_layers

    def _legal_values(self) -> dict[str, tuple[Any, ...]]:
        """Return the legal values of each key that the architecture restricts."""
        values = {
            "transformer": self._transformer_values,
            "gpt": self._gpt_values,
            "recurrent": self._recurrent_values,
        }
        return values[self.architecture]()

    def _transformer_values(self) -> dict[str, tuple[Any, ...]]:
        return {
            "encoder_layers": (max(1, self.encoder_layers),),
            "norm": tuple(norm for norm in get_args(Norm) if norm != "none"),
            "attention": tuple(kind for kind in get_args(Attention) if kind != "additive"),
        }

    def _gpt_values(self) -> dict[str, tuple[Any, ...]]:
        # Keys of sites that the architecture does not have must keep their default: they would
        # change nothing.
        return {
            "encoder_heads": (self.num_heads,),
            "cross_heads": (self.num_heads,),
            "encoder_kv_heads": (self.num_kv_heads,),
            "cross_kv_heads": (self.num_kv_heads,),
            "tie_embeddings": ("all", "none"),
            **self._transformer_values(),
            "encoder_layers": (0,),
        }

    def _recurrent_values(self) -> dict[str, tuple[Any, ...]]:
        return {
            "encoder_layers": (max(1, self.encoder_layers),),
            "encoder_heads": (self.num_heads,),
            "decoder_heads": (self.num_heads,),
            "head_dim": (None,),
            "num_kv_heads": (None,),
            "encoder_kv_heads": (None,),
            "decoder_kv_heads": (None,),
            "cross_kv_heads": (None,),
            "attention": ("additive",),
            "norm": ("none",),
            "positions": ("none",),
            "attention_dropout": (0.0,),
            "layer_dropout": (0.0,),
        }

    def _check_list(self, name: str, site: str) -> None:
        """Check that a list has a number from 1 for each layer of the site."""
        value = getattr(self, name)
        layers = self.layers_of(site)
        if isinstance(value, list) and (len(value) != layers or min(value) < 1):
            raise ConfigError(
                f"model.{name}={value} does not go with the number of {site} blocks, {layers}; "
                f"legal: one number from 1, or a list of {layers} of them"
            )

    def _differ(self, site: str) -> bool:
        """Return whether the heads of a site are given layer by layer."""
        values = (getattr(self, f"{site}_heads"), getattr(self, f"{site}_kv_heads"))
        return site in self.head_mask or any(isinstance(value, list) for value in values)

    def _check_heads(self, site: str, layer: int) -> None:
        """Check that the heads of an attention block divide the width, and its key-value heads
        divide the heads."""
        heads = self.heads_of(site, layer)
        kv_heads = self.kv_heads_of(site, layer)
        heads_key = "num_heads" if heads == self.num_heads else f"{site}_heads"
        kv_key = "num_kv_heads" if kv_heads == self.num_kv_heads else f"{site}_kv_heads"
        if self.head_dim is None and self.embedding_size % heads:
            legal = ", ".join(map(str, _divisors(self.embedding_size)))
            raise ConfigError(
                f"model.{heads_key}={heads} does not divide "
                f"model.embedding_size={self.embedding_size}; "
                f"legal: {legal}, or any with a model.head_dim"
            )
        if heads % kv_heads:
            legal = ", ".join(map(str, _divisors(heads)))
            raise ConfigError(
                f"model.{kv_key}={kv_heads} does not divide model.{heads_key}={heads}; legal: "
                f"{legal}"
            )

        # Rotary positions turn pairs of dimensions. Cross-attention has no positions.
        head_dim = self.head_dim_of(site, layer)
        if self.positions == "rotary" and head_dim % 2 and site != "cross":
            raise ConfigError(
                f"model.positions=rotary does not go with model.{heads_key}={heads}, whose heads "
                f"are {head_dim} wide; "
                "legal: an even width"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """The data set, and how its examples are batched."""

    path: str = key("docstrings", "docstrings, a Hugging Face hub id, or a local file or folder")
    name: str | None = key(None, "configuration of the hub data set")
    revision: str | None = key(None, "commit or branch of the hub data set")
    document_columns: list[str] = key(
        ["document"],
        "column names; the first that exists holds the document; a.b is column b within column a",
    )
    summary_columns: list[str] = key(
        ["summary"],
        "column names; the first that exists holds the summary; a list is several references",
    )
    reference_columns: list[str] = key(
        [], "columns with further references; those that exist are used"
    )
    group_by: str | None = key(
        None,
        "column; rows with the same value are one validation or test example with several "
        "references; document: rows with the same document",
    )
    train_split: str = key("train", "name of the training split")
    validation_split: str | None = key(
        "validation", "name of the validation split; null: carved out of the training split"
    )
    test_split: str | None = key(
        "test", "name of the test split; null: carved out of the training split"
    )
    carved_examples: int = key(1000, "number of examples in a carved split", at_least=1)
    carving_seed: int = key(0, "seed that chooses the examples of carved splits", at_least=0)
    streaming: bool = key(
        False, "read training pairs as they are needed, for a set larger than memory or disk"
    )
    shuffle_buffer: int = key(
        10_000, "number of streamed pairs among which the next one is drawn", at_least=1
    )
    max_document_tokens: int = key(
        512, "maximum number of document tokens; longer ones are truncated", at_least=2
    )
    max_summary_tokens: int = key(64, "maximum number of tokens of training summaries", at_least=2)
    batch_tokens: int = key(
        4096, "maximum number of document plus summary tokens in a training batch", at_least=1
    )
    objective: Objective = key(
        "summarize",
        "what is learned: to summarize, or from the documents alone to write sentences that were "
        "left out (gap_sentences) or spans of tokens (infill)",
    )
    teacher_summaries: str | None = key(
        None,
        "distillation: file with summaries of the training documents by other models, as evaluate "
        "and summarize --out write it",
    )
    teacher_share: float = key(
        0.5,
        "probability that an example has that summary in an epoch instead of its reference",
        at_least=0,
        below=1.0001,
    )
    bpe_dropout: float = key(
        0.0,
        "BPE-dropout of summarize: probability that a merge of the tokenizer is left out in "
        "training; 0.1 is usual; data.batch_tokens counts the tokens without it",
        at_least=0,
        below=1,
    )
    length_pools: int = key(
        0,
        "sort by length within pools of this many batches, for models that pad; 0 turns it off",
        at_least=0,
    )
    num_workers: int = key(0, "processes that prepare batches ahead; 0: none", at_least=0)
    cache_dir: str = key(
        "~/.cache/headcount", "folder of prepared data and tokenizers, reused by content"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        longest = self.max_document_tokens + self.max_summary_tokens
        if longest > self.batch_tokens:
            raise ConfigError(
                f"data.batch_tokens={self.batch_tokens} is too small for one pair of "
                "data.max_document_tokens="
                f"{self.max_document_tokens} and "
                f"data.max_summary_tokens={self.max_summary_tokens}; legal: at "
                f"least {longest}"
            )

        # A stream is never held as a whole.
        if self.streaming:
            if self.teacher_summaries is not None:
                raise ConfigError(
                    f"data.teacher_summaries={self.teacher_summaries} needs the whole split; "
                    "legal: data.streaming=False"
                )
            for name in ("validation_split", "test_split"):
                if getattr(self, name) is None:
                    raise ConfigError(
                        f"data.{name}=None needs the whole split; legal: data.streaming=False"
                    )
            if self.length_pools:
                raise ConfigError(
                    f"data.length_pools={self.length_pools} needs the whole split; legal: "
                    "data.streaming=False"
                )


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Section):
    """A byte-level tokenizer, trained on the training split, or a pretrained one."""

    algorithm: Literal["bpe", "unigram"] = key(
        "bpe", "byte-pair encoding or unigram language model"
    )
    vocabulary_size: int = key(8000, "number of tokens, including the 256 bytes", at_least=260)
    training_pairs: int = key(
        200_000, "number of training pairs that the tokenizer is trained on", at_least=1
    )
    words: str | None = key(
        None, "regular expression of texts that are one word, for example #Person\\d+#"
    )
    path: str | None = key(None, "tokenizer.json of a pretrained model, instead of training one")

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.words or "")
        except re.error as error:
            raise ConfigError(
                f"tokenizer.words={self.words} is not a regular expression: {error}"
            ) from None


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Section):
    """The optimizer and its learning-rate schedule."""

    name: OptimizerName = key(
        "adamw", "AdamW for all parameters; or Muon for hidden matrices and AdamW for the rest"
    )
    learning_rate: float = key(1e-3, "peak learning rate of AdamW", at_least=0)
    muon_learning_rate: float = key(
        "${optimizer.learning_rate}", "muon: peak learning rate of hidden matrices", at_least=0
    )
    muon_momentum: float = key(
        0.95, "muon: share of the momentum that a step keeps", at_least=0, below=1
    )
    schedule: Schedule = key("cosine", "learning-rate schedule after the warm-up")
    warmup_steps: int = key(200, "steps of linear warm-up", at_least=0)
    weight_decay: float = key(0.01, "weight decay, on matrices only", at_least=0)
    beta1: float = key(0.9, "beta1 of AdamW", at_least=0, below=1)
    beta2: float = key(0.98, "beta2 of AdamW", at_least=0, below=1)
    ema_decay: float = key(
        0.0,
        "decay of the exponential moving average of the weights, which is used for validation "
        "and generation; "
        "0 turns it off",
        at_least=0,
        below=1,
    )
    label_smoothing: float = key(
        0.1, "probability mass that the loss spreads over the vocabulary", at_least=0, below=1
    )
    r_drop: float = key(
        0.0,
        "R-Drop: weight of the divergence between two passes with different dropout; 1 to 5 is "
        "usual, a step costs twice as much; 0 turns it off",
        at_least=0,
    )


@dataclass(frozen=True, kw_only=True)
class StageConfig(Section):
    """A part of a training, in what it differs from the rest of the config."""

    steps: int | None = key(
        None, "optimizer steps; null for the last stage, which takes the rest", at_least=1
    )
    objective: Objective = key("${data.objective}", "as data.objective")
    learning_rate_factor: float = key(
        1.0, "factor on the learning rates of the optimizer", at_least=0
    )
    schedule: Schedule = key("${optimizer.schedule}", "as optimizer.schedule, over this stage")
    warmup_steps: int = key("${optimizer.warmup_steps}", "as optimizer.warmup_steps", at_least=0)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(Section):
    """How summaries are generated. Validation always generates greedily."""

    strategy: Literal["greedy", "beam", "sample", "mbr"] = key(
        "greedy",
        "greedy search, beam search, sampling, or minimum Bayes risk: the candidate with the "
        "highest expected ROUGE",
    )
    max_tokens: int = key(
        "${data.max_summary_tokens}", "maximum number of tokens, with the end token", at_least=1
    )
    min_tokens: int = key(0, "minimum number of tokens, with the end token", at_least=0)
    no_repeat_ngram_size: int = key(
        0,
        "no n-gram of words of this size occurs twice; 3 is trigram blocking, 0 turns it off",
        at_least=0,
    )
    repetition_penalty: float = key(
        1.0, "factor on the log-probability of tokens generated before", at_least=1
    )
    num_beams: int = key(4, "beam: number of hypotheses of each document", at_least=1)
    num_beam_groups: int = key(
        1, "beam: number of groups of diverse beam search, a divisor of num_beams", at_least=1
    )
    diversity_penalty: float = key(
        0.0,
        "beam: subtracted from a token's score for each earlier group that chose it at this step",
        at_least=0,
    )
    length_penalty: Literal["wu", "average", "none"] = key(
        "wu", "beam: divisor of the score: that of Wu et al. 2016, the length, or none"
    )
    length_penalty_alpha: float = key(1.0, "beam: exponent of the length penalty", at_least=0)
    coverage_penalty: float = key(
        0.0, "beam: weight of the penalty on document tokens that got little attention", at_least=0
    )
    temperature: float = key(1.0, "sample: softmax temperature; below 1 sharpens", at_least=1e-3)
    top_k: int = key(
        0, "sample, mbr: draw from the k most probable tokens; 0: from all", at_least=0
    )
    top_p: float = key(
        1.0,
        "sample, mbr: draw from the most probable tokens that together reach p; 1: from all",
        at_least=0,
        below=1.0001,
    )
    mbr_num_beams: int = key(
        8, "mbr: number of candidates from beam search, with the keys of beam", at_least=0
    )
    mbr_num_samples: int = key(16, "mbr: number of candidates from sampling", at_least=0)
    mbr_temperature: float = key(
        0.7, "mbr: softmax temperature of sampled candidates", at_least=1e-3
    )
    mbr_candidates: Literal["ensemble", "each"] = key(
        "ensemble",
        "mbr with several runs: candidates of their averaged probabilities, or of each run alone",
    )
    num_return_sequences: int = key(
        1, "number of summaries of each document, with scores", at_least=1
    )
    long_documents: Literal["truncate", "split"] = key(
        "truncate",
        "truncate documents beyond data.max_document_tokens, or summarize them in windows",
    )
    precision: Literal["float32", "bfloat16"] = key(
        "float32", "precision of the weights in generation"
    )
    batch_size: int = key(64, "number of documents generated for at a time", at_least=1)
    heads_off: list[str] = key(
        [],
        "heads that are switched off when a finished run generates or is analysed, such as "
        "cross.0.3 (site, layer and head, from zero)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()

        # Beam search.
        if self.diversity_penalty and self.num_beam_groups == 1:
            raise ConfigError(
                f"generation.diversity_penalty={self.diversity_penalty} does nothing with "
                "generation.num_beam_groups=1; legal: 0"
            )
        beams_key = "mbr_num_beams" if self.strategy == "mbr" else "num_beams"
        num_beams = getattr(self, beams_key)
        if num_beams % self.num_beam_groups:
            legal = ", ".join(map(str, _divisors(num_beams)))
            raise ConfigError(
                f"generation.num_beam_groups={self.num_beam_groups} does not divide "
                f"generation.{beams_key}={num_beams}; legal: {legal}"
            )

        # Minimum Bayes risk.
        candidates = self.mbr_num_beams + self.mbr_num_samples
        if self.strategy == "mbr" and candidates < 2:
            raise ConfigError(
                f"generation.mbr_num_beams={self.mbr_num_beams} and "
                f"generation.mbr_num_samples={self.mbr_num_samples} leave nothing to choose from; "
                "legal: at least 2 together"
            )

        # Several summaries of a document.
        if self.num_return_sequences > 1 and self.long_documents == "split":
            raise ConfigError(
                f"generation.num_return_sequences={self.num_return_sequences} does not go with "
                "generation.long_documents=split, which joins summaries; legal: 1"
            )
        found = {
            "greedy": 1,
            "beam": self.num_beams,
            "sample": self.num_return_sequences,
            "mbr": candidates,
        }[self.strategy]
        if self.num_return_sequences > found:
            raise ConfigError(
                f"generation.num_return_sequences={self.num_return_sequences} is more than "
                "generation.strategy="
                f"{self.strategy} finds; legal: at most {found}"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """Validation, scores and baselines."""

    validation_examples: int = key(256, "size of the fixed validation sample", at_least=1)
    metrics: list[str] = key(
        ["rouge"], "scores beside ROUGE, which is always computed: bleu and chrf, by sacrebleu"
    )
    select_by: SelectionMetric = key(
        "rougeL", "validation score that selects the checkpoint, one of the metrics"
    )
    patience: int = key(
        0,
        "end the training after this many validations in a row without a better score; 0: never",
        at_least=0,
    )
    references: ReferenceRule = key(
        "mean", "how the scores against several references are combined"
    )
    tokenizer: RougeTokenizer = key(
        "rouge-score",
        "tokens of ROUGE: a-z and 0-9 only; unicode: words in any script; character: letters",
    )
    sentences: SentenceRule = key(
        "split", "sentences of ROUGE-Lsum: found in each line, or newline: the lines themselves"
    )
    bleu_tokenizer: BleuTokenizer = key("13a", "sacrebleu's tokenizer for BLEU: zh for Chinese")
    baselines: list[str] = key(
        BASELINES, "extractive baselines in the table of scores: NAME-K takes K units"
    )
    unit: Unit = key("sentence", "unit that the extractive baselines select")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metrics:
            if name not in EVALUATION_METRICS:
                raise ConfigError(
                    f"evaluation.metrics={name} is not a metric; legal: "
                    f"{', '.join(EVALUATION_METRICS)}"
                )
        for name in self.baselines:
            if not re.fullmatch(r"(lead|longest|random|oracle)-[1-9]\d*", name):
                raise ConfigError(
                    f"evaluation.baselines={name} is not a baseline; legal: lead-K, longest-K, "
                    "random-K and oracle-K"
                )


@dataclass(frozen=True, kw_only=True)
class HeadsConfig(Section):
    """Gates on heads that are learned in training, and the analysis of a trained model's heads by
    ``headcount heads``."""

    gates: HeadGates = key(
        "none",
        "gates on heads that are learned in training: l0 (Louizos et al. 2018) closes what "
        "heads.l0_penalty does not pay for, top_k (Li et al. 2021) keeps heads.keep of them open",
    )
    keep: int | None = key(
        None, "top_k: number of heads of the whole model that stay open", at_least=1
    )
    l0_penalty: float = key(
        0.01, "l0: weight of the expected number of open heads in the loss", at_least=0
    )
    gates_learning_rate: float = key(
        0.05, "peak learning rate of the gates' scores, with the schedule of all", at_least=0
    )
    split: Literal["validation", "test"] = key(
        "validation", "split that the heads are analysed on; orders are chosen on validation"
    )
    documents: int = key(100, "number of documents of that split", at_least=2)
    points: int = key(6, "points of a pruning curve, all heads and no heads included", at_least=2)
    random_orders: int = key(
        5, "random orders that the pruning curves are compared with", at_least=1
    )
    margin: float = key(
        0.5, "loss of ROUGE x 100 below which a smaller model counts as equal", at_least=0
    )


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Section):
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = key(
        "auto", "auto: online if a key is configured"
    )
    project: str = key("headcount", "W&B project")
    entity: str | None = key(None, "W&B user or team")
    group: str | None = key(None, "W&B group")
    name: str | None = key(None, "name of the W&B run; null: that of the run folder")
    tags: list[str] = key([], "tags of the W&B run")
    artifacts: Literal["none", "best"] = key(
        "none", "best: log the best checkpoint as a W&B artifact at the end of the training"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # W&B rejects these when the run starts, long after the data has been prepared.
        for name in ("project", "entity"):
            value = getattr(self, name)
            if value is not None and (set(value) & set("/\\#?%:") or len(value) > 128):
                raise ConfigError(
                    f"tracking.{name}={value} is not a name to W&B; legal: up to 128 characters, "
                    "none of / \\ # ? % :"
                )
        for tag in self.tags:
            if len(tag) > 64:
                raise ConfigError(f"tracking.tags={tag} is too long; legal: up to 64 characters")


@dataclass(frozen=True, kw_only=True)
class LoggersConfig(Section):
    """Loggers of a training beside ``metrics.csv`` and W&B, see ``tracking``."""

    tensorboard: bool = key(
        False, "log to the folder tensorboard of the run; needs headcount[tensorboard]"
    )
    mlflow: bool = key(False, "log to MLflow; needs headcount[mlflow]")
    mlflow_uri: str | None = key(
        None, "MLflow store or server; null: MLFLOW_TRACKING_URI, or mlflow.db beside the run"
    )
    mlflow_experiment: str = key("headcount", "MLflow experiment")


@dataclass(frozen=True, kw_only=True)
class CallbacksConfig(Section):
    """What is logged at each logged step of a training beside loss, accuracy and speed.

    Early stopping is ``evaluation.patience``, a time limit ``trainer.max_time``.
    """

    learning_rate: bool = key(True, "log the learning rate, of muon both")
    gradient_norm: bool = key(True, "log the norm of the gradient before it is clipped")
    device_stats: bool = key(
        False, "log memory of the GPU, or load of the CPU, which needs headcount[device-stats]"
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """The run folder."""

    directory: str = key("runs", "folder in which run folders are created")
    name: str | None = key(
        None, "run folders are named NAME-1, NAME-2, ...; null: after the config files"
    )
    folder: str | None = key(None, "the run folder itself; null: a new one in run.directory")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ConfigError(
                f"run.name={self.name} is not a folder's name; legal: letters, digits, '_', '-' "
                "and '.'"
            )


@dataclass(frozen=True, kw_only=True)
class Config(Section):
    """Everything that a run depends on."""

    seed: int = key(0, "seed of initialization, data order and dropout", at_least=0, below=2**32)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stages: list[StageConfig] = key(
        [],
        "consecutive parts of a training: a list of mappings of "
        + ", ".join(declared.name for declared in fields(StageConfig)),
    )
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    loggers: LoggersConfig = field(default_factory=LoggersConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    run: RunConfig = field(default_factory=RunConfig)
    trainer: dict[str, Any] = key(TRAINER_DEFAULTS, "arguments of pytorch_lightning.Trainer")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trainer(self.trainer)

        # Settings of one section that need a setting of another.
        if self.data.streaming and self.trainer.get("max_steps", -1) < 0:
            raise ConfigError(
                "trainer.max_steps=-1 does not go with data.streaming=True, which has no end; "
                "legal: steps"
            )

        # Two passes differ only by dropout.
        has_dropout = (
            self.model.dropout or self.model.attention_dropout or self.model.layer_dropout
        )
        if self.optimizer.r_drop and not has_dropout:
            raise ConfigError(
                f"optimizer.r_drop={self.optimizer.r_drop} does nothing with "
                f"model.dropout={self.model.dropout}; legal: 0, or a dropout"
            )

        # Only BPE has merges to leave out.
        if self.data.bpe_dropout and self.tokenizer.algorithm != "bpe":
            raise ConfigError(
                f"data.bpe_dropout={self.data.bpe_dropout} does not go with "
                f"tokenizer.algorithm={self.tokenizer.algorithm}; legal: 0"
            )

        self._check_stages()
        self._check_gates()
        self._check_generation_length()
        self._check_heads_off()

    @property
    def stage_plan(self) -> list[tuple[int, StageConfig]]:
        """The stages with the step at which each begins; one stage where none are declared."""
        stages = self.stages or [
            StageConfig(
                objective=self.data.objective,
                schedule=self.optimizer.schedule,
                warmup_steps=self.optimizer.warmup_steps,
            )
        ]
        begin = 0
        plan = []
        for stage in stages:
            plan.append((begin, stage))
            begin += stage.steps or 0
        return plan

    def _check_stages(self) -> None:
        """Check that each stage but the last has a number of steps."""
        for number, stage in enumerate(self.stages, 1):
            is_last = number == len(self.stages)
            if is_last and stage.steps is not None:
                raise ConfigError(
                    f"stages: steps={stage.steps} of stage {number}, the last one, which takes "
                    "what is left of the trainer's budget; legal: null"
                )
            if not is_last and stage.steps is None:
                raise ConfigError(
                    f"stages: steps=null of stage {number}, which another one follows; legal: a "
                    "number of steps"
                )

    def _check_gates(self) -> None:
        """Check that top-k gates have a number of heads to keep, and others have none."""
        keep = self.heads.keep
        if self.heads.gates != "top_k":
            if keep is not None:
                raise ConfigError(
                    f"heads.keep={keep} does nothing with heads.gates={self.heads.gates}; legal: "
                    "null, or heads.gates=top_k"
                )
            return
        heads = self.model.count_heads()
        if keep is None or keep > heads:
            raise ConfigError(
                f"heads.keep={'null' if keep is None else keep} does not go with "
                f"heads.gates=top_k and the {heads} heads of the model; legal: 1 to {heads}"
            )

    def _check_generation_length(self) -> None:
        """Check that the model has a position for every token that may be generated."""
        shortest = self.generation.min_tokens
        longest = self.generation.max_tokens
        if shortest > longest:
            raise ConfigError(
                f"generation.min_tokens={shortest} is more than generation.max_tokens={longest}; "
                f"legal: at most {longest}"
            )
        positions = self._max_summary_positions
        if longest > positions:
            raise ConfigError(
                f"generation.max_tokens={longest} is beyond the model's positions, which "
                "data.max_document_tokens and "
                f"data.max_summary_tokens decide; legal: at most {positions}"
            )

    def _check_heads_off(self) -> None:
        """Check that the model has the heads that are switched off."""
        for name in self.generation.heads_off:
            if not self.model.has_head(name):
                sites = ATTENTION_SITES[self.model.architecture]
                raise ConfigError(
                    f"generation.heads_off={name}: the model has no such head; legal: "
                    f"SITE.LAYER.HEAD, numbers from zero, sites {', '.join(sites)}"
                )

    @property
    def max_positions(self) -> int:
        """Number of positions of the model."""
        document = self.data.max_document_tokens
        summary = self.data.max_summary_tokens
        if self.model.architecture == "gpt":
            return document + summary  # they are one text
        return max(document, summary)

    @property
    def _max_summary_positions(self) -> int:
        if self.model.architecture == "gpt":
            return self.data.max_summary_tokens
        return self.max_positions


def _divisors(number: int) -> list[int]:
    """Return the divisors of a number up to 1024, which is more than the heads of any layer."""
    return [n for n in range(1, min(number, 1024) + 1) if number % n == 0]
