"""What the data module costs, measured: ``python benchmarks/data.py
epoch|throughput|memory|waiting``.

All but ``memory`` need the folder of DialogSum's Parquet files in the environment variable
HEADCOUNT_DATA.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import SimpleProfiler
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from headcount.config.load import load
from headcount.config.schema import Config
from headcount.data.arrow_table import CHUNK
from headcount.data.sources import load_splits
from headcount.data.tokens import prepare_tokens
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer

ROOT = Path(__file__).parents[1]
TINY = [
    "embedding_size=16",
    "num_heads=2",
    "feedforward_size=16",
    "encoder_layers=1",
    "decoder_layers=1",
]


def dialogsum(cache_dir: str, *changes: str) -> Config:
    """Load the recipe of DialogSum on local files."""
    where = [f"data.path={os.environ['HEADCOUNT_DATA']}/dialogsum", f"data.cache_dir={cache_dir}"]
    configs = [str(ROOT / "configs" / name) for name in ("data/dialogsum.yaml", "dialogsum.yaml")]
    return load(configs, [*where, *changes])


class AttentionPairs(TorchDispatchMode):
    """Counts the pairs of query and key that fused attention computes, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.forward, self.backward = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if "_scaled_dot_product" in name:
            backward = "backward" in name
            query, key = (args[1], args[2]) if backward else (args[0], args[1])
            pairs = query.shape[0] * query.shape[2] * key.shape[2]
            self.backward += pairs * backward
            self.forward += pairs * (not backward)
        return func(*args, **(kwargs or {}))


def epoch(cache_dir: str) -> None:
    """One epoch of training at 4,096-token batches, in which every position that a layer computes
    is counted."""
    tiny = [f"model.{change}" for change in TINY]
    config = dialogsum(cache_dir, "data.batch_tokens=4096", *tiny)
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, data.tokenizer)
    summarizer.configure_model()
    real: tuple[int, ...] = ()
    calls, padded = [0, 0], [0, 0]

    def count(direction: int, values: Any) -> None:
        positions = values.numel() // values.shape[-1]
        calls[direction] += 1
        padded[direction] += min(abs(positions - right) for right in real)

    for module in summarizer.model.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding):
            module.register_forward_hook(lambda _, __, out: count(0, out))
            module.register_full_backward_hook(lambda _, __, grads: count(1, grads[0]))
    order, full, pairs = [], [], 0
    loader = data.train_dataloader()
    with AttentionPairs() as attention:
        for batch in loader:
            written = [
                length - 1 for length in batch.summary_lengths
            ]  # the last token is only a target
            real = sum(batch.document_lengths), sum(written)
            full.append((sum(batch.document_lengths) + sum(batch.summary_lengths)) / 4096)
            order += batch.indices
            sides = zip(batch.document_lengths, written, strict=True)
            pairs += sum(d * d + s * s + s * d for d, s in sides)
            prediction, targets = summarizer.forward_batch(batch)
            prediction.loss(targets).backward()
    number, lengths = len(data.splits["train"]), data.splits["train"].lengths[order]
    print(
        f"batches: {len(full)}, promised {len(loader)}; filled {np.mean(full):.2%}, at most "
        f"{max(full):.2%}"
    )
    print(
        f"examples: {len(order):,}; every one of {number:,} once: "
        f"{sorted(order) == list(range(number))}"
    )
    print(
        f"correlation of neighbours' lengths: {np.corrcoef(lengths[1:], lengths[:-1])[0, 1]:+.4f}"
    )
    print(f"layer calls forward, backward: {calls}; padded positions in them: {padded}")
    print(
        f"pairs of query and key: real {pairs:,}; forward {attention.forward:,}, backward "
        f"{attention.backward:,}"
    )


def throughput(cache_dir: str) -> None:
    """Raw Parquet to cached token ids, beside encode_batch_fast alone on the same text, in turn.

    The best of five.
    """
    config = dialogsum(cache_dir)
    data = SummarizationDataModule(config)
    data.setup()
    train = data.splits["train"].pairs
    texts = [*train.documents, *(references[0] for references in train.references)]
    alone, chunked, whole = [], [], []
    for turn in range(5):
        started = time.perf_counter()
        data.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        alone.append(time.perf_counter() - started)
        started = time.perf_counter()
        for begin in range(0, len(texts), CHUNK):
            data.tokenizer.encode_batch_fast(
                texts[begin : begin + CHUNK], add_special_tokens=False
            )
        chunked.append(time.perf_counter() - started)
        fresh = dialogsum(f"{cache_dir}/{turn}")
        started = time.perf_counter()
        pairs, origin = load_splits(fresh.data, {"train": "train"})
        prepare_tokens(
            pairs["train"], origin["train"]["sha256"], data.tokenizer, fresh.data.cache_dir
        )
        whole.append(time.perf_counter() - started)
    print(
        f"{len(texts):,} texts; encode_batch_fast alone: {min(alone):.2f} s {np.round(alone, 2)}"
    )
    print(f"raw Parquet to cached ids: {min(whole):.2f} s {np.round(whole, 2)}")
    ratios = [min(baseline) / min(whole) for baseline in (alone, chunked)]
    print(
        f"ratio of throughputs: {ratios[0]:.2f}; to encode_batch_fast in chunks of {CHUNK}: "
        f"{ratios[1]:.2f}"
    )


def memory(cache_dir: str) -> None:
    """Peak memory of preparing and reading made-up sets of 10,000 and 1,000,000 rows, in a process
    each."""
    for rows in (10_000, 1_000_000):
        folder = Path(cache_dir) / f"rows-{rows}"
        folder.mkdir()
        random = np.random.default_rng(0)
        words = np.array([f"word{n}" for n in range(5000)])
        schema = pa.schema({"document": pa.string(), "summary": pa.string()})
        for split, number in (("train", rows), ("validation", 500), ("test", 500)):
            with pq.ParquetWriter(folder / f"{split}.parquet", schema) as writer:
                for begin in range(0, number, 10_000):
                    picked = words[random.zipf(1.3, (min(10_000, number - begin), 25)) % 5000]
                    texts = [" ".join(row) for row in picked]
                    writer.write_batch(
                        pa.record_batch([texts, [text[:30] for text in texts]], schema=schema)
                    )
        for mode in ("cached", "streaming"):
            where = [
                f"data.path={folder}",
                f"data.cache_dir={folder}/{mode}",
                f"data.streaming={mode == 'streaming'}",
            ]
            subprocess.run([sys.executable, __file__, "prepare", *where], check=True)


def prepare(*changes: str) -> None:
    """Prepare a set, read 300 batches of it and print the peak of this process's memory.

    Of a mapped file the system keeps in memory what it has room for; so the memory that is the
    process's own is given beside the whole.
    """
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            [own] = re.findall(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
            peak[0] = max(peak[0], int(own))

    watching = threading.Thread(target=watch)
    watching.start()
    started = time.perf_counter()
    data = SummarizationDataModule(load([], ["trainer.max_steps=300", *changes]))
    data.setup()
    batches = sum(1 for _ in islice(iter(data.train_dataloader()), 300))
    done.set()
    watching.join()
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{' '.join(changes)}: {time.perf_counter() - started:.0f} s, {batches} batches", end="; "
    )
    print(
        f"own memory at its peak {peak[0] / 1024:.0f} MiB, with mapped files {whole / 1024:.0f} "
        "MiB",
        flush=True,
    )


def waiting(cache_dir: str) -> None:
    """The share of the training loop in which a step waits for its batch, on the recipe of
    DialogSum."""
    config = dialogsum(cache_dir)
    data = SummarizationDataModule(config)
    data.setup()
    profiler = SimpleProfiler()
    trainer = pl.Trainer(
        max_steps=60, max_epochs=-1, limit_val_batches=0, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False, profiler=profiler,
    )  # fmt: skip
    trainer.fit(Summarizer(config, data.tokenizer), data)
    spent = {name: sum(times) for name, times in profiler.recorded_durations.items()}
    waited, trained = (
        spent["[_TrainingEpochLoop].train_dataloader_next"],
        spent["run_training_batch"],
    )
    print(
        f"60 steps: waited {waited:.3f} s for data, trained {trained:.1f} s: "
        f"{waited / (waited + trained):.2%}"
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            {"epoch": epoch, "throughput": throughput, "memory": memory, "waiting": waiting}[
                sys.argv[1]
            ](scratch)
