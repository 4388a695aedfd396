"""From the config's ``model`` section to a model."""

from headcount.config.schema import ModelConfig
from headcount.model.base import SummaryModel, Vocabulary
from headcount.model.gpt import GPT
from headcount.model.layers import Heads, Stack
from headcount.model.recurrent import Recurrent
from headcount.model.transformer import Transformer


def build_model(config: ModelConfig, *, vocabulary_size: int, max_positions: int) -> SummaryModel:
    """Make the model that a config describes; that its settings go together was checked when the config was made.

    Args:
        config: the ``model`` section.
        vocabulary_size: tokens of the tokenizer.
        max_positions: places that the model must know.
    """
    vocabulary = Vocabulary(
        vocabulary_size=vocabulary_size,
        embedding_size=config.embedding_size,
        tie_embeddings=config.tie_embeddings,
        dropout=config.dropout,
        positions=config.positions,
        max_positions=max_positions,
    )
    if config.architecture == "recurrent":
        return Recurrent(
            vocabulary,
            cell=config.cell,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            num_heads=config.cross_heads,
            dropout=config.dropout,
            copying=config.copying,
        )

    def heads(number: int, kv_heads: int | None) -> Heads:
        return Heads(num_heads=number, num_kv_heads=kv_heads, head_dim=config.head_dim)

    def stack(layers: int, self_heads: Heads, cross_heads: Heads | None) -> Stack:
        return Stack(
            layers=layers,
            attention=config.attention,
            embedding_size=config.embedding_size,
            self_heads=self_heads,
            cross_heads=cross_heads,
            feedforward_size=config.feedforward_size,
            activation=config.activation,
            norm=config.norm,
            norm_position=config.norm_position,
            positions=config.positions if config.positions in ("rotary", "alibi") else "none",
            max_positions=max_positions,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )

    written = heads(config.decoder_heads, config.decoder_kv_heads)
    if config.architecture == "gpt":
        return GPT(vocabulary, stack(config.decoder_layers, written, None), copying=config.copying)
    read, crossed = (
        heads(config.encoder_heads, config.encoder_kv_heads),
        heads(config.cross_heads, config.cross_kv_heads),
    )
    return Transformer(
        vocabulary,
        stack(config.encoder_layers, read, None),
        stack(config.decoder_layers, written, crossed),
        copying=config.copying,
    )
