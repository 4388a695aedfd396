"""What a model costs: parameters by attention site, FLOPs of training and of generation, bytes of
cache.

FLOPs are those of matrix products, as ``torch.utils.flop_counter.FlopCounterMode`` counts them:
two for each multiplication with its addition, causal products in full, none for elementwise
operations. Layers may differ in their heads. A pruned recurrent model is counted as before
pruning.

Letters: S document tokens, T summary tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from headcount.config.schema import Config
from headcount.config.sections.model import ModelConfig
from headcount.config.sections.model_attention import ATTENTION_SITES, Architecture
from headcount.model.attention import kept_kv_heads
from headcount.model.build import build_model

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Block:
    """One attention block.

    Attributes:
        num_heads: number of heads, after pruning.
        num_kv_heads: number of key-value heads, after pruning.
        head_dim: width of a head.
        parameters: of the block.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Site:
    """The attention blocks of one attention site.

    Attributes:
        name: encoder, decoder or cross.
        blocks: first layer first.
    """

    name: str
    blocks: list[Block]

    @property
    def parameters(self) -> int:
        """Parameters of all blocks."""
        return sum(block.parameters for block in self.blocks)

    @property
    def cache_size(self) -> int:
        """Number of cached values for each token, in all layers."""
        return sum(2 * block.num_kv_heads * block.head_dim for block in self.blocks)


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


def longest_example_cost(config: Config, vocabulary_size: int) -> Cost:
    """Count what the model of a config costs on the longest example that its data may have.

    Args:
        config: the whole config.
        vocabulary_size: number of tokens of the tokenizer.
    """
    return cost(
        config.model,
        vocabulary_size=vocabulary_size,
        max_positions=config.max_positions,
        document_tokens=config.data.max_document_tokens,
        summary_tokens=config.data.max_summary_tokens,
    )


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
    # Parameters are counted on the model itself, which is built without memory.
    with torch.device("meta"):
        model = build_model(config, vocabulary_size=vocabulary_size, max_positions=max_positions)
    embedding_parameters = 0
    for name, parameter in model.named_parameters():
        if "embedding" in name or name == "output.weight":
            embedding_parameters += parameter.numel()

    forward = forward_flops(config, vocabulary_size, document_tokens, summary_tokens)
    decoding = decoding_flops(config, vocabulary_size, document_tokens, summary_tokens)
    per_document_token, per_summary_token = _architecture_cost(config).cache_sizes()
    return Cost(
        sites=list(attention_sites(config).values()),
        parameters=sum(p.numel() for p in model.parameters()),
        embedding_parameters=embedding_parameters,
        training_flops_per_token=3 * forward / (document_tokens + summary_tokens),
        decoding_flops_per_token=decoding / summary_tokens,
        cache_bytes_per_document_token=per_document_token * FLOAT_BYTES,
        cache_bytes_per_summary_token=per_summary_token * FLOAT_BYTES,
    )


def forward_flops(
    config: ModelConfig, vocabulary_size: int, document_tokens: int, summary_tokens: int
) -> int:
    """Return the FLOPs of one forward pass over an example; training takes three times as many."""
    layers = _architecture_cost(config).forward(document_tokens, summary_tokens)
    return layers + _output_flops(config, vocabulary_size, summary_tokens)


def decoding_flops(
    config: ModelConfig, vocabulary_size: int, document_tokens: int, summary_tokens: int
) -> int:
    """Return the FLOPs of reading a document and generating a summary greedily, with caches."""
    layers = _architecture_cost(config).decoding(document_tokens, summary_tokens)
    return layers + _output_flops(config, vocabulary_size, summary_tokens)


def _output_flops(config: ModelConfig, vocabulary_size: int, summary_tokens: int) -> int:
    columns = vocabulary_size
    if config.copying:
        columns += 1  # the gate
    return summary_tokens * 2 * config.embedding_size * columns


def attention_sites(config: ModelConfig) -> dict[str, Site]:
    """Return the attention sites of a model by name."""
    sites = {}
    for name in ATTENTION_SITES[config.architecture]:
        blocks = [_block(config, name, layer) for layer in range(config.layers_of(name))]
        sites[name] = Site(name=name, blocks=blocks)
    return sites


def _block(config: ModelConfig, site: str, layer: int) -> Block:
    heads = config.heads_left(site, layer)
    kv_heads = config.kv_heads_of(site, layer)
    head_dim = config.head_dim_of(site, layer)
    kept = config.kept_heads(site, layer)
    if kept is not None:
        kv_heads = len(kept_kv_heads(kept, config.heads_of(site, layer) // kv_heads))
    return Block(
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        parameters=_block_parameters(config, heads, kv_heads, head_dim),
    )


def _block_parameters(config: ModelConfig, heads: int, kv_heads: int, head_dim: int) -> int:
    """Count the weights and biases of an attention block."""
    size = config.embedding_size
    if config.attention == "additive":
        return heads * head_dim * (2 * size + 2)
    input_projection = (size + 1) * (heads + 2 * kv_heads) * head_dim
    output_projection = (heads * head_dim + 1) * size
    return input_projection + output_projection


class ArchitectureCost(Protocol):
    """Counts the FLOPs of an architecture, without its output layer, and its cache."""

    def forward(self, document_tokens: int, summary_tokens: int) -> int:
        """Count one forward pass over an example."""

    def decoding(self, document_tokens: int, summary_tokens: int) -> int:
        """Count reading a document once and generating a summary greedily, with caches."""

    def cache_sizes(self) -> tuple[int, int]:
        """Return the cached values of each document token and of each generated token."""


class TransformerLayerCost:
    """FLOPs of the parts of one Transformer layer.

    Args:
        config: the ``model`` section.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.sites = attention_sites(config)

    def projections(self, block: Block, tokens: int) -> int:
        """Project queries and the heads' outputs."""
        return tokens * 4 * self.config.embedding_size * block.num_heads * block.head_dim

    def key_value_projections(self, block: Block, tokens: int) -> int:
        """Project keys and values."""
        return tokens * 4 * self.config.embedding_size * block.num_kv_heads * block.head_dim

    def products(self, block: Block, targets: int, sources: int) -> int:
        """Match queries with keys, and average values."""
        return 4 * targets * sources * block.num_heads * block.head_dim

    def attention(self, block: Block, targets: int, sources: int) -> int:
        """Attend from tokens to projected keys and values."""
        return self.projections(block, targets) + self.products(block, targets, sources)

    def feedforward(self, tokens: int) -> int:
        """Apply the feed-forward block, which has three matrices with SwiGLU and else two."""
        matrices = 3 if self.config.activation == "swiglu" else 2
        return tokens * 2 * matrices * self.config.embedding_size * self.config.feedforward_size

    def self_attention_layer(self, block: Block, tokens: int) -> int:
        """Apply a layer of self-attention and feed-forward block to all tokens of a text."""
        return (
            self.key_value_projections(block, tokens)
            + self.attention(block, tokens, tokens)
            + self.feedforward(tokens)
        )

    def decoder_steps(self, block: Block, summary_tokens: int) -> int:
        """Generate a summary in one decoder layer, which attends to the tokens generated so
        far."""
        attended = summary_tokens * (summary_tokens + 1) // 2
        return (
            self.key_value_projections(block, summary_tokens)
            + self.projections(block, summary_tokens)
            + self.products(block, 1, attended)
            + self.feedforward(summary_tokens)
        )


class TransformerCost(TransformerLayerCost):
    """The encoder-decoder Transformer."""

    def forward(self, document_tokens: int, summary_tokens: int) -> int:
        """See ``ArchitectureCost``."""
        decoder = self.sites["decoder"].blocks
        layers = sum(self.self_attention_layer(block, summary_tokens) for block in decoder)
        crossing = self._cross_attention(document_tokens, summary_tokens)
        return self._encoder(document_tokens) + layers + crossing

    def decoding(self, document_tokens: int, summary_tokens: int) -> int:
        """See ``ArchitectureCost``."""
        decoder = self.sites["decoder"].blocks
        layers = sum(self.decoder_steps(block, summary_tokens) for block in decoder)
        crossing = self._cross_attention(document_tokens, summary_tokens)
        return self._encoder(document_tokens) + layers + crossing

    def _encoder(self, tokens: int) -> int:
        encoder = self.sites["encoder"].blocks
        return sum(self.self_attention_layer(block, tokens) for block in encoder)

    def _cross_attention(self, document_tokens: int, summary_tokens: int) -> int:
        flops = 0
        for block in self.sites["cross"].blocks:
            flops += self.key_value_projections(block, document_tokens)
            flops += self.attention(block, summary_tokens, document_tokens)
        return flops

    def cache_sizes(self) -> tuple[int, int]:
        """See ``ArchitectureCost``."""
        return self.sites["cross"].cache_size, self.sites["decoder"].cache_size


class GPTCost(TransformerLayerCost):
    """The decoder-only form. Its last layer computes only the tokens whose output is needed."""

    def forward(self, document_tokens: int, summary_tokens: int) -> int:
        """See ``ArchitectureCost``."""
        *blocks, last = self.sites["decoder"].blocks
        tokens = document_tokens + summary_tokens
        last_layer = (
            self.key_value_projections(last, tokens)
            + self.attention(last, summary_tokens, tokens)
            + self.feedforward(summary_tokens)
        )
        return sum(self.self_attention_layer(block, tokens) for block in blocks) + last_layer

    def decoding(self, document_tokens: int, summary_tokens: int) -> int:
        """See ``ArchitectureCost``.

        Reading the document projects its keys and values twice in all layers but the last: once
        for the cache and once within the layer.
        """
        flops = 0
        for block in self.sites["decoder"].blocks:
            flops += self.key_value_projections(block, document_tokens)
            flops += self.decoder_steps(block, summary_tokens)
            flops += self.products(block, summary_tokens, document_tokens)
        for block in self.sites["decoder"].blocks[:-1]:
            flops += self.self_attention_layer(block, document_tokens)
        return flops

    def cache_sizes(self) -> tuple[int, int]:
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

    def forward(self, document_tokens: int, summary_tokens: int) -> int:
        """See ``ArchitectureCost``."""
        return self._encoder(document_tokens) + self._decoder(document_tokens, summary_tokens)

    def decoding(self, document_tokens: int, summary_tokens: int) -> int:
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

    def cache_sizes(self) -> tuple[int, int]:
        """See ``ArchitectureCost``. The state of a hypothesis does not grow."""
        return 2 * self.config.embedding_size, 0


def _architecture_cost(config: ModelConfig) -> ArchitectureCost:
    costs: dict[Architecture, Callable[[ModelConfig], ArchitectureCost]] = {
        "transformer": TransformerCost,
        "gpt": GPTCost,
        "recurrent": RecurrentCost,
    }
    return costs[config.architecture](config)
