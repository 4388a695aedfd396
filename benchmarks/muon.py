"""What Muon costs: the optimizer's share of a training step, before and after making it cheap.

    python benchmarks/muon.py

At the sizes of two committed configs, on one thread, all optimizers go through the same batches in
turn. A figure is the median over batches, in CPU milliseconds, which other work on the machine
changes little.

- ``adamw``: AdamW alone
- ``one by one``: Muon as a formula, matrix by matrix in fp32
- ``torch``: ``torch.optim.Muon`` for the hidden matrices, matrix by matrix in bf16; stacked
  projections are one matrix to it
- ``fp32``, ``bf16``: ours, matrices of a shape at once; ``optimizer.name=muon`` takes bf16 where
  the device has units for it, otherwise fp32
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from headcount.config.load import load
from headcount.config.schema import Config
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout
from headcount.training import optimizers

CONFIGS = Path(__file__).parent.parent / "configs"
STEPS = 14  # the first two are left out
KINDS = ("adamw", "one by one", "torch", "fp32", "bf16")
together = optimizers.orthogonalize


def one_by_one(matrices: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    return [together([matrix], dtype)[0] for matrix in matrices]


def optimizer_step(kind: str, model: Any, config: Config) -> Callable[[], None]:
    """Return what takes a step of one kind of optimizer."""
    section = replace(config.optimizer, name="adamw" if kind == "adamw" else "muon")
    ours = optimizers.make_optimizer(model, section, fused=True)
    if kind == "adamw":
        return ours.step
    if kind == "torch":
        muon = torch.optim.Muon(
            ours.param_groups[0]["params"], lr=1e-3, adjust_lr_fn="match_rms_adamw"
        )
        adamw = torch.optim.AdamW(
            [p for group in ours.param_groups[1:] for p in group["params"]], lr=1e-3, fused=True
        )

        def step_both() -> None:
            muon.step()
            adamw.step()

        return step_both

    def step() -> None:
        optimizers.orthogonalize = one_by_one if kind == "one by one" else together
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        optimizers._fast_dtype = lambda device: dtype
        ours.step()

    return step


def main() -> None:
    torch.set_num_threads(1)
    docstrings = load([str(CONFIGS / "docstrings.yaml")], [])
    measure("docstrings", docstrings, examples=19, document=128, summary=30)
    dialogsum = [str(CONFIGS / "data/dialogsum.yaml"), str(CONFIGS / "dialogsum.yaml")]
    measure("dialogsum", load(dialogsum, []), examples=16, document=256, summary=40)


def measure(name: str, config: Config, *, examples: int, document: int, summary: int) -> None:
    models = {}
    for kind in KINDS:
        torch.manual_seed(0)
        model = build_model(config.model, vocabulary_size=8000, max_positions=config.max_positions)
        models[kind] = model, optimizer_step(kind, model, config)
    passes: dict[str, list[float]] = {kind: [] for kind in KINDS}
    steps: dict[str, list[float]] = {kind: [] for kind in KINDS}
    generator = torch.Generator().manual_seed(0)
    for index in range(STEPS):
        documents = torch.randint(document // 3, document + 1, (examples,), generator=generator)
        summaries = torch.randint(6, summary + 1, (examples,), generator=generator)
        ids = torch.randint(2, 8000, (int(documents.sum()),), generator=generator)
        read, targets = torch.randint(2, 8000, (2, int(summaries.sum())), generator=generator)
        layouts = [
            BatchLayout.from_lengths(lengths.tolist()) for lengths in (documents, summaries)
        ]
        for kind, (model, step) in models.items():
            begin = time.process_time()
            loss = model(ids, layouts[0], read, layouts[1]).loss(targets)
            model.zero_grad()
            loss.backward()
            middle = time.process_time()
            step()
            if index >= 2:
                passes[kind].append(1000 * (middle - begin))
                steps[kind].append(1000 * (time.process_time() - middle))
    for kind in KINDS:
        forward_backward = statistics.median(passes[kind])
        step = statistics.median(steps[kind])
        share = step / (forward_backward + step)
        print(
            f"{name:10} {kind:10} forward and backward {forward_backward:6.1f} ms, "
            f"optimizer {step:6.1f} ms, its share {share:5.1%}"
        )


if __name__ == "__main__":
    main()
