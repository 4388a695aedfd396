"""bf16 against fp32 in training on a CPU: steps side by side, and two loss curves.

    python benchmarks/precision.py

The models are those of two committed configs and a wider one, all with copying. The same batches
and weights go through both precisions, in turn, in CPU time on one thread, which other work on the
machine changes little; attention stays in fp32 in either. The loss curves are of the wider model,
on a task that can be learnt: a summary is the beginning of its document.
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from headcount.config.load import load
from headcount.config.schema import Config
from headcount.model.base import SummaryModel
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout

CONFIGS = Path(__file__).parent.parent / "configs"
VOCABULARY = 8000


@dataclass(frozen=True)
class Work:
    """A model and the batches that it trains on.

    Attributes:
        config: of the model.
        examples: number of examples in a batch.
        document: median number of tokens of a document.
        summary: median number of tokens of a summary.
    """

    config: Config
    examples: int
    document: int
    summary: int

    def make(self) -> tuple[SummaryModel, torch.optim.Optimizer]:
        """Return the model and its optimizer, always with the same weights."""
        torch.manual_seed(0)
        model = build_model(self.config.model, vocabulary_size=VOCABULARY, max_positions=512)
        return model, torch.optim.AdamW(model.parameters(), lr=5e-4, fused=True)

    def draw(
        self, generator: torch.Generator, *, words: int
    ) -> tuple[torch.Tensor, BatchLayout, torch.Tensor, BatchLayout]:
        """Return a batch whose lengths spread as in dialogue summarization."""
        spread = torch.randn(2, self.examples, generator=generator)
        documents = (self.document * (0.48 * spread[0]).exp()).clamp(24, 512).int().tolist()
        summaries = (self.summary * (0.42 * spread[1]).exp()).clamp(8, 100).int().tolist()
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


def works() -> dict[str, Work]:
    docstrings = [str(CONFIGS / "docstrings.yaml")]
    dialogsum = [str(CONFIGS / "data/dialogsum.yaml"), str(CONFIGS / "dialogsum.yaml")]
    wider = [
        "model.embedding_size=256",
        "model.num_heads=8",
        "model.feedforward_size=1024",
        "model.encoder_layers=4",
        "model.decoder_layers=4",
        "model.copying=true",
    ]
    return {
        "docstrings.yaml, 128 wide": Work(load(docstrings, []), 24, 75, 14),
        "dialogsum.yaml, 192 wide": Work(load(dialogsum, []), 16, 172, 29),
        "256 wide": Work(load([], wider), 16, 172, 29),
    }


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


def compare_speed(name: str, work: Work) -> None:
    """Print the tokens per second of CPU time in fp32 and bf16, and the ratio of the times."""
    generator = torch.Generator().manual_seed(0)
    runs = {bf16: work.make() for bf16 in (False, True)}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    tokens = []
    for index in range(22):
        batch = work.draw(generator, words=VOCABULARY - 4)
        for bf16, (model, optimizer) in runs.items():
            begin = time.process_time()
            step(model, optimizer, batch, bf16)
            if index >= 2:
                seconds[bf16].append(time.process_time() - begin)
        tokens.append(len(batch[0]) + len(batch[2]))
    ratios = [slow / fast for slow, fast in zip(seconds[False], seconds[True], strict=True)]
    speeds = {bf16: sum(tokens[2:]) / sum(each) for bf16, each in seconds.items()}
    print(
        f"{name}: fp32 {speeds[False]:,.0f} tokens/s, bf16 {speeds[True]:,.0f} tokens/s, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) over "
        f"{len(ratios)} batches"
    )


def compare_losses(work: Work) -> None:
    """Print the mean losses of twenty steps at a time, in fp32 and bf16."""
    print("loss, mean of 20 steps: fp32, bf16")
    curves: dict[bool, list[float]] = {False: [], True: []}
    for bf16 in curves:
        model, optimizer = work.make()
        generator = torch.Generator().manual_seed(1)
        curves[bf16] = [
            step(model, optimizer, work.draw(generator, words=50), bf16) for _ in range(100)
        ]
    for begin in range(0, 100, 20):
        means = [statistics.mean(curves[bf16][begin : begin + 20]) for bf16 in (False, True)]
        print(f"  steps {begin + 1:3}-{begin + 20:3}: {means[0]:.4f} {means[1]:.4f}")


def main() -> None:
    torch.set_num_threads(1)
    all_works = works()
    for name, work in all_works.items():
        compare_speed(name, work)
    compare_losses(all_works["256 wide"])


if __name__ == "__main__":
    main()
