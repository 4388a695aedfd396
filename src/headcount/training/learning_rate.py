"""The learning rate over the steps of a training, which may have stages."""

import math
from collections.abc import Sequence

from headcount.config.sections.optimizer import Schedule
from headcount.config.sections.stages import StageConfig


def learning_rate_factor(
    step: int, schedule: Schedule, warmup_steps: int, total_steps: float
) -> float:
    """Return the learning rate at a step as a share of its peak: a linear warm-up, then the
    schedule.

    ``inverse_sqrt`` is that of Vaswani et al. 2017, section 5.3. ``cosine`` falls to zero
    (Loshchilov and Hutter 2017). If the number of steps is infinite, it does not fall.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "inverse_sqrt":
        return math.sqrt((warmup_steps + 1) / (step + 1))
    if schedule == "cosine":
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0


def staged_learning_rate_factor(
    step: int, plan: Sequence[tuple[int, StageConfig]], total_steps: float
) -> float:
    """Return the learning rate at a step of a training in stages, as a share of the optimizer's.

    Each stage has a warm-up and a schedule of its own, which ends with it.

    Args:
        step: of the whole training, from 0.
        plan: ``Config.stage_plan``.
        total_steps: of the whole training.
    """
    begin, stage = plan[0]
    end = total_steps
    for next_begin, next_stage in plan[1:]:
        if step < next_begin:
            end = next_begin
            break
        begin = next_begin
        stage = next_stage
    factor = learning_rate_factor(step - begin, stage.schedule, stage.warmup_steps, end - begin)
    return stage.learning_rate_factor * factor
