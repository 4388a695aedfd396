"""The same with dropout on attention weights, as the peers have it by default."""

from ours import Ours, build_optimizer

__all__ = ["build_model", "build_optimizer"]


def build_model(cfg) -> Ours:
    """Return our model at the sizes of cfg, dropout on attention weights too."""
    return Ours(cfg, attention_dropout=cfg.dropout)
