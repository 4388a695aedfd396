"""The section ``model`` of a config; its keys about attention are in ``model_attention``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from headcount.config.section import key
from headcount.config.sections.model_attention import Attention, AttentionKeys
from headcount.errors import ConfigError

Positions = Literal["sinusoidal", "learned", "rotary", "alibi", "none"]
Norm = Literal["layernorm", "rmsnorm", "none"]
NormPosition = Literal["pre", "post"]
Activation = Literal["relu", "gelu", "swiglu"]
Tie = Literal["all", "output", "none"]
Cell = Literal["gru", "lstm"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(AttentionKeys):
    """The summarizer.

    Its architecture, the heads of each attention site, and what its layers are built from.
    """

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
        "run folder or export whose best weights a training starts from; its model and tokenizer "
        "must be the same, except for dropout; null: random weights",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if str(self.encoder_heads).startswith("${"):
            return  # the defaults themselves, in which ${model.num_heads} is not yet a number

        self._check_architecture()
        self._check_pairs()
        self._check_heads()
        self._check_rotary()
        self._check_head_mask()

    def _check_architecture(self) -> None:
        """Check the keys that the architecture restricts."""
        for name, legal in self._legal_values().items():
            value = getattr(self, name)
            if value not in legal:
                shown = ", ".join("null" if choice is None else str(choice) for choice in legal)
                raise ConfigError(
                    f"model.{name}={value} does not go with "
                    f"model.architecture={self.architecture}; legal: {shown}"
                )

    def _legal_values(self) -> dict[str, tuple[Any, ...]]:
        """Return the legal values of each key that the architecture restricts.

        A key without an effect must keep its default.
        """
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

    def _check_pairs(self) -> None:
        """Check the keys that need another one."""
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

    def _check_rotary(self) -> None:
        """Check that rotary positions have pairs of dimensions to turn."""
        if self.positions != "rotary":
            return
        for site, layer in self._distinct_blocks():
            head_dim = self.head_dim_of(site, layer)
            has_positions = site != "cross"
            if has_positions and head_dim % 2:
                raise ConfigError(
                    "model.positions=rotary does not go with "
                    f"model.{self._heads_key(site, layer)}={self.heads_of(site, layer)}, whose "
                    f"heads are {head_dim} wide; legal: an even width"
                )
