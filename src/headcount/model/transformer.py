"""The encoder-decoder Transformer (Vaswani et al. 2017), pre-norm (Xiong et al. 2020), on ragged batches.

Shapes are suffixes of names:

    B examples, N document tokens and M summary tokens of all examples together, T summary and S document tokens,
    D embedding_size, H num_heads, K head_dim, C cache positions, V vocabulary_size
"""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.model.attention import MultiHeadAttention, Rows


@dataclass
class DecoderState:
    """What decoding remembers between two steps; each list has one tensor a decoder layer.

    Attributes:
        self_keys: [B, H, C, K], filled up to ``position``.
        self_values: likewise.
        cross_keys: the document's keys [B, H, S, K], computed once.
        cross_values: likewise.
        allowed_BS: True where the document has a token.
        position: number of tokens written.
    """

    self_keys: list[Tensor]
    self_values: list[Tensor]
    cross_keys: list[Tensor]
    cross_values: list[Tensor]
    allowed_BS: Tensor
    position: int = 0

    def keep(self, examples: Tensor) -> None:
        """Keep these examples alone: finished ones leave the batch."""
        self.allowed_BS = self.allowed_BS[examples]
        for cache in (self.self_keys, self.self_values, self.cross_keys, self.cross_values):
            cache[:] = [layer[examples] for layer in cache]


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them (Vaswani et al. 2017, section 3.3, has a ReLU)."""

    def __init__(self, *, embedding_size: int, feedforward_size: int) -> None:
        """Make the two layers, of feedforward_size in the middle."""
        widen, narrow = nn.Linear(embedding_size, feedforward_size), nn.Linear(feedforward_size, embedding_size)
        super().__init__(widen, nn.GELU(), narrow)
        for linear in (widen, narrow):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)


class Layer(nn.Module):
    """Self-attention, cross-attention in a decoder, feed-forward; each normalized before and added after."""

    def __init__(
        self,
        *,
        embedding_size: int,
        num_heads: int,
        feedforward_size: int,
        dropout: float,
        attention_dropout: float,
        decoder: bool,
    ) -> None:
        """Make the blocks; a decoder's self-attention is causal."""
        super().__init__()
        self.decoder = decoder

        def attention() -> MultiHeadAttention:
            return MultiHeadAttention(embedding_size=embedding_size, num_heads=num_heads, dropout=attention_dropout)

        self.attention_norm, self.attention = nn.LayerNorm(embedding_size), attention()
        if decoder:
            self.cross_attention_norm, self.cross_attention = nn.LayerNorm(embedding_size), attention()
        self.feedforward_norm = nn.LayerNorm(embedding_size)
        self.feedforward = FeedForward(embedding_size=embedding_size, feedforward_size=feedforward_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_ND: Tensor, rows: Rows, memory: tuple[Tensor, Rows] | None = None, *, return_weights: bool = False
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Return the tokens after this layer, [N, D], and, if asked for, each example's cross-attention [H, T, S]."""
        weights = None
        attended_ND, _ = self.attention(self.attention_norm(x_ND), rows, causal=self.decoder)
        x_ND = x_ND + self.dropout(attended_ND)
        if self.decoder:
            normed_ND = self.cross_attention_norm(x_ND)
            attended_ND, weights = self.cross_attention(normed_ND, rows, memory, return_weights=return_weights)
            x_ND = x_ND + self.dropout(attended_ND)
        return x_ND + self.dropout(self.feedforward(self.feedforward_norm(x_ND))), weights

    def step(self, x_BD: Tensor, state: DecoderState, layer: int) -> Tensor:
        """Do the same for one new token an example, with this layer's caches in the state; return [B, D]."""
        normed_BD = self.attention_norm(x_BD)
        keys_BHCK, values_BHCK = state.self_keys[layer], state.self_values[layer]
        keys_BHCK[:, :, state.position], values_BHCK[:, :, state.position] = self.attention.project_memory(normed_BD)
        seen = slice(state.position + 1)
        x_BD = x_BD + self.attention.step(normed_BD, keys_BHCK[:, :, seen], values_BHCK[:, :, seen])
        x_BD = x_BD + self.cross_attention.step(
            self.cross_attention_norm(x_BD), state.cross_keys[layer], state.cross_values[layer], state.allowed_BS
        )
        return x_BD + self.feedforward(self.feedforward_norm(x_BD))


class Transformer(nn.Module):
    """A summarizer: the encoder reads the document, the decoder writes the summary."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        max_positions: int,
        embedding_size: int,
        num_heads: int,
        feedforward_size: int,
        encoder_layers: int,
        decoder_layers: int,
        positions: Literal["sinusoidal", "learned"] = "sinusoidal",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        tie_embeddings: bool = True,
    ) -> None:
        """Make the layers; the names are those of the config's ``model`` section."""
        super().__init__()

        def layers(number: int, decoder: bool) -> list[Layer]:
            made = nn.ModuleList(
                Layer(
                    embedding_size=embedding_size,
                    num_heads=num_heads,
                    feedforward_size=feedforward_size,
                    dropout=dropout,
                    attention_dropout=attention_dropout,
                    decoder=decoder,
                )
                for _ in range(number)
            )
            return cast(list[Layer], made)

        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.scale = math.sqrt(embedding_size)
        table_CD = sinusoids(max_positions, embedding_size)
        if positions == "learned":
            self.positions = nn.Parameter(torch.randn_like(table_CD) * 0.02)
        else:
            self.register_buffer("positions", table_CD, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.encoder, self.encoder_norm = layers(encoder_layers, False), nn.LayerNorm(embedding_size)
        self.decoder, self.decoder_norm = layers(decoder_layers, True), nn.LayerNorm(embedding_size)
        self.output = nn.Linear(embedding_size, vocabulary_size, bias=False)
        if tie_embeddings:
            self.output.weight = self.embedding.weight
        for weight in {self.embedding.weight, self.output.weight}:
            nn.init.normal_(weight, std=embedding_size**-0.5)

    def forward(self, document_ids_N: Tensor, document_rows: Rows, summary_ids_M: Tensor, summary_rows: Rows) -> Tensor:
        """Return, for each summary token, the logits of the token that follows it, [M, V]."""
        hidden_MD, _ = self.decode(
            self.encode(document_ids_N, document_rows), document_rows, summary_ids_M, summary_rows
        )
        return self.output(hidden_MD)

    def encode(self, document_ids_N: Tensor, rows: Rows) -> Tensor:
        """Read the documents; return their tokens in context, [N, D]."""
        x_ND = self._embed(document_ids_N, rows.positions())
        for layer in self.encoder:
            x_ND, _ = layer(x_ND, rows)
        return self.encoder_norm(x_ND)

    def decode(
        self,
        memory_ND: Tensor,
        document_rows: Rows,
        summary_ids_M: Tensor,
        summary_rows: Rows,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Read the summaries in the light of the documents.

        Returns:
            The summaries' tokens in context [M, D] and, if asked for, per layer and example where each head looks in
            the document, [H, T, S].
        """
        x_MD = self._embed(summary_ids_M, summary_rows.positions())
        per_layer = []
        for layer in self.decoder:
            x_MD, weights = layer(x_MD, summary_rows, (memory_ND, document_rows), return_weights=return_weights)
            per_layer.append(weights)
        return self.decoder_norm(x_MD), per_layer if return_weights else []

    def start(self, document_ids_N: Tensor, rows: Rows, *, capacity: int) -> DecoderState:
        """Read the documents and make room to write up to ``capacity`` tokens for each."""
        memory_BSD, allowed_BS = rows.pad(self.encode(document_ids_N, rows))
        cross = [layer.cross_attention.project_memory(memory_BSD) for layer in self.decoder]
        heads = [layer.attention for layer in self.decoder]
        rooms = [(len(rows.lengths), head.num_heads, capacity, head.head_dim) for head in heads]
        return DecoderState(
            self_keys=[memory_BSD.new_empty(room) for room in rooms],
            self_values=[memory_BSD.new_empty(room) for room in rooms],
            cross_keys=[key_BSHK.transpose(1, 2).contiguous() for key_BSHK, _ in cross],
            cross_values=[value_BSHK.transpose(1, 2).contiguous() for _, value_BSHK in cross],
            allowed_BS=allowed_BS,
        )

    def step(self, token_ids_B: Tensor, state: DecoderState) -> Tensor:
        """Write one token for each example; return the logits of the next, [B, V]. The state moves on."""
        x_BD = self._embed(token_ids_B, torch.full_like(token_ids_B, state.position))
        for index, layer in enumerate(self.decoder):
            x_BD = layer.step(x_BD, state, index)
        state.position += 1
        return self.output(self.decoder_norm(x_BD))

    def _embed(self, ids_N: Tensor, positions_N: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids_N) * self.scale + F.embedding(positions_N, self.positions))


def sinusoids(length: int, embedding_size: int) -> Tensor:
    """Return the position table of Vaswani et al. 2017, section 3.5: [length, embedding_size]."""
    rates = torch.exp(torch.arange(0, embedding_size, 2) * (-math.log(10_000) / embedding_size))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :embedding_size]


@torch.inference_mode()
def decode_greedily(
    model: Transformer, document_ids_N: Tensor, rows: Rows, *, start_id: int, end_id: int, max_tokens: int
) -> list[list[int]]:
    """Write a summary for each document, always with the likeliest token.

    Args:
        model: in evaluation mode.
        document_ids_N: the documents, end to end.
        rows: where they begin and end.
        start_id: token that every summary starts from.
        end_id: token that ends a summary.
        max_tokens: longest summary, the end token included.

    Returns:
        For each document the tokens of its summary, without start and end token.
    """
    state = model.start(document_ids_N, rows, capacity=max_tokens)
    summaries: list[list[int]] = [[] for _ in rows.lengths]
    active = list(range(len(summaries)))
    token_ids_B = torch.full((len(active),), start_id, device=document_ids_N.device)
    for _ in range(max_tokens):
        token_ids_B = model.step(token_ids_B, state).argmax(-1)
        tokens = token_ids_B.tolist()
        going = [row for row, token in enumerate(tokens) if token != end_id]
        for row in going:
            summaries[active[row]].append(tokens[row])
        if not going:
            break
        if len(going) < len(active):
            kept = torch.tensor(going, device=token_ids_B.device)
            state.keep(kept)
            token_ids_B, active = token_ids_B[kept], [active[row] for row in going]
    return summaries
