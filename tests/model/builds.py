"""Small models of every kind, and ragged ids to feed them."""

from functools import cache

import torch
from torch import Tensor

from headcount.config.load import load
from headcount.config.schema import Config
from headcount.model.base import SummaryModel
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout

VOCABULARY, POSITIONS = 30, 40
DOCUMENTS, SUMMARIES = [7, 1, 12, 4], [3, 6, 1, 5]
SMALL = [
    "model.embedding_size=16",
    "model.num_heads=4",
    "model.feedforward_size=32",
    "model.encoder_layers=2",
    "model.decoder_layers=2",
    "model.dropout=0",
]
ARCHITECTURES = {
    "transformer": [],
    "gpt": ["model.architecture=gpt", "model.encoder_layers=0"],
    "recurrent": [
        "model.architecture=recurrent",
        "model.attention=additive",
        "model.norm=none",
        "model.positions=none",
    ],
}

# How the next token is predicted: from the vocabulary alone, and with the document's tokens mixed in.
OUTPUTS: list[list[str]] = [[], ["copying=true"]]

# Those whose attention blocks are multi-head attention.
MULTI_HEAD = [name for name in ARCHITECTURES if name != "recurrent"]


@cache
def load_small(architecture: str, changes: tuple[str, ...]) -> Config:
    """Load a config once for all tests of a process: that takes longer than to build its model."""
    return load(
        [], [*SMALL, *ARCHITECTURES[architecture], *(f"model.{change}" for change in changes)]
    )


def make(architecture: str, *changes: str, dtype: torch.dtype = torch.float64) -> SummaryModel:
    """Build a small model; a change is written as on the command line, without ``model.``."""
    torch.manual_seed(0)
    config = load_small(architecture, changes)
    model = build_model(config.model, vocabulary_size=VOCABULARY, max_positions=POSITIONS).to(
        dtype
    )
    for parameter in model.parameters():  # biases too
        torch.nn.init.uniform_(parameter, -0.4, 0.4)
    return model


def ids(lengths: list[int], seed: int = 1) -> Tensor:
    return torch.randint(
        VOCABULARY, (sum(lengths),), generator=torch.Generator().manual_seed(seed)
    )


def batch(
    documents: list[int] = DOCUMENTS, summaries: list[int] = SUMMARIES
) -> tuple[Tensor, BatchLayout, Tensor, BatchLayout]:
    return (
        ids(documents),
        BatchLayout.from_lengths(documents),
        ids(summaries, 2),
        BatchLayout.from_lengths(summaries),
    )
