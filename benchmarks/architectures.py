"""Training speed of the architectures, with and without copying, at the sizes of
configs/docstrings.yaml.

    python benchmarks/architectures.py

All go through the same batches in turn; a figure is the median over batches of real document and
summary tokens per second, forward, backward and optimizer together.
"""

import statistics
import time
from pathlib import Path

import torch

from headcount.config.load import load
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout

CONFIGS = Path(__file__).parent.parent / "configs"
KINDS = {"transformer": [], "gpt": ["model/gpt.yaml"], "recurrent": ["model/recurrent.yaml"]}
OUTPUTS = {"generates": ["model.copying=false"], "copies": ["model.copying=true"]}


def main() -> None:
    models = {}
    for name, overlays in KINDS.items():
        for output, changes in OUTPUTS.items():
            files = [str(CONFIGS / file) for file in ("docstrings.yaml", *overlays)]
            config = load(files, changes)
            torch.manual_seed(0)
            model = build_model(
                config.model, vocabulary_size=8000, max_positions=config.max_positions
            )
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
            models[name, output] = model, optimizer, sum(p.numel() for p in model.parameters())
    speeds: dict[tuple[str, str], list[float]] = {kind: [] for kind in models}
    generator = torch.Generator().manual_seed(0)
    for index in range(12):
        documents = torch.randint(40, 129, (19,), generator=generator).tolist()
        summaries = torch.randint(6, 31, (19,), generator=generator).tolist()
        ids = torch.randint(2, 8000, (sum(documents),), generator=generator)
        read, targets = torch.randint(2, 8000, (2, sum(summaries)), generator=generator)
        for kind, (model, optimizer, _) in models.items():
            begin = time.perf_counter()
            loss = model(
                ids, BatchLayout.from_lengths(documents), read, BatchLayout.from_lengths(summaries)
            ).loss(targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if index >= 2:
                speeds[kind].append((len(ids) + len(read)) / (time.perf_counter() - begin))
    for (name, output), measured in speeds.items():
        median, spread = statistics.median(measured), f"{min(measured):,.0f}-{max(measured):,.0f}"
        size = models[name, output][2]
        print(f"{name:12} {output:9} {size:>10,} parameters {median:>8,.0f} tokens/s ({spread})")


if __name__ == "__main__":
    main()
