"""What a GPU machine is asked: do the GPU tests pass, how fast is it beside Hugging Face, and are
two deterministic trainings equal? Writes a page.

    make gpu-check
    python benchmarks/gpu.py --out gpu.md

The speeds are those of our Transformer and of transformers' BART with the same sizes, vocabulary
and batches, side by side in one process; ours reads ragged batches, BART padded ones. Needs
transformers (pip install '.[parity]'); without it the table has our row alone.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from headcount.config.load import load
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout

ROOT = Path(__file__).parent.parent
TESTS = ["-m", "gpu", "-n", "0", "-q", "tests"]
WARM_UP = 3  # batches that are not timed
PAD, START = 0, 1


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What both models are built with, and what they are trained on.

    Attributes:
        width: of the residual stream.
        heads: of each attention block.
        layers: of the encoder, and of the decoder.
        vocabulary: number of tokens.
        documents: number of documents in a batch.
        document_tokens, summary_tokens: the longest; lengths are drawn down to a third of it.
        batches: that are timed.
    """

    width: int = 512
    heads: int = 8
    layers: int = 6
    vocabulary: int = 16_000
    documents: int = 64
    document_tokens: int = 512
    summary_tokens: int = 96
    batches: int = 20


Batch = tuple[list[list[int]], list[list[int]]]  # token ids of the documents and of the summaries


def draw_batches(sizes: Sizes) -> list[Batch]:
    """Return batches of random tokens with random lengths, the same at every call."""
    generator = torch.Generator().manual_seed(0)

    def draw(longest: int) -> list[list[int]]:
        lengths = torch.randint(longest // 3, longest + 1, (sizes.documents,), generator=generator)
        return [
            torch.randint(2, sizes.vocabulary, (length,), generator=generator).tolist()
            for length in lengths.tolist()
        ]

    return [
        (draw(sizes.document_tokens), draw(sizes.summary_tokens))
        for _ in range(WARM_UP + sizes.batches)
    ]


def our_loss(sizes: Sizes, device: str) -> tuple[nn.Module, Callable[[Batch], Tensor]]:
    """Return our model and its loss of a batch."""
    changes = [
        f"embedding_size={sizes.width}",
        f"num_heads={sizes.heads}",
        f"feedforward_size={4 * sizes.width}",
        f"encoder_layers={sizes.layers}",
        f"decoder_layers={sizes.layers}",
    ]
    config = load([], [f"model.{change}" for change in changes])
    model = build_model(
        config.model, vocabulary_size=sizes.vocabulary, max_positions=sizes.document_tokens
    ).to(device)

    def loss(batch: Batch) -> Tensor:
        documents, summaries = batch
        inputs = [[START, *summary[:-1]] for summary in summaries]
        output = model(
            torch.tensor(sum(documents, []), device=device),
            BatchLayout.from_lengths([len(each) for each in documents], torch.device(device)),
            torch.tensor(sum(inputs, []), device=device),
            BatchLayout.from_lengths([len(each) for each in inputs], torch.device(device)),
        )
        return output.loss(torch.tensor(sum(summaries, []), device=device))

    return model, loss


def bart_loss(sizes: Sizes, device: str) -> tuple[nn.Module, Callable[[Batch], Tensor]]:
    """Return transformers' BART of the same sizes and its loss of a batch."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=sizes.vocabulary,
        d_model=sizes.width,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=4 * sizes.width,
        decoder_ffn_dim=4 * sizes.width,
        max_position_embeddings=sizes.document_tokens,
        pad_token_id=PAD,
        decoder_start_token_id=START,
    )
    model = BartForConditionalGeneration(config).to(device)

    def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
        tensors = [torch.tensor(row) for row in rows]
        return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value).to(device)

    def loss(batch: Batch) -> Tensor:
        documents = pad(batch[0], PAD)
        output = model(
            input_ids=documents, attention_mask=documents != PAD, labels=pad(batch[1], -100)
        )
        return output.loss

    return model, loss


def measure_speeds(sizes: Sizes, device: str) -> dict[str, list[float]]:
    """Return tokens per second of each model for each timed batch: forward, backward and step.

    The models take turns, batch by batch, in bf16 autocast on a GPU.
    """
    makers = {"headcount": our_loss}
    if find_spec("transformers"):
        makers["transformers BART"] = bart_loss
    models = {}
    for name, maker in makers.items():
        model, loss = maker(sizes, device)
        models[name] = loss, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    speeds: dict[str, list[float]] = {name: [] for name in models}
    for number, batch in enumerate(draw_batches(sizes)):
        tokens = sum(map(len, batch[0])) + sum(map(len, batch[1]))
        for name, (loss, optimizer) in models.items():
            started = _time(device)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                value = loss(batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if number >= WARM_UP:
                speeds[name].append(tokens / (_time(device) - started))
    return speeds


def _time(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def is_deterministic(arguments: Sequence[str]) -> bool:
    """Return whether two trainings with ``trainer.deterministic=true`` end with equal weights.

    Args:
        arguments: of ``headcount train``.
    """
    weights = []
    with TemporaryDirectory() as folder:
        for name in ("one", "two"):
            run = Path(folder) / name
            train = [sys.executable, "-m", "headcount", "train", *arguments]
            subprocess.run([*train, "trainer.deterministic=true", f"run.folder={run}"], check=True)
            last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
            weights.append(last["state_dict"])
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def describe(
    device_name: str, tests: str, speeds: dict[str, list[float]], deterministic: bool, sizes: Sizes
) -> str:
    """Return the page."""
    rows = []
    ours = statistics.median(speeds["headcount"])
    for name, values in speeds.items():
        median = statistics.median(values)
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        rows.append(f"| {name} | {median:,.0f} | {spread} | {median / ours:.2f} |")
    equal = "equal, bit for bit" if deterministic else "NOT equal"
    return "\n".join(
        [
            "# On a GPU",
            "",
            f"{device_name}, torch {torch.__version__}, Python {platform.python_version()}. "
            "Written by `make gpu-check`.",
            "",
            f"GPU tests: {tests}",
            "",
            "Training, real tokens per second, medians over batches "
            f"({sizes.layers} + {sizes.layers} layers of {sizes.width}, {sizes.documents} "
            f"documents of up to {sizes.document_tokens} tokens):",
            "",
            "| model | tokens/s | from - to | beside ours |",
            "| --- | ---: | ---: | ---: |",
            *rows,
            "",
            f"Two trainings with `trainer.deterministic=true`: weights {equal}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "gpu.md", help="the page")
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        sys.exit("error: no GPU that torch can use; this check is for a machine with one")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *TESTS], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout)
    tests = done.stdout.strip().splitlines()[-1]
    sizes = Sizes()
    speeds = measure_speeds(sizes, "cuda")
    configs = [str(ROOT / "configs" / name) for name in ("docstrings.yaml", "smoke.yaml")]
    deterministic = is_deterministic([*configs, "trainer.accelerator=gpu"])
    page = describe(torch.cuda.get_device_name(), tests, speeds, deterministic, sizes)
    out.write_text(page, encoding="utf-8")
    print(page)
    if done.returncode or not deterministic:
        sys.exit(1)


if __name__ == "__main__":
    main()
