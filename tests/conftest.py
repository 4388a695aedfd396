"""Small made-up data, and an environment in which no test can reach a network, a key or the user's
caches."""

import gc
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tests run side by side, and so do the processes that they start

# What starts the tests may ignore these (a background job, nohup); they and the processes that
# they start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import torch
from matplotlib.figure import Figure

from headcount.config.load import load
from headcount.config.schema import Config

# Torch and Lightning are half a million objects, which the collector would look through again and
# again: about one second of twenty.
gc.set_threshold(50_000, 20, 100)

HANGS_AFTER = 600  # seconds; the slowest test takes twenty on two cores

PEOPLE, THINGS = ["Ada", "Ben", "Cleo", "Dan"], ["a pear", "a kite", "a drum", "a lamp"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that hangs, by name and with its stack; it would hold up the run and say nothing.

    An exception leaves the worker alive. Were the worker to exit, a process that the test has
    forked would keep its pipe open, and the run would go on waiting for it.
    """
    if item.get_closest_marker("slow") or item.get_closest_marker("faults"):
        return (yield)

    def fail(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"hangs: not finished after {HANGS_AFTER} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANGS_AFTER)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    # Small models gain nothing from more threads, and lose much on a busy machine.
    torch.set_num_threads(1)
    # No machine crashes during a test. A small training would wait for the disk thirty times.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    yield

    # A command that a test calls sets variables for the processes that it starts.
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def blank_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures of a run blank, which take half of a small one.

    A test that looks at them is marked ``pictures``.
    """
    # What is not imported yet draws nothing, and takes long to import.
    if "headcount.training.module" not in sys.modules:
        return
    if request.node.get_closest_marker("pictures") is not None:
        return
    monkeypatch.setattr(
        "headcount.training.module.draw_cross_attention", lambda *_: Figure(figsize=(1, 1))
    )
    monkeypatch.setattr(
        "headcount.data.audit.draw_lengths",
        lambda _, path: Figure(figsize=(1, 1)).savefig(path, dpi=20),
    )


def make_rows(
    split: str, number: int, document: str, summary: str, *, lists: bool = False
) -> list[dict[str, object]]:
    """Dialogues in which somebody buys something; the summary says who and what."""
    draw = random.Random(split)
    rows: list[dict[str, object]] = []
    for index in range(number):
        buyer, seller = draw.sample(PEOPLE, 2)
        thing = draw.choice(THINGS)
        turns = [
            f"{seller}: Good day.",
            f"{buyer}: I would like {thing}.",
            f"{seller}: Here you are.",
        ]
        turns += [f"{buyer}: Thank you."] * draw.randint(0, 4)
        told = [f"{buyer} buys {thing} from {seller}.", f"{seller} sells {buyer} {thing}."]
        rows.append(
            {
                "id": f"{split}-{index}",
                document: turns if lists else "\n".join(turns),
                summary: told if lists else told[0],
            }
        )
    return rows


def write_data(
    folder: Path, document: str = "document", summary: str = "summary", *, lists: bool = False
) -> Path:
    """Write train, validation and test as JSONL."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", 60), ("validation", 12), ("test", 12)):
        rows = make_rows(split, number, document, summary, lists=lists)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


SMALL = [
    "model.embedding_size=32",
    "model.num_heads=2",
    "model.feedforward_size=64",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "data.max_document_tokens=96",
    "data.max_summary_tokens=32",
    "data.batch_tokens=512",
    "tokenizer.vocabulary_size=300",
    "tracking.mode=disabled",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.accelerator=cpu",
]


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Config]:
    """Load the config of a small model on made-up data, with changes."""
    data = write_data(tmp_path / "data")

    def make(*overrides: str) -> Config:
        where = [
            f"data.path={data}",
            f"data.cache_dir={tmp_path / 'cache'}",
            f"run.directory={tmp_path / 'runs'}",
        ]
        return load([], [*SMALL, *where, *overrides])

    return make


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train the small model with some changes, once for all tests of a process."""
    from headcount.commands.train import train

    folder = tmp_path_factory.mktemp("finished")
    where = [f"data.path={write_data(folder / 'data')}", f"data.cache_dir={folder / 'cache'}"]
    runs: dict[tuple[str, ...], Path] = {}

    def run(*overrides: str) -> Path:
        if overrides not in runs:
            path = folder / f"run-{len(runs)}"
            train(load([], [*SMALL, *where, *overrides, f"run.folder={path}"]))
            runs[overrides] = path
        return runs[overrides]

    return run


@pytest.fixture
def finished_run_of(_trained: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return copies of finished runs with some changes, for what only reads or breaks one."""

    def copy(*overrides: str, name: str = "run") -> Path:
        return Path(shutil.copytree(_trained(*overrides), tmp_path / name))

    return copy


@pytest.fixture
def finished_run(finished_run_of: Callable[..., Path]) -> Path:
    """Return a copy of a finished run on made-up data."""
    return finished_run_of()
