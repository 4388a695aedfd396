"""Build a model from the ``model`` section of a config."""

from typing import Literal

from torch import nn

from headcount.config.sections.model import ModelConfig
from headcount.model.attention import ATTENTIONS, MultiHeadAttention
from headcount.model.base import Embedding, SummaryModel, output_layer
from headcount.model.gpt import GPT
from headcount.model.layers import NORMS, FeedForward, Layer
from headcount.model.recurrent import Recurrent
from headcount.model.transformer import Transformer


def build_model(config: ModelConfig, *, vocabulary_size: int, max_positions: int) -> SummaryModel:
    """Build the model that a config describes.

    Random weights are drawn in the order in which the parts are built: embeddings, output,
    encoder, decoder.

    Args:
        config: the ``model`` section, which has checked that its settings go together.
        vocabulary_size: number of tokens of the tokenizer.
        max_positions: number of positions.
    """
    return _Builder(config, vocabulary_size, max_positions).build()


class _Builder:
    def __init__(self, config: ModelConfig, vocabulary_size: int, max_positions: int) -> None:
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.max_positions = max_positions

    def build(self) -> SummaryModel:
        """Build the model."""
        # A decoder-only model reads both texts with one embedding. The others have one of their
        # own for the document, unless it is tied.
        config = self.config
        summary_embedding = document_embedding = self._embedding()
        if config.architecture != "gpt" and config.tie_embeddings != "all":
            document_embedding = self._embedding()
        output = output_layer(summary_embedding, tied=config.tie_embeddings != "none")
        copy_gate = nn.Linear(config.embedding_size, 1) if config.copying else None

        if config.architecture == "gpt":
            return GPT(
                embedding=summary_embedding,
                output=output,
                copy_gate=copy_gate,
                decoder=self._layers("decoder", causal=True),
                decoder_norm=self._final_norm(),
            )
        if config.architecture == "recurrent":
            return Recurrent(
                summary_embedding=summary_embedding,
                document_embedding=document_embedding,
                output=output,
                copy_gate=copy_gate,
                cell=config.cell,
                encoder_layers=config.encoder_layers,
                decoder_layers=config.decoder_layers,
                num_heads=config.heads_of("cross", 0),
                kept_heads=config.kept_heads("cross", 0),
                dropout=config.dropout,
            )
        return Transformer(
            summary_embedding=summary_embedding,
            document_embedding=document_embedding,
            output=output,
            copy_gate=copy_gate,
            encoder=self._layers("encoder", causal=False),
            encoder_norm=self._final_norm(),
            decoder=self._layers("decoder", causal=True),
            decoder_norm=self._final_norm(),
        )

    def _embedding(self) -> Embedding:
        return Embedding(
            vocabulary_size=self.vocabulary_size,
            embedding_size=self.config.embedding_size,
            positions=self.config.positions,
            max_positions=self.max_positions,
            dropout=self.config.dropout,
        )

    def _layers(self, site: Literal["encoder", "decoder"], *, causal: bool) -> list[Layer]:
        config = self.config
        has_cross_attention = site == "decoder" and config.architecture == "transformer"
        layers = []
        for layer in range(config.layers_of(site)):
            # Random weights are drawn in this order.
            attention = self._attention(site, layer)
            cross_attention = self._attention("cross", layer) if has_cross_attention else None

            feedforward = FeedForward(
                embedding_size=config.embedding_size,
                feedforward_size=config.feedforward_size,
                activation=config.activation,
            )
            layers.append(
                Layer(
                    attention=attention,
                    cross_attention=cross_attention,
                    feedforward=feedforward,
                    norm=config.norm,
                    norm_position=config.norm_position,
                    dropout=config.dropout,
                    layer_dropout=config.layer_dropout,
                    causal=causal,
                )
            )
        return layers

    def _attention(
        self, site: Literal["encoder", "decoder", "cross"], layer: int
    ) -> MultiHeadAttention:
        config = self.config
        # Rotary positions and ALiBi belong to self-attention.
        positions: Literal["none", "rotary", "alibi"] = "none"
        if site != "cross" and (config.positions == "rotary" or config.positions == "alibi"):
            positions = config.positions
        return ATTENTIONS[config.attention](
            embedding_size=config.embedding_size,
            num_heads=config.heads_of(site, layer),
            num_kv_heads=config.kv_heads_of(site, layer),
            kept_heads=config.kept_heads(site, layer),
            head_dim=config.head_dim,
            dropout=config.attention_dropout,
            positions=positions,
            max_positions=self.max_positions,
        )

    def _final_norm(self) -> nn.Module:
        """Return the normalization after the last layer, which only pre-norm needs."""
        if self.config.norm_position == "pre":
            return NORMS[self.config.norm](self.config.embedding_size)
        return nn.Identity()
