"""Two processes on the CPU share a run: its data, its checkpoints, its folder."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics.chrf import CHRF

from headcount.commands.summarize import summarize
from headcount.config.load import load, to_yaml
from tests.training.stopping import assert_same

# Trains twice with each optimizer, the second time in two parts, evaluates and summarizes, and
# writes down what each process was given.
SCRIPT = """
import hashlib, json, sys
from contextlib import suppress
from pathlib import Path
from pytorch_lightning.callbacks import Callback
from headcount.config.load import load
from headcount.commands import train as run
from headcount.commands import evaluate as evaluation
from headcount.runs.partial_predictions import PartialPredictions
from headcount.commands.summarize import summarize

class Stopped(Exception):
    pass

class Recorder(Callback):
    def __init__(self):
        self.seen = {"train": [], "validation": [], "test": [], "summaries": []}

    def on_train_batch_start(self, trainer, module, batch, *_):
        if trainer.global_step == stop:
            self.write(trainer)
            raise Stopped
        self.seen["train"].append([trainer.current_epoch, batch.indices])

    def on_validation_batch_start(self, trainer, module, batch, *_):
        self.seen["validation"].append([trainer.global_step, batch.indices])

    def on_validation_epoch_end(self, trainer, module):
        texts = [row[2:] for row in module.samples]  # reference and summary
        self.seen["summaries"].append([trainer.global_step, texts])

    def on_train_end(self, trainer, module):
        sha256 = hashlib.sha256()
        for tensor in module.state_dict().values():
            sha256.update(tensor.detach().numpy().tobytes())
        self.seen["weights"] = sha256.hexdigest()

    def write(self, trainer):
        with open(f"{name}-{trainer.global_rank}.json", "w") as file:
            json.dump({**self.seen, "batches": trainer.num_training_batches}, file)

recorder = None
def make_recorded(config, *, callbacks, **ours):
    global recorder
    recorder = Recorder()
    return made(config, callbacks=[*callbacks, recorder], **ours)

def generate_recorded(summarizer, loader, trainer):
    batches = list(loader)
    if name != "evaluated":
        recorder.seen["test"] = [[0, batch.indices] for batch in batches]
        recorder.write(trainer)
    return generate(summarizer, batches, trainer)

made, generate = run.make_trainer, evaluation.generate_rows
run.make_trainer, evaluation.generate_rows = make_recorded, generate_recorded
for optimizer in ("adamw", "muon"):
    for part, folder, stop in (("whole", "whole", None), ("cut", "cut", 3), ("rest", "cut", None)):
        name = f"{optimizer}-{part}"
        changes = [f"optimizer.name={optimizer}", f"run.folder={optimizer}-{folder}"]
        with suppress(Stopped):
            run.train(load(["config.yaml"], changes))
trained = Path("muon-whole"), load(["muon-whole/config.yaml"], [])
name = "evaluated"
evaluation.evaluate(*trained)
PartialPredictions.remove = lambda self: None
summarize(*trained, "data/train.jsonl", out=Path("out.jsonl"))
"""


Runs = dict[str, list[dict[str, Any]]]


@pytest.fixture
def runs(small, tmp_path: Path) -> dict[str, Runs]:
    """What each of two processes was given in a whole run, a cut one and the rest of it, with each
    optimizer."""
    two = [
        "trainer.devices=2",
        "trainer.max_steps=9",
        "trainer.val_check_interval=3",
        "optimizer.schedule=constant",
    ]
    config = small(
        *two,
        "model.dropout=0.2",
        "generation.batch_size=5",
        "evaluation.validation_examples=9",
        "evaluation.metrics=[chrf]",
    )
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder: ") == 4  # one process speaks
    found: dict[str, Runs] = {}
    for optimizer in ("adamw", "muon"):
        found[optimizer] = {}
        for part in ("whole", "cut", "rest"):
            files = [tmp_path / f"{optimizer}-{part}-{rank}.json" for rank in (0, 1)]
            found[optimizer][part] = [json.loads(file.read_text()) for file in files]
    return found


def test_two_processes(runs: dict[str, Runs], tmp_path: Path) -> None:
    for optimizer, of_optimizer in runs.items():
        assert_shared(of_optimizer, tmp_path / f"{optimizer}-whole", tmp_path / f"{optimizer}-cut")
    assert_generated_together(tmp_path)


def assert_shared(runs: Runs, whole_run: Path, cut_run: Path) -> None:
    """Every example was seen once, scores are of all of them, and the cut run came to the same."""
    whole = runs["whole"]
    per_epoch = whole[0]["batches"]
    assert (
        len(whole[0]["train"]) == len(whole[1]["train"]) == 9
        and whole[1]["batches"] == per_epoch == 4
    )
    epochs = [
        [b for process in whole for e, batch in process["train"] for b in batch if e == epoch]
        for epoch in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(60)) and epochs[0] != epochs[1]
    for split, number in (("validation", 9), ("test", 12)):
        steps = {step for process in whole for step, _ in process[split]}
        for step in steps:
            shares = [[batch for s, batch in process[split] if s == step] for process in whole]
            assert len(shares[0]) == len(shares[1]) > 0
            rows = [row for share in shares for batch in share for row in batch]
            assert len(rows) == len(set(rows)) == number
    # BLEU and chrF are scores of all summaries, not means of the processes' scores.
    with (whole_run / "metrics.csv").open(newline="") as file:
        logged = [
            float(row["validation/chrf"]) for row in csv.DictReader(file) if row["validation/chrf"]
        ]
    expected = []
    for (_, texts), (_, others) in zip(whole[0]["summaries"], whole[1]["summaries"], strict=True):
        references, summaries = zip(*texts, *others, strict=True)
        assert len(summaries) == 9
        expected.append(CHRF().corpus_score(summaries, [references]).score)
    assert logged == pytest.approx(expected) and max(expected) > 0

    predictions = (whole_run / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in predictions] == [f"test-{n}" for n in range(12)]

    for process in (0, 1):  # cut within the first epoch, on both processes
        assert (
            runs["cut"][process]["train"] + runs["rest"][process]["train"]
            == whole[process]["train"]
        )
    assert_same(whole_run, cut_run)

    # The checkpoint is that of the first process; the other one has the same weights.
    digests = {process["weights"] for part in ("whole", "rest") for process in runs[part]}
    assert len(digests) == 1


def assert_generated_together(tmp_path: Path) -> None:
    """An evaluation and a file of summaries are those of one process."""

    evaluated = tmp_path / "muon-whole/evaluation-1"
    for name in ("predictions.jsonl", "scores.json"):
        assert (evaluated / name).read_text() == (tmp_path / "muon-whole" / name).read_text()
    alone = load(["muon-whole/config.yaml"], ["trainer.devices=1"])
    summarize(Path("muon-whole"), alone, "data/train.jsonl", out=Path("alone.jsonl"))
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "alone.jsonl").read_text()
    shares = [(tmp_path / f"out.jsonl.parts/{n}.jsonl").read_text().splitlines() for n in (0, 1)]
    assert [len(share) for share in shares] == [40, 20]
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").open()] == [
        f"train-{n}" for n in range(60)
    ]


def test_the_second_process_ends_with_the_first_while_they_start(small, tmp_path: Path) -> None:
    """Killed with SIGKILL, the first cannot tell it; it would wait for half an hour."""
    (tmp_path / "config.yaml").write_text(to_yaml(small("trainer.devices=2")))
    command = [sys.executable, "-m", "headcount", "train", "config.yaml"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    try:
        while not (started := children.read_text().split()):
            assert first.poll() is None
            time.sleep(0.01)
    finally:
        first.kill()
        first.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{number}").exists() for number in started):
        assert time.monotonic() < deadline
        time.sleep(0.1)
