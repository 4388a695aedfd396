"""Time per summary and peak memory of ``headcount summarize --out`` as the documents grow in
number: both stay flat.

    python benchmarks/decoding.py            # 1,000, 10,000 and 100,000 documents; about a quarter
    of an hour python benchmarks/decoding.py 1000 10000

The model is small and untrained, the documents are made up; each number of them is a process of
its own.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LONGEST = 64  # words of a document
WORDS = [
    "kite",
    "lamp",
    "drum",
    "pear",
    "letter",
    "window",
    "garden",
    "river",
    "morning",
    "story",
    "bridge",
    "paper",
]


def make_run(folder: Path) -> None:
    """Make a run folder of a small, untrained model."""
    import torch

    from headcount.config.load import as_dict, load, to_yaml
    from headcount.data.tokenizer import train_tokenizer
    from headcount.runs.checkpoint import checkpoint_path, write_checkpoint
    from headcount.training.module import Summarizer

    sizes = [
        "embedding_size=64",
        "num_heads=4",
        "feedforward_size=128",
        "encoder_layers=1",
        "decoder_layers=1",
    ]
    lengths = [
        "data.max_document_tokens=128",
        "data.max_summary_tokens=16",
        "trainer.accelerator=cpu",
    ]
    config = load([], [*(f"model.{size}" for size in sizes), *lengths])
    torch.manual_seed(0)
    summarizer = Summarizer(config, train_tokenizer([" ".join(WORDS)] * 9, "bpe", 400))
    summarizer.configure_model()
    (folder / "config.yaml").write_text(to_yaml(config))
    summarizer.tokenizer.save(str(folder / "tokenizer.json"))
    content = {"config": as_dict(config), "state_dict": summarizer.state_dict(), "global_step": 0}
    write_checkpoint(content, checkpoint_path(folder, "best"))


def measure(folder: Path, number: int) -> None:
    """Summarize so many documents.

    Print the seconds that took, and this process's peak memory in MB.
    """
    import torch

    from headcount.commands.summarize import summarize
    from headcount.config.load import load

    torch.set_num_threads(1)
    draw = random.Random(0)
    documents = folder / f"{number}.jsonl"
    with documents.open("w") as file:
        for _ in range(number):
            text = " ".join(draw.choices(WORDS, k=draw.randint(1, LONGEST)))
            file.write(json.dumps({"document": text}) + "\n")
    config = load([str(folder / "config.yaml")], [])
    began = time.perf_counter()
    summarize(folder, config, str(documents), out=folder / f"{number}.out.jsonl")
    seconds = time.perf_counter() - began
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(numbers: list[int]) -> None:
    """Print a line for each number of documents."""
    with tempfile.TemporaryDirectory() as name:
        make_run(Path(name))
        print("documents   seconds   ms per summary   peak MB")
        for number in numbers:
            said = subprocess.check_output(
                [sys.executable, __file__, name, str(number)], text=True
            )
            seconds, peak = map(float, said.splitlines()[-1].split())
            print(f"{number:9,} {seconds:9.1f} {1000 * seconds / number:14.2f} {peak:9.1f}")


if __name__ == "__main__":
    given = sys.argv[1:]
    if given and not given[0].isdigit():
        measure(Path(given[0]), int(given[1]))
    else:
        main([int(number) for number in given] or [1_000, 10_000, 100_000])
