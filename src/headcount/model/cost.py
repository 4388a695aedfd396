"""What a model costs: parameters by attention site, FLOPs of training and of generation, bytes of
cache.

FLOPs are those of matrix products, as ``torch.utils.flop_counter.FlopCounterMode`` counts them:
two for each multiplication with its addition, causal products in full, none for elementwise
operations. A pruned model is counted with the mean number of heads of each site; the recurrent
model is counted as before pruning.

Letters: S document tokens, T summary tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from headcount.config.schema import ATTENTION_SITES, Architecture, ModelConfig
from headcount.model.attention import kept_kv_heads
from headcount.model.build import build_model

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Site:
    """The attention blocks of one attention site.

    Attributes:
        name: encoder, decoder or cross.
        layers: number of blocks.
        num_heads: heads of a block; of a pruned model the mean over layers.
        num_kv_heads: key-value heads of a block; likewise.
        head_dim: width of a head.
        parameters: of all blocks.
    """

    name: str
    layers: int
    num_heads: int | float
    num_kv_heads: int | float
    head_dim: int
    parameters: int

    @property
    def cache_size(self) -> float:
        """Number of cached values for each token, in all layers."""
        return 2 * self.layers * self.num_kv_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model costs for an example of S document and T summary tokens.

    Attributes:
        sites: the attention sites.
        parameters: of the whole model; shared ones are counted once.
        embedding_parameters: those of the embeddings and the output layer among them.
        training_flops_per_token: forward and backward pass, divided by S + T.
        decoding_flops_per_token: greedy generation with caches, reading the document included,
            divided by T.
        cache_bytes_per_document_token: cache of each document token during generation, in fp32.
        cache_bytes_per_summary_token: cache of each generated token of each hypothesis.
    """

    sites: list[Site]
    parameters: int
    embedding_parameters: int
    training_flops_per_token: float
    decoding_flops_per_token: float
    cache_bytes_per_document_token: int
    cache_bytes_per_summary_token: int


def cost(
    config: ModelConfig,
    *,
    vocabulary_size: int,
    max_positions: int,
    document_tokens: int,
    summary_tokens: int,
) -> Cost:
    """Count what a model costs.

    Args:
        config: the ``model`` section.
        vocabulary_size: number of tokens of the tokenizer.
        max_positions: number of positions.
        document_tokens: S of the example that FLOPs are counted for.
        summary_tokens: T of it.
    """
    with torch.device("meta"):
        model = build_model(config, vocabulary_size=vocabulary_size, max_positions=max_positions)
    embeddings = {
        parameter: parameter.numel()
        for name, parameter in model.named_parameters()
        if "embedding" in name or name == "output.weight"
    }

    forward = forward_flops(config, vocabulary_size, document_tokens, summary_tokens)
    decoding = decoding_flops(config, vocabulary_size, document_tokens, summary_tokens)
    per_document_token, per_summary_token = _counter(config).cache_sizes()
    return Cost(
        sites=list(attention_sites(config).values()),
        parameters=sum(p.numel() for p in model.parameters()),
        embedding_parameters=sum(embeddings.values()),
        training_flops_per_token=3 * forward / (document_tokens + summary_tokens),
        decoding_flops_per_token=decoding / summary_tokens,
        cache_bytes_per_document_token=round(per_document_token * FLOAT_BYTES),
        cache_bytes_per_summary_token=round(per_summary_token * FLOAT_BYTES),
    )


def forward_flops(
    config: ModelConfig, vocabulary_size: int, document_tokens: int, summary_tokens: int
) -> float:
    """Return the FLOPs of one forward pass over an example; training takes three times as many."""
    body = _counter(config).forward(document_tokens, summary_tokens)
    return body + _output_flops(config, vocabulary_size, summary_tokens)


def decoding_flops(
    config: ModelConfig, vocabulary_size: int, document_tokens: int, summary_tokens: int
) -> float:
    """Return the FLOPs of reading a document and generating a summary greedily, with caches."""
    body = _counter(config).decoding(document_tokens, summary_tokens)
    return body + _output_flops(config, vocabulary_size, summary_tokens)


def _output_flops(config: ModelConfig, vocabulary_size: int, summary_tokens: int) -> int:
    """Count the output layer and, for copying, the gate."""
    columns = vocabulary_size + (1 if config.copying else 0)
    return summary_tokens * 2 * config.embedding_size * columns


def attention_sites(config: ModelConfig) -> dict[str, Site]:
    """Return the attention sites of a model by name."""
    sites = {}
    for name in ATTENTION_SITES[config.architecture]:
        layers = config.layers_of(name)
        full_heads = getattr(config, f"{name}_heads")
        full_kv_heads = getattr(config, f"{name}_kv_heads") or full_heads
        head_dim = config.head_dim or config.embedding_size // full_heads

        # The heads of each layer, which differ only in a pruned model.
        heads = []
        kv_heads = []
        for layer in range(layers):
            kept = config.kept_heads(name, layer)
            if kept is None:
                heads.append(full_heads)
                kv_heads.append(full_kv_heads)
            else:
                heads.append(len(kept))
                kv_heads.append(len(kept_kv_heads(kept, full_heads // full_kv_heads)))

        parameters = 0
        for layer_heads, layer_kv_heads in zip(heads, kv_heads, strict=True):
            parameters += _block_parameters(config, layer_heads, layer_kv_heads, head_dim)
        sites[name] = Site(
            name=name,
            layers=layers,
            num_heads=_mean(heads),
            num_kv_heads=_mean(kv_heads),
            head_dim=head_dim,
            parameters=parameters,
        )
    return sites


def _block_parameters(config: ModelConfig, heads: int, kv_heads: int, head_dim: int) -> int:
    """Count the weights and biases of an attention block."""
    size = config.embedding_size
    if config.attention == "additive":
        return heads * head_dim * (2 * size + 2)
    input_projection = (size + 1) * (heads + 2 * kv_heads) * head_dim
    output_projection = (heads * head_dim + 1) * size
    return input_projection + output_projection


def _mean(numbers: list[int]) -> int | float:
    """Return the mean, as an integer if all numbers are equal."""
    return numbers[0] if len(set(numbers)) == 1 else sum(numbers) / len(numbers)


class ArchitectureCost(Protocol):
    """Counts the FLOPs of an architecture, without its output layer, and its cache."""

    def forward(self, document_tokens: int, summary_tokens: int) -> float:
        """Count one forward pass over an example."""

    def decoding(self, document_tokens: int, summary_tokens: int) -> float:
        """Count reading a document once and generating a summary greedily, with caches."""

    def cache_sizes(self) -> tuple[float, float]:
        """Return the cached values of each document token and of each generated token."""


class TransformerLayerCost:
    """FLOPs of the parts of one Transformer layer.

    Args:
        config: the ``model`` section.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.sites = attention_sites(config)

    def projections(self, site: Site, tokens: int) -> float:
        """Project queries and the heads' outputs."""
        return tokens * 4 * self.config.embedding_size * site.num_heads * site.head_dim

    def key_value_projections(self, site: Site, tokens: int) -> float:
        """Project keys and values."""
        return tokens * 4 * self.config.embedding_size * site.num_kv_heads * site.head_dim

    def products(self, site: Site, targets: int, sources: int) -> float:
        """Match queries with keys, and average values."""
        return 4 * targets * sources * site.num_heads * site.head_dim

    def attention(self, site: Site, targets: int, sources: int) -> float:
        """Attend from tokens to projected keys and values."""
        return self.projections(site, targets) + self.products(site, targets, sources)

    def feedforward(self, tokens: int) -> int:
        """Apply the feed-forward block, which has three matrices with SwiGLU and else two."""
        matrices = 3 if self.config.activation == "swiglu" else 2
        return tokens * 2 * matrices * self.config.embedding_size * self.config.feedforward_size

    def self_attention_layer(self, site: Site, tokens: int) -> float:
        """Apply a layer of self-attention and feed-forward block to all tokens of a text."""
        return (
            self.key_value_projections(site, tokens)
            + self.attention(site, tokens, tokens)
            + self.feedforward(tokens)
        )

    def decoder_steps(self, summary_tokens: int) -> float:
        """Generate a summary in one decoder layer, which attends to the tokens generated so
        far."""
        site = self.sites["decoder"]
        attended = summary_tokens * (summary_tokens + 1) // 2
        return (
            self.key_value_projections(site, summary_tokens)
            + self.projections(site, summary_tokens)
            + self.products(site, 1, attended)
            + self.feedforward(summary_tokens)
        )


class TransformerCost(TransformerLayerCost):
    """The encoder-decoder Transformer."""

    def forward(self, document_tokens: int, summary_tokens: int) -> float:
        """See ``ArchitectureCost``."""
        layer = self.self_attention_layer(self.sites["decoder"], summary_tokens)
        layer += self._cross_attention(document_tokens, summary_tokens)
        return self._encoder(document_tokens) + self.config.decoder_layers * layer

    def decoding(self, document_tokens: int, summary_tokens: int) -> float:
        """See ``ArchitectureCost``."""
        layer = self.decoder_steps(summary_tokens)
        layer += self._cross_attention(document_tokens, summary_tokens)
        return self._encoder(document_tokens) + self.config.decoder_layers * layer

    def _encoder(self, tokens: int) -> float:
        layer = self.self_attention_layer(self.sites["encoder"], tokens)
        return self.config.encoder_layers * layer

    def _cross_attention(self, document_tokens: int, summary_tokens: int) -> float:
        site = self.sites["cross"]
        attended = self.attention(site, summary_tokens, document_tokens)
        return self.key_value_projections(site, document_tokens) + attended

    def cache_sizes(self) -> tuple[float, float]:
        """See ``ArchitectureCost``."""
        return self.sites["cross"].cache_size, self.sites["decoder"].cache_size


class GPTCost(TransformerLayerCost):
    """The decoder-only form. Its last layer computes only the tokens whose output is needed."""

    def forward(self, document_tokens: int, summary_tokens: int) -> float:
        """See ``ArchitectureCost``."""
        site = self.sites["decoder"]
        tokens = document_tokens + summary_tokens
        layer = self.self_attention_layer(site, tokens)
        last = (
            self.key_value_projections(site, tokens)
            + self.attention(site, summary_tokens, tokens)
            + self.feedforward(summary_tokens)
        )
        return (self.config.decoder_layers - 1) * layer + last

    def decoding(self, document_tokens: int, summary_tokens: int) -> float:
        """See ``ArchitectureCost``.

        Reading the document projects its keys and values twice in all layers but the last: once
        for the cache and once within the layer.
        """
        site = self.sites["decoder"]
        key_values = self.key_value_projections(site, document_tokens)
        layer = key_values + self.self_attention_layer(site, document_tokens)
        reading = (self.config.decoder_layers - 1) * layer + key_values
        step = self.decoder_steps(summary_tokens)
        step += self.products(site, summary_tokens, document_tokens)
        return reading + self.config.decoder_layers * step

    def cache_sizes(self) -> tuple[float, float]:
        """See ``ArchitectureCost``."""
        site = self.sites["decoder"]
        return site.cache_size, site.cache_size


class RecurrentCost:
    """The recurrent encoder-decoder, which computes the same in training and generation.

    Args:
        config: the ``model`` section.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.gates = 4 if config.cell == "lstm" else 3

    def forward(self, document_tokens: int, summary_tokens: int) -> float:
        """See ``ArchitectureCost``."""
        return self._encoder(document_tokens) + self._decoder(document_tokens, summary_tokens)

    def decoding(self, document_tokens: int, summary_tokens: int) -> float:
        """See ``ArchitectureCost``."""
        return self.forward(document_tokens, summary_tokens)

    def _encoder(self, tokens: int) -> int:
        # Each direction of a layer reads the layer below and its own last state.
        half = self.config.embedding_size // 2
        direction = 2 * self.gates * half * (self.config.embedding_size + half)
        layers = tokens * self.config.encoder_layers * 2 * direction

        # The first state of each decoder layer is projected from one direction's last state.
        first_states = 2 * half * self.config.decoder_layers * self.config.embedding_size
        return layers + first_states

    def _decoder(self, document_tokens: int, summary_tokens: int) -> int:
        # The first cell reads embedding, context vector and its state; the others read two.
        square = 2 * self.config.embedding_size**2
        first_cell = self.gates * 3 * square
        other_cells = (self.config.decoder_layers - 1) * self.gates * 2 * square
        query = square
        readout = 3 * square
        steps = summary_tokens * (first_cell + other_cells + query + readout)

        # Additive attention: keys once, then scores and values of each pair of tokens.
        keys = document_tokens * square
        pairs = summary_tokens * document_tokens * 4 * self.config.embedding_size
        return steps + keys + pairs

    def cache_sizes(self) -> tuple[float, float]:
        """See ``ArchitectureCost``. The state of a hypothesis does not grow."""
        return 2 * self.config.embedding_size, 0


def _counter(config: ModelConfig) -> ArchitectureCost:
    counters: dict[Architecture, Callable[[ModelConfig], ArchitectureCost]] = {
        "transformer": TransformerCost,
        "gpt": GPTCost,
        "recurrent": RecurrentCost,
    }
    return counters[config.architecture](config)
