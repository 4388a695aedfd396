"""One entry of ``stages``, the consecutive parts of a training."""

from __future__ import annotations

from dataclasses import dataclass

from headcount.config.section import Section, key
from headcount.config.sections.data import Objective
from headcount.config.sections.optimizer import Schedule


@dataclass(frozen=True, kw_only=True)
class StageConfig(Section):
    """A part of a training, in what it differs from the rest of the config."""

    steps: int | None = key(
        None, "optimizer steps; null for the last stage, which takes the rest", at_least=1
    )
    objective: Objective = key("${data.objective}", "as data.objective")
    learning_rate_factor: float = key(
        1.0, "factor on the learning rates of the optimizer", at_least=0
    )
    schedule: Schedule = key("${optimizer.schedule}", "as optimizer.schedule, over this stage")
    warmup_steps: int = key("${optimizer.warmup_steps}", "as optimizer.warmup_steps", at_least=0)

    @classmethod
    def name_in_errors(cls) -> str:
        """Return ``stages[]``: the list is the key that users write."""
        return "stages[]"
