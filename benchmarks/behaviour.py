"""Do two trees of this repository compute the same? For changes that must change nothing but
names.

    python benchmarks/behaviour.py run TREE OUT        # a list of small commands with the package
    in TREE/src python benchmarks/behaviour.py compare OUT OTHER   # weights by value; other files
    by content

It trains each architecture, with copying, grouped queries, averaged weights, a stream and two
processes, evaluates by beam search with every constraint, by diverse beams and by sampling,
summarizes, and runs and reports a study. Names that have changed between the trees are in ``KEYS``
and ``FILES``. What depends on time is left out.
"""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

KEYS = {  # earlier name: present name
    "optimizer.averaging": "optimizer.ema_decay",
    "decoding.beams": "generation.num_beams",
    "decoding.groups": "generation.num_beam_groups",
    "decoding.diversity": "generation.diversity_penalty",
    "decoding.returned": "generation.num_return_sequences",
    "decoding.no_repeat_ngram": "generation.no_repeat_ngram_size",
    "decoding.length_alpha": "generation.length_penalty_alpha",
    "decoding.": "generation.",
}
FILES = {"figures.csv": "per_example_metrics.csv"}
TIMED = {
    "train/tokens_per_second",
    "tokens_per_second",
    "decode_ms_per_summary",
    "training_seconds",
    "peak_memory_bytes",
}

SMALL = [
    *("model.embedding_size=32", "model.num_heads=2", "model.feedforward_size=64"),
    *("model.encoder_layers=2", "model.decoder_layers=2", "model.dropout=0.1"),
    *(
        "data.path=data",
        "data.cache_dir=cache",
        "data.max_document_tokens=96",
        "data.max_summary_tokens=24",
    ),
    *("data.batch_tokens=512", "tokenizer.vocabulary_size=300", "tracking.mode=disabled"),
    *(
        "trainer.max_steps=16",
        "trainer.val_check_interval=8",
        "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=1",
    ),
    *("optimizer.warmup_steps=4", "evaluation.baselines=[lead-1,oracle-1,random-1,longest-1]"),
]
GPT = ["model.architecture=gpt", "model.encoder_layers=0"]
RECURRENT = [
    *(
        "model.architecture=recurrent",
        "model.attention=additive",
        "model.norm=none",
        "model.positions=none",
    ),
    "model.encoder_layers=1",
]
RUNS = {
    "transformer": [],
    "copying": ["model.copying=true", "model.coverage=0.5", "model.attention_dropout=0.1"],
    "variant": [
        *(
            "model.num_heads=4",
            "model.num_kv_heads=2",
            "model.positions=rotary",
            "model.norm=rmsnorm",
        ),
        *("model.activation=swiglu", "model.attention=query_key_norm", "model.cross_heads=2"),
    ],
    "alibi_post": [
        "model.positions=alibi",
        "model.norm_position=post",
        "model.tie_embeddings=none",
    ],
    "averaged": ["optimizer.averaging=0.9", "trainer.accumulate_grad_batches=2"],
    "pools": [
        "data.length_pools=2",
        "data.num_workers=1",
        "trainer.max_steps=-1",
        "trainer.max_epochs=2",
    ],
    "stream": ["data.streaming=true", "data.shuffle_buffer=8"],
    "gpt": [*GPT, "model.copying=true"],
    "gpt_variant": [
        *GPT,
        "model.num_kv_heads=1",
        "model.positions=learned",
        "optimizer.schedule=inverse_sqrt",
    ],
    "recurrent": RECURRENT,
    "recurrent_lstm": [*RECURRENT, "model.cell=lstm", "model.copying=true", "model.coverage=1.0"],
}
CONSTRAINED = [
    *(
        "decoding.strategy=beam",
        "decoding.beams=4",
        "decoding.no_repeat_ngram=2",
        "decoding.repetition_penalty=1.3",
    ),
    *("decoding.min_tokens=6", "decoding.coverage_penalty=0.2", "decoding.length_alpha=0.8"),
]
EVALUATIONS = {
    "constrained": CONSTRAINED,
    "diverse": [
        "decoding.strategy=beam",
        "decoding.groups=2",
        "decoding.diversity=0.7",
        "decoding.length_penalty=average",
    ],
    "sample": [
        "decoding.strategy=sample",
        "decoding.temperature=0.9",
        "decoding.top_k=20",
        "decoding.top_p=0.9",
    ],
    "windows": ["decoding.long_documents=split", "decoding.batch_size=5"],
}
STUDY = """configs: [base.yaml]
control: fixed_width
grid: {model.num_heads: [1, 2, 4]}
seeds: [0, 1]
reference_cell: {model.num_heads: 2}
"""
DRIVER = """
import json, os, sys, traceback
sys.argv = ["headcount"]
import torch
torch.set_num_threads(1)
from headcount import cli
for command in json.load(open("commands.json")):
    print(">", *command, flush=True)
    try:
        cli.app(command, standalone_mode=False)
    except SystemExit as end:
        assert not end.code, command
    except BaseException as error:
        if type(error).__name__ != "Exit":
            raise
"""


def write_data(folder: Path) -> None:
    """Write dialogues with two references each."""
    people, things = ["Ada", "Ben", "Cleo", "Dan"], ["a pear", "a kite", "a drum", "a lamp"]
    folder.mkdir(parents=True)
    for split, number in (("train", 60), ("validation", 12), ("test", 12)):
        draw = random.Random(split)
        with (folder / f"{split}.jsonl").open("w") as file:
            for index in range(number):
                buyer, seller = draw.sample(people, 2)
                thing = draw.choice(things)
                turns = [
                    f"{seller}: Good day.",
                    f"{buyer}: I would like {thing}.",
                    f"{seller}: Here you are.",
                ]
                turns += [f"{buyer}: Thank you, and good bye until tomorrow."] * draw.randint(0, 6)
                summaries = [
                    f"{buyer} buys {thing} from {seller}.",
                    f"{seller} sells {buyer} {thing}.",
                ]
                row = {
                    "id": f"{split}-{index}",
                    "document": "\n".join(turns),
                    "summary": summaries,
                }
                file.write(json.dumps(row) + "\n")


def run(tree: Path, out: Path) -> None:
    """Run the commands with the package of a tree; everything is left in a folder."""
    out.mkdir(parents=True)
    write_data(out / "data")
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve() / "src"), "OMP_NUM_THREADS": "1"}

    def start(*arguments: str) -> str:
        command = [sys.executable, "-P", *arguments]
        done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                f"{arguments}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done.stdout

    schema = start("-m", "headcount", "config", "--schema")
    renamed = f"\n{KEYS['optimizer.averaging']} " in schema

    def named(override: str) -> str:
        for old, new in KEYS.items() if renamed else ():
            if override.startswith(old):
                return override.replace(old, new, 1)
        return override

    (out / "empty.yaml").write_text("{}\n")
    (out / "base.yaml").write_text(
        "".join(f"{k}: {v}\n" for k, v in (item.split("=") for item in ["seed=0"]))
    )
    commands = []
    for name, changes in RUNS.items():
        changed = [*map(named, [*SMALL, *changes])]
        commands.append(["train", "empty.yaml", *changed, f"run.folder={name}"])
    for name, changes in EVALUATIONS.items():
        models = ("copying", "gpt", "recurrent_lstm") if name == "constrained" else ("copying",)
        commands += [["evaluate", model, *map(named, changes)] for model in models]
    several = [*CONSTRAINED, "decoding.returned=3"]
    commands.append(
        [
            "summarize",
            "copying",
            "data/test.jsonl",
            *map(named, several),
            "--out",
            "summaries.jsonl",
        ]
    )
    commands.append(["summarize", "gpt_variant", "data/test.jsonl", "--out", "greedy.jsonl"])
    commands.append(["export", "copying", "exported"])
    (out / "commands.json").write_text(json.dumps(commands))
    (out / "log.txt").write_text(start("-c", DRIVER))

    # Processes of their own: two of one run, and the cells of a study.
    two = [*map(named, SMALL), "trainer.devices=2", "run.folder=two_processes"]
    start("-m", "headcount", "train", "empty.yaml", *two)
    (out / "study").mkdir()
    (out / "study" / "grid.yaml").write_text(_study_of(tree))
    nested: dict[str, dict[str, Any]] = {}
    for item in SMALL:
        key, _, value = named(item).partition("=")
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = value
    lines = [
        line
        for s, keys in nested.items()
        for line in (f"{s}:", *(f"  {k}: {v}" for k, v in keys.items()))
    ]
    (out / "base.yaml").write_text("\n".join(lines) + "\n")
    start("-m", "headcount", "ablate", "study", "--workers", "2")
    start("-m", "headcount", "report", "study")


def _study_of(tree: Path) -> str:
    """Return the study with the keys of a tree: ``reference_cell`` was ``baseline`` earlier."""
    reads = (tree / "src/headcount/experiments/grid.py").read_text()
    return STUDY if "reference_cell" in reads else STUDY.replace("reference_cell", "baseline")


def content(path: Path) -> Any:
    """Return what of a file has to be the same."""
    if path.suffix == ".ckpt":
        weights = torch.load(path, weights_only=True)["state_dict"]
        return sorted(
            (str(w.dtype), tuple(w.shape), w.numpy().tobytes()) for w in weights.values()
        )
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        untimed = [{k: v for k, v in row.items() if k not in TIMED | {"folder"}} for row in rows]
        return [list(row.values()) for row in untimed]
    if path.name == "scores.json":
        scores = json.loads(path.read_text())
        return [list(system.values()) for system in scores["systems"].values()], scores[
            "signature"
        ]
    if path.suffix == ".jsonl":
        return [list(json.loads(line).values()) for line in path.read_text().splitlines()]
    if path.suffix == ".md":  # the first columns are scores; costs below are timed
        return [line for line in path.read_text().split("\n\n")[0].splitlines()]
    return path.read_bytes()


PATTERNS = [
    *(
        "**/checkpoints/*.ckpt",
        "**/metrics.csv",
        "**/predictions.jsonl",
        "**/scores.json",
        "**/figures.csv",
    ),
    *(
        "**/per_example_metrics.csv",
        "*.jsonl",
        "study/results.csv",
        "study/table.md",
        "**/tokenizer.json",
    ),
]


def files(out: Path) -> dict[str, Path]:
    """Return the files to compare, by their present names.

    Cells are named without fingerprints.
    """
    found = {}
    for pattern in PATTERNS:
        for path in out.glob(pattern):
            if "cache" in path.parts or path.parts[-2] == "data":
                continue
            parts = list(path.relative_to(out).parts)
            parts[-1] = FILES.get(parts[-1], parts[-1])
            if parts[0] == "runs":
                parts[2] = parts[2].rpartition("-")[0]
            found["/".join(parts)] = path
    return found


def compare(one: Path, other: Path) -> int:
    """Print whether each file is the same; return how many are not."""
    first, second = files(one), files(other)
    different = 0
    for name in sorted(first.keys() | second.keys()):
        same = name in first and name in second and content(first[name]) == content(second[name])
        different += not same
        print(f"{'identical' if same else 'DIFFERENT'}  {name}")
    print(f"{len(first | second) - different} identical, {different} different")
    return different


if __name__ == "__main__":
    action, *paths = sys.argv[1:]
    sys.exit({"run": run, "compare": compare}[action](*map(Path, paths)))
