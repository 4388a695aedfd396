from collections.abc import Callable
from typing import Any

import pytest
from torch.optim import AdamW, Optimizer

from headcount.config.schema import Config
from headcount.training.optimizers import Muon, make_optimizer
from headcount.training.step_time import time_step


@pytest.mark.parametrize(("name", "kind"), [("muon", Muon), ("adamw", AdamW)])
def test_a_step_is_timed_with_the_optimizer_of_the_config(
    name: str, kind: type[Optimizer], small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of Muon takes longer than one of AdamW."""
    made = []

    def spy(*arguments: Any, **others: Any) -> Optimizer:
        made.append(make_optimizer(*arguments, **others))
        return made[-1]

    monkeypatch.setattr("headcount.training.step_time.make_optimizer", spy)
    assert time_step(small(f"optimizer.name={name}")) > 0
    assert isinstance(made[-1], kind)
    assert made[-1].state, "no step was taken"
