"""The section ``callbacks`` of a config."""

from __future__ import annotations

from dataclasses import dataclass

from headcount.config.section import Section, key


@dataclass(frozen=True, kw_only=True)
class CallbacksConfig(Section):
    """What is logged at each logged step of a training beside loss, accuracy and speed.

    Early stopping is ``evaluation.patience``, a time limit ``trainer.max_time``.
    """

    learning_rate: bool = key(True, "log the learning rate, of muon both")
    gradient_norm: bool = key(True, "log the norm of the gradient before it is clipped")
    device_stats: bool = key(
        False, "log memory of the GPU, or load of the CPU, which needs headcount[device-stats]"
    )
