"""What a model costs: parameters by place, matrix-product FLOPs of training and decoding, bytes of
cache.

FLOPs are counted as ``torch.utils.flop_counter.FlopCounterMode`` counts them, which the tests
hold: two for each multiply and add of a matrix product, causal products in full, nothing for what
works on each value alone. Of a pruned model they are those of the mean number of heads of a site;
a recurrent model's are those before pruning.

Letters: H heads, J key-value heads, K head_dim, S document tokens, T summary tokens.
"""

from dataclasses import dataclass

import torch

from headcount.config.schema import ATTENTION_SITES, ModelConfig
from headcount.model.attention import kept_kv_heads
from headcount.model.build import build_model

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Place:
    """The attention blocks of one place in the model.

    Attributes:
        name: encoder, decoder or cross.
        layers: how many there are.
        num_heads: H of each; of a pruned model the mean over layers.
        num_kv_heads: J of each; likewise.
        head_dim: K.
        parameters: of all of them.
    """

    name: str
    layers: int
    num_heads: int | float
    num_kv_heads: int | float
    head_dim: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model costs for an example of S document and T summary tokens.

    Attributes:
        places: attention by place.
        parameters: of the whole model, shared ones once.
        embedding_parameters: those of embeddings and output layer among them.
        training_flops_per_token: forward and backward, over S + T.
        decoding_flops_per_token: of a summary written with cached keys and values, reading
            included, over T.
        cache_bytes_per_document_token: what decoding keeps of each document token, in fp32.
        cache_bytes_per_summary_token: likewise of each token written, by each hypothesis.
    """

    places: list[Place]
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
        vocabulary_size: tokens of the tokenizer.
        max_positions: places that the model must know.
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
    places = _places(config)
    own = sum(2 * p.layers * p.num_kv_heads * p.head_dim for p in places if p.name == "decoder")
    cross = sum(2 * p.layers * p.num_kv_heads * p.head_dim for p in places if p.name == "cross")
    document = {"transformer": cross, "gpt": own, "recurrent": 2 * config.embedding_size}[
        config.architecture
    ]
    return Cost(
        places=places,
        parameters=sum(p.numel() for p in model.parameters()),
        embedding_parameters=sum(embeddings.values()),
        training_flops_per_token=3 * forward / (document_tokens + summary_tokens),
        decoding_flops_per_token=decoding / summary_tokens,
        cache_bytes_per_document_token=round(document * FLOAT_BYTES),
        cache_bytes_per_summary_token=round(own * FLOAT_BYTES),
    )


def _places(config: ModelConfig) -> list[Place]:
    size = config.embedding_size
    places = []
    for site in ATTENTION_SITES[config.architecture]:
        layers = config.layers_of(site)
        before = getattr(config, f"{site}_heads")
        head_dim = config.head_dim or size // before
        kv_before = getattr(config, f"{site}_kv_heads") or before

        # The heads of each layer, which differ only in a pruned model.
        heads = []
        kv_heads = []
        for layer in range(layers):
            kept = config.kept_heads(site, layer)
            heads.append(before if kept is None else len(kept))
            kv_kept = None if kept is None else kept_kv_heads(kept, before // kv_before)
            kv_heads.append(kv_before if kv_kept is None else len(kv_kept))

        parameters = 0
        for of_layer, kv_of_layer in zip(heads, kv_heads, strict=True):
            if config.architecture == "recurrent":
                parameters += of_layer * head_dim * (2 * size + 2)
            else:
                parameters += (size + 1) * (of_layer + 2 * kv_of_layer) * head_dim
                parameters += (of_layer * head_dim + 1) * size
        places.append(
            Place(
                name=site,
                layers=layers,
                num_heads=_mean(heads),
                num_kv_heads=_mean(kv_heads),
                head_dim=head_dim,
                parameters=parameters,
            )
        )
    return places


def _mean(numbers: list[int]) -> int | float:
    """Return the mean, as an integer if all numbers are equal."""
    return numbers[0] if len(set(numbers)) == 1 else sum(numbers) / len(numbers)


@dataclass(frozen=True)
class _Blocks:
    """FLOPs of a Transformer's blocks, each for one layer."""

    config: ModelConfig

    def queries(self, place: Place, tokens: int) -> float:
        """Project queries and what the heads say."""
        return tokens * 4 * self.config.embedding_size * place.num_heads * place.head_dim

    def memory(self, place: Place, tokens: int) -> float:
        """Project keys and values."""
        return tokens * 4 * self.config.embedding_size * place.num_kv_heads * place.head_dim

    def products(self, place: Place, targets: int, sources: int) -> float:
        """Match queries with keys and mix values."""
        return 4 * targets * sources * place.num_heads * place.head_dim

    def feedforward(self, tokens: int) -> int:
        """Widen and narrow; SwiGLU has a third matrix."""
        matrices = 3 if self.config.activation == "swiglu" else 2
        return tokens * 2 * matrices * self.config.embedding_size * self.config.feedforward_size

    def attend(self, place: Place, targets: int, sources: int) -> float:
        """Attend from tokens to keys and values that are there."""
        return self.queries(place, targets) + self.products(place, targets, sources)


def _output(config: ModelConfig, vocabulary_size: int, tokens: int) -> int:
    return tokens * 2 * config.embedding_size * (vocabulary_size + (1 if config.copying else 0))


def forward_flops(
    config: ModelConfig, vocabulary_size: int, document_tokens: int, summary_tokens: int
) -> float:
    """Return the FLOPs of one forward pass over an example; training takes three times as many."""
    s, t = document_tokens, summary_tokens
    if config.architecture == "recurrent":
        return (
            _read_recurrent(config, s)
            + _write_recurrent(config, s, t)
            + _output(config, vocabulary_size, t)
        )
    blocks, places = _Blocks(config), {place.name: place for place in _places(config)}
    own = places["decoder"]
    if config.architecture == "gpt":
        whole = (
            blocks.memory(own, s + t)
            + blocks.attend(own, s + t, s + t)
            + blocks.feedforward(s + t)
        )
        last = blocks.memory(own, s + t) + blocks.attend(own, t, s + t) + blocks.feedforward(t)
        return (config.decoder_layers - 1) * whole + last + _output(config, vocabulary_size, t)
    cross = places["cross"]
    layer = blocks.memory(own, t) + blocks.attend(own, t, t) + blocks.feedforward(t)
    layer += blocks.memory(cross, s) + blocks.attend(cross, t, s)
    return (
        _read_transformer(config, s)
        + config.decoder_layers * layer
        + _output(config, vocabulary_size, t)
    )


def decoding_flops(
    config: ModelConfig, vocabulary_size: int, document_tokens: int, summary_tokens: int
) -> float:
    """Return the FLOPs of reading a document and writing a summary greedily, with what decoding
    caches."""
    s, t = document_tokens, summary_tokens
    if config.architecture == "recurrent":
        return forward_flops(config, vocabulary_size, s, t)
    blocks, places = _Blocks(config), {place.name: place for place in _places(config)}
    own, layers = places["decoder"], config.decoder_layers
    seen = t * (t + 1) // 2
    steps = layers * (blocks.memory(own, t) + blocks.attend(own, t, 0) + blocks.feedforward(t))
    steps += layers * blocks.products(own, 1, seen) + _output(config, vocabulary_size, t)
    if config.architecture == "gpt":
        whole = 2 * blocks.memory(own, s) + blocks.attend(own, s, s) + blocks.feedforward(s)
        return (
            (layers - 1) * whole
            + blocks.memory(own, s)
            + steps
            + layers * blocks.products(own, t, s)
        )
    cross = places["cross"]
    crossing = blocks.memory(cross, s) + blocks.attend(cross, t, s)
    return _read_transformer(config, s) + steps + layers * crossing


def _read_transformer(config: ModelConfig, tokens: int) -> float:
    blocks, place = _Blocks(config), _places(config)[0]
    layer = (
        blocks.memory(place, tokens)
        + blocks.attend(place, tokens, tokens)
        + blocks.feedforward(tokens)
    )
    return config.encoder_layers * layer


def _read_recurrent(config: ModelConfig, tokens: int) -> int:
    size, gates = config.embedding_size, 4 if config.cell == "lstm" else 3
    layer = (
        2 * 2 * gates * (size // 2) * (size + size // 2)
    )  # either direction reads the layer below and itself
    return tokens * config.encoder_layers * layer + 2 * (size // 2) * config.decoder_layers * size


def _write_recurrent(config: ModelConfig, document_tokens: int, summary_tokens: int) -> int:
    size, gates = config.embedding_size, 4 if config.cell == "lstm" else 3
    cells = 2 * gates * size * (3 * size) + (config.decoder_layers - 1) * 2 * gates * size * (
        2 * size
    )
    token = cells + 2 * size * size + 2 * 3 * size * size  # cells, query, readout
    attention = document_tokens * 2 * size * size + summary_tokens * document_tokens * 4 * size
    return summary_tokens * token + attention
