"""bf16 is reported where it is slow, and only there."""

import pytest
import torch

from headcount.training.bf16 import multiplies_in_bf16, report_slow_bf16
from headcount.training.trainer import make_trainer

SLOW = "this CPU has no instructions for bf16, so each step takes many times as long; faster here:"


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"amx_bf16": False, "avx512_bf16": False}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_which_cpu_multiplies_in_bf16(
    capabilities: dict, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert multiplies_in_bf16(torch.device("cpu")) == expected
    assert multiplies_in_bf16(torch.device("cuda"))


@pytest.mark.parametrize("has_instructions", [True, False])
@pytest.mark.parametrize(
    "changes, printed",
    [
        ([], []),
        (["trainer.precision=bf16-mixed"], ["trainer.precision=bf16-mixed"]),
        (
            ["trainer.precision=bf16-true", "generation.precision=bfloat16"],
            ["trainer.precision=bf16-true", "generation.precision=bfloat16"],
        ),
    ],
)
def test_slow_settings_are_named_with_faster_ones(
    changes: list[str],
    printed: list[str],
    has_instructions: bool,
    small,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_instructions})
    config = small(*changes)
    trainer = make_trainer(config, loggers=[], callbacks=[])
    capsys.readouterr()
    report_slow_bf16(config, trainer)

    lines = " ".join("".join(capsys.readouterr()).split())
    assert lines.count(SLOW) == (0 if has_instructions else len(printed))
    for setting in printed:
        assert (f"{setting}: {SLOW}" in lines) != has_instructions
