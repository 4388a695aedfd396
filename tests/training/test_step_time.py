from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor
from torch.optim import AdamW, Optimizer

from headcount.config.schema import Config
from headcount.model.output import ModelOutput
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


def test_a_step_of_r_drop_is_timed_with_both_passes(
    small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    divergences = []

    def spy(first: ModelOutput, second: ModelOutput) -> Tensor:
        divergences.append(divergence(first, second))
        return divergences[-1]

    divergence = ModelOutput.divergence
    monkeypatch.setattr(ModelOutput, "divergence", spy)
    time_step(small("model.dropout=0.1"))
    assert not divergences
    time_step(small("model.dropout=0.1", "optimizer.r_drop=1"))
    assert len(divergences) == 3 and all(each > 0 for each in divergences)
