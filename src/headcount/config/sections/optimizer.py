"""The section ``optimizer`` of a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headcount.config.section import Section, key

OptimizerName = Literal["adamw", "muon"]
Schedule = Literal["cosine", "inverse_sqrt", "constant"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Section):
    """The optimizer and its learning-rate schedule."""

    name: OptimizerName = key(
        "adamw", "AdamW for all parameters; or Muon for hidden matrices and AdamW for the rest"
    )
    learning_rate: float = key(1e-3, "peak learning rate of AdamW", at_least=0)
    muon_learning_rate: float = key(
        "${optimizer.learning_rate}", "muon: peak learning rate of hidden matrices", at_least=0
    )
    muon_momentum: float = key(
        0.95, "muon: share of the momentum that a step keeps", at_least=0, below=1
    )
    schedule: Schedule = key("cosine", "learning-rate schedule after the warm-up")
    warmup_steps: int = key(200, "steps of linear warm-up", at_least=0)
    weight_decay: float = key(0.01, "weight decay, on matrices only", at_least=0)
    beta1: float = key(0.9, "beta1 of AdamW", at_least=0, below=1)
    beta2: float = key(0.98, "beta2 of AdamW", at_least=0, below=1)
    ema_decay: float = key(
        0.0,
        "decay of the exponential moving average of the weights, which is used for validation "
        "and generation; "
        "0 turns it off",
        at_least=0,
        below=1,
    )
    label_smoothing: float = key(
        0.1, "probability mass that the loss spreads over the vocabulary", at_least=0, below=1
    )
    r_drop: float = key(
        0.0,
        "R-Drop: weight of the divergence between two passes with different dropout; 1 to 5 is "
        "usual, a step takes two to three times as long; 0 turns it off",
        at_least=0,
    )

    @property
    def passes(self) -> int:
        """Forward and backward passes over each batch: two with R-Drop."""
        return 2 if self.r_drop else 1
