import math

import pytest

from headcount.config.load import load
from headcount.training.learning_rate import learning_rate_factor, staged_learning_rate_factor


def test_learning_rate_over_time() -> None:
    for schedule in ("cosine", "inverse_sqrt", "constant"):
        factors = [learning_rate_factor(step, schedule, 10, 110) for step in range(111)]
        assert factors[:10] == pytest.approx([(n + 1) / 11 for n in range(10)])
        assert factors[10] == 1
    assert learning_rate_factor(60, "cosine", 10, 110) == pytest.approx(0.5)
    assert learning_rate_factor(110, "cosine", 10, 110) == pytest.approx(0)
    assert learning_rate_factor(43, "inverse_sqrt", 10, 110) == pytest.approx(math.sqrt(11 / 44))
    assert learning_rate_factor(110, "constant", 10, 110) == 1


def test_each_stage_has_a_schedule_of_its_own() -> None:
    stages = [{"steps": 20, "warmup_steps": 4}, {"steps": 10, "schedule": "constant"}, {}]
    stages[2]["learning_rate_factor"] = 0.5
    plan = load([], [f"stages={stages}", "optimizer.warmup_steps=2"]).stage_plan
    factors = [staged_learning_rate_factor(step, plan, 50) for step in range(51)]
    assert factors[:20] == [learning_rate_factor(step, "cosine", 4, 20) for step in range(20)]
    assert factors[20:30] == [learning_rate_factor(n, "constant", 2, 10) for n in range(10)]
    assert factors[30:] == [learning_rate_factor(n, "cosine", 2, 20) / 2 for n in range(21)]
