"""bf16 against fp32 in training on a CPU: steps side by side, and two loss curves.

    python benchmarks/precision.py

The same batches and weights go through both, in turn; attention stays in fp32 in either. The loss
curves are on a task that can be learnt: a summary is the beginning of its document.
"""

import statistics
import time

import torch

from headcount.config.load import load
from headcount.model.base import SummaryModel
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout

WORK = [
    "embedding_size=256",
    "num_heads=8",
    "feedforward_size=1024",
    "encoder_layers=4",
    "decoder_layers=4",
]
VOCABULARY, EXAMPLES = 8000, 16


def make() -> tuple[SummaryModel, torch.optim.Optimizer]:
    torch.manual_seed(0)
    config = load([], [f"model.{change}" for change in WORK])
    model = build_model(config.model, vocabulary_size=VOCABULARY, max_positions=512)
    return model, torch.optim.AdamW(model.parameters(), lr=5e-4, fused=True)


def draw(
    generator: torch.Generator, *, words: int
) -> tuple[torch.Tensor, BatchLayout, torch.Tensor, BatchLayout]:
    """Lengths as in dialogue summarization: a median of 172 and 29 tokens."""
    spread = torch.randn(2, EXAMPLES, generator=generator)
    documents = (172 * (0.48 * spread[0]).exp()).clamp(24, 512).int().tolist()
    summaries = (29 * (0.42 * spread[1]).exp()).clamp(8, 100).int().tolist()
    ids = torch.randint(4, 4 + words, (sum(documents),), generator=generator)
    beginnings = [
        text.repeat(5)[: length + 1]
        for text, length in zip(ids.split(documents), summaries, strict=True)
    ]
    read = torch.cat([torch.cat([torch.tensor([2]), text[:-1]]) for text in beginnings])
    return (
        ids,
        BatchLayout.from_lengths(documents),
        read,
        BatchLayout.from_lengths([len(text) for text in beginnings]),
    )


def step(
    model: SummaryModel,
    optimizer: torch.optim.Optimizer,
    batch: tuple[torch.Tensor, BatchLayout, torch.Tensor, BatchLayout],
    bf16: bool,
) -> float:
    targets = torch.cat(
        [torch.cat([text[1:], text[:1]]) for text in batch[2].split(batch[3].lengths)]
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = model(*batch).loss(targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    runs = {False: make(), True: make()}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    tokens = []
    for index in range(12):
        batch = draw(generator, words=VOCABULARY - 4)
        for bf16, (model, optimizer) in runs.items():
            begin = time.perf_counter()
            step(model, optimizer, batch, bf16)
            if index >= 2:
                seconds[bf16].append(time.perf_counter() - begin)
        tokens.append(len(batch[0]) + len(batch[2]))
    ratios = [slow / fast for slow, fast in zip(seconds[False], seconds[True], strict=True)]
    speeds = {bf16: sum(tokens[2:]) / sum(each) for bf16, each in seconds.items()}
    print(f"fp32 {speeds[False]:,.0f} tokens/s, bf16 {speeds[True]:,.0f} tokens/s")
    print(
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) over "
        f"{len(ratios)} batches"
    )

    print("loss, mean of 20 steps: fp32, bf16")
    curves: dict[bool, list[float]] = {False: [], True: []}
    for bf16 in curves:
        model, optimizer = make()
        generator = torch.Generator().manual_seed(1)
        curves[bf16] = [
            step(model, optimizer, draw(generator, words=50), bf16) for _ in range(100)
        ]
    for begin in range(0, 100, 20):
        means = [statistics.mean(curves[bf16][begin : begin + 20]) for bf16 in (False, True)]
        print(f"  steps {begin + 1:3}-{begin + 20:3}: {means[0]:.4f} {means[1]:.4f}")


if __name__ == "__main__":
    main()
