"""The encoder-decoder Transformer (Vaswani et al. 2017), pre-norm (Xiong et al. 2020), on ragged batches.

Shapes are suffixes of names:

    B examples, N document tokens and M summary tokens of all examples together, S the longest document,
    D embedding_size, H num_heads, K head_dim, C cache positions, V vocabulary_size
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.model.attention import MultiHeadAttention, Rows, pad


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
        """Keep these examples only, [B'] integers: finished ones leave the batch."""
        self.allowed_BS = self.allowed_BS[examples]
        for cache in (self.self_keys, self.self_values, self.cross_keys, self.cross_values):
            cache[:] = [layer[examples] for layer in cache]


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them (Vaswani et al. 2017, section 3.3; GELU for its ReLU)."""

    def __init__(self, *, embedding_size: int, feedforward_size: int) -> None:
        """Make the two layers, of feedforward_size in the middle."""
        super().__init__(
            nn.Linear(embedding_size, feedforward_size),
            nn.GELU(),
            nn.Linear(feedforward_size, embedding_size),
        )
        for layer in (self[0], self[2]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward; each normalized before and added after."""

    def __init__(
        self,
        *,
        embedding_size: int,
        num_heads: int,
        feedforward_size: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        """Make the blocks."""
        super().__init__()
        self.attention = MultiHeadAttention(
            embedding_size=embedding_size, num_heads=num_heads, dropout=attention_dropout
        )
        self.feedforward = FeedForward(embedding_size=embedding_size, feedforward_size=feedforward_size)
        self.attention_norm = nn.LayerNorm(embedding_size)
        self.feedforward_norm = nn.LayerNorm(embedding_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_ND: Tensor, rows: Rows) -> Tensor:
        """Return the tokens after this layer, [N, D]."""
        attended_ND, _ = self.attention(self.attention_norm(x_ND), rows)
        x_ND = x_ND + self.dropout(attended_ND)
        return x_ND + self.dropout(self.feedforward(self.feedforward_norm(x_ND)))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the document, feed-forward; each normalized before and added after."""

    def __init__(
        self,
        *,
        embedding_size: int,
        num_heads: int,
        feedforward_size: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        """Make the blocks."""
        super().__init__()
        self.attention = MultiHeadAttention(
            embedding_size=embedding_size, num_heads=num_heads, dropout=attention_dropout
        )
        self.cross_attention = MultiHeadAttention(
            embedding_size=embedding_size, num_heads=num_heads, dropout=attention_dropout
        )
        self.feedforward = FeedForward(embedding_size=embedding_size, feedforward_size=feedforward_size)
        self.attention_norm = nn.LayerNorm(embedding_size)
        self.cross_attention_norm = nn.LayerNorm(embedding_size)
        self.feedforward_norm = nn.LayerNorm(embedding_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_MD: Tensor, rows: Rows, memory_ND: Tensor, memory_rows: Rows, *, return_weights: bool = False
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Return the tokens after this layer, [M, D], and if asked for each example's cross-attention [H, T, S]."""
        attended_MD, _ = self.attention(self.attention_norm(x_MD), rows, causal=True)
        x_MD = x_MD + self.dropout(attended_MD)
        attended_MD, weights = self.cross_attention(
            self.cross_attention_norm(x_MD), rows, memory_ND, memory_rows, return_weights=return_weights
        )
        x_MD = x_MD + self.dropout(attended_MD)
        return x_MD + self.dropout(self.feedforward(self.feedforward_norm(x_MD))), weights

    def step(self, x_BD: Tensor, state: DecoderState, layer: int) -> Tensor:
        """Do the same for one new token an example, with the state's keys and values; return [B, D]."""
        normed_BD = self.attention_norm(x_BD)
        keys_BHCK, values_BHCK = state.self_keys[layer], state.self_values[layer]
        keys_BHCK[:, :, state.position], values_BHCK[:, :, state.position] = self.attention.project_memory(
            normed_BD
        )
        seen = slice(state.position + 1)
        x_BD = x_BD + self.attention.step(
            self.attention.project_query(normed_BD), keys_BHCK[:, :, seen], values_BHCK[:, :, seen], None
        )
        x_BD = x_BD + self.cross_attention.step(
            self.cross_attention.project_query(self.cross_attention_norm(x_BD)),
            state.cross_keys[layer],
            state.cross_values[layer],
            state.allowed_BS,
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
        self.scale = math.sqrt(embedding_size)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        table_CD = sinusoids(max_positions, embedding_size)
        if positions == "learned":
            self.positions = nn.Parameter(torch.randn_like(table_CD) * 0.02)
        else:
            self.register_buffer("positions", table_CD, persistent=False)
        block = {
            "embedding_size": embedding_size,
            "num_heads": num_heads,
            "feedforward_size": feedforward_size,
        }
        rates = {"dropout": dropout, "attention_dropout": attention_dropout}
        self.encoder = nn.ModuleList(EncoderLayer(**block, **rates) for _ in range(encoder_layers))
        self.encoder_norm = nn.LayerNorm(embedding_size)
        self.decoder = nn.ModuleList(DecoderLayer(**block, **rates) for _ in range(decoder_layers))
        self.decoder_norm = nn.LayerNorm(embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embedding_size, vocabulary_size, bias=False)
        if tie_embeddings:
            self.output.weight = self.embedding.weight
        else:
            nn.init.normal_(self.output.weight, std=embedding_size**-0.5)

    def forward(
        self, document_ids_N: Tensor, document_rows: Rows, summary_ids_M: Tensor, summary_rows: Rows
    ) -> Tensor:
        """Return, for each summary token, the logits of the token that follows it, [M, V]."""
        memory_ND = self.encode(document_ids_N, document_rows)
        x_MD = self._embed(summary_ids_M, summary_rows.positions())
        for layer in self.decoder:
            x_MD, _ = layer(x_MD, summary_rows, memory_ND, document_rows)
        return self.output(self.decoder_norm(x_MD))

    def encode(self, document_ids_N: Tensor, rows: Rows) -> Tensor:
        """Read the documents; return their tokens in context, [N, D]."""
        x_ND = self._embed(document_ids_N, rows.positions())
        for layer in self.encoder:
            x_ND = layer(x_ND, rows)
        return self.encoder_norm(x_ND)

    def cross_attention(
        self, document_ids_N: Tensor, document_rows: Rows, summary_ids_M: Tensor, summary_rows: Rows
    ) -> list[list[Tensor]]:
        """Return for each decoder layer and example where every head looks in the document, [H, T, S]."""
        memory_ND = self.encode(document_ids_N, document_rows)
        x_MD = self._embed(summary_ids_M, summary_rows.positions())
        layers = []
        for layer in self.decoder:
            x_MD, weights = layer(x_MD, summary_rows, memory_ND, document_rows, return_weights=True)
            layers.append(weights)
        return layers

    def start(self, document_ids_N: Tensor, rows: Rows, *, capacity: int) -> DecoderState:
        """Read the documents and make room to write up to ``capacity`` tokens for each."""
        memory_BSD, allowed_BS = pad(self.encode(document_ids_N, rows), rows)
        cross = [layer.cross_attention.project_memory(memory_BSD) for layer in self.decoder]
        head = self.decoder[0].attention
        room = (len(rows.lengths), head.num_heads, capacity, head.head_dim)
        return DecoderState(
            self_keys=[memory_BSD.new_empty(room) for _ in self.decoder],
            self_values=[memory_BSD.new_empty(room) for _ in self.decoder],
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
        embedded_ND = F.embedding(ids_N, self.embedding.weight) * self.scale
        return self.dropout(embedded_ND + F.embedding(positions_N, self.positions))


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
    active = list(range(len(rows.lengths)))
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
            token_ids_B = token_ids_B[kept]
            active = [active[row] for row in going]
    return summaries
