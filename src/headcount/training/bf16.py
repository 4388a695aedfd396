"""Where bf16 is fast, and a warning where it is not."""

from typing import Any

import pytorch_lightning as pl
import torch

from headcount.config.schema import Config
from headcount.terminal import print_line

CPU_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")  # as torch names them


def multiplies_in_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions that multiply matrices in bf16.

    A CPU without them computes each product by software, which takes many times as long as in
    fp32 (``benchmarks/precision.py``). Every GPU is taken to have them.
    """
    if device.type != "cpu":
        return True
    # Older versions of torch cannot tell.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in CPU_INSTRUCTIONS)


def report_slow_bf16(config: Config, trainer: pl.Trainer) -> None:
    """Print which settings ask for bf16 on a device that has no instructions for it.

    Args:
        config: of the training.
        trainer: its device is used.
    """
    if multiplies_in_bf16(trainer.strategy.root_device):
        return
    slow = []
    precision = config.trainer.get("precision")
    if str(precision).startswith("bf16"):
        slow.append((f"trainer.precision={precision}", "32-true"))
    if config.generation.precision == "bfloat16":
        slow.append(("generation.precision=bfloat16", "float32"))
    for setting, faster in slow:
        print_line(
            f"{setting}: this CPU has no instructions for bf16, so each step takes many times as "
            f"long; faster here: {faster}"
        )
