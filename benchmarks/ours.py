"""Our encoder-decoder behind the plain interface that a comparison of libraries measures everybody
by.

``build_model(cfg)`` gives a module with ``loss(src, tgt)`` and ``generate(src, ...)`` on
right-padded ids; ``cfg`` has the sizes, special ids and the number format. Padding is taken off at
the door, within what is measured.
"""

import torch
from torch import Tensor, nn

from headcount.config.load import load
from headcount.config.sections.generation import GenerationConfig
from headcount.generation.constraints import build_constraints
from headcount.generation.generate import generate
from headcount.model.build import build_model as build
from headcount.model.ragged import BatchLayout


class Ours(nn.Module):
    """Padded batches in, ragged ones inside."""

    def __init__(self, cfg, *, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.cfg = cfg
        changes = [
            f"embedding_size={cfg.d_model}",
            f"num_heads={cfg.heads}",
            f"feedforward_size={cfg.ffn}",
            f"encoder_layers={cfg.enc_layers}",
            f"decoder_layers={cfg.dec_layers}",
            f"dropout={cfg.dropout}",
            f"attention_dropout={attention_dropout}",
        ]
        config = load([], [f"model.{change}" for change in changes])
        positions = max(cfg.max_src, cfg.max_tgt)
        self.model = build(config.model, vocabulary_size=cfg.vocab, max_positions=positions)

    def layout(self, padded: Tensor) -> tuple[Tensor, BatchLayout]:
        real = padded != self.cfg.pad
        return padded[real], BatchLayout.from_lengths(real.sum(1).tolist(), padded.device)

    def loss(self, src: Tensor, tgt: Tensor) -> Tensor:
        documents, targets = self.layout(src), tgt[:, 1:]
        targets_real = targets != self.cfg.pad
        layout = BatchLayout.from_lengths(targets_real.sum(1).tolist(), tgt.device)
        return self.model(*documents, tgt[:, :-1][targets_real], layout).loss(
            targets[targets_real]
        )

    def generate(
        self, src: Tensor, *, max_new_tokens: int, num_beams: int, suppress_eos: bool
    ) -> Tensor:
        config = GenerationConfig(
            strategy="greedy" if num_beams == 1 else "beam",
            max_tokens=max_new_tokens,
            min_tokens=max_new_tokens + 1 if suppress_eos else 0,
            num_beams=num_beams,
        )
        constraints = build_constraints(config, end_id=self.cfg.eos)
        tokens = {"start_id": self.cfg.bos, "end_id": self.cfg.eos}
        found = generate(self.model, *self.layout(src), config, constraints=constraints, **tokens)
        return torch.tensor([hypotheses[0].tokens for hypotheses in found])


def build_model(cfg) -> Ours:
    """Return our model at the sizes of cfg."""
    return Ours(cfg)


def build_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW, as our training uses it."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
