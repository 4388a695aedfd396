import subprocess
import sys
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import loads

import pytest
import torch
from torch.utils.data._utils import worker

from headcount.data.batches import EncodedPairs
from headcount.data.loader import TrainingLoader, check_workers, decoding_loader
from headcount.data.pairs import Pairs
from headcount.data.sampler import TokenBudgetSampler
from headcount.data.tokenizer import train_tokenizer
from headcount.data.training_examples import ExampleMaker, Plan, TrainingExamples
from headcount.errors import ConfigError, RunError

TEXTS = [f"document {n} " * (n % 5 + 1) for n in range(40)]
PAIRS = Pairs(ids=TEXTS, documents=TEXTS, references=[["a summary"]] * len(TEXTS))
SPLIT = EncodedPairs(PAIRS, train_tokenizer(TEXTS, "bpe", 280), 64, 32)
EXAMPLES = TrainingExamples(SPLIT, Plan(), ExampleMaker(layout=SPLIT.layout, seed=0))


def loader(
    process: int = 0, processes: int = 1, *, num_workers: int = 0, budget: int = 120
) -> TrainingLoader:
    sampler = TokenBudgetSampler(SPLIT.lengths, budget=budget, seed=0, processes=processes)
    where = {"process": process, "processes": processes}
    return TrainingLoader(
        EXAMPLES,
        sampler,
        order_settings={"data.batch_tokens": budget},
        num_workers=num_workers,
        **where,
    )


def epochs(given: TrainingLoader, number: int, first: int = 0) -> list[list[list[int]]]:
    """The examples of each batch of some epochs, as Lightning asks for them."""
    found = []
    for epoch in range(first, first + number):
        given.sampler.set_epoch(epoch)
        found.append([batch.indices for batch in given])
    return found


def test_every_epoch_has_every_example_once_in_another_order() -> None:
    given = loader()
    found = epochs(given, 3)
    assert all(
        sorted(sum(epoch, [])) == list(range(40)) and len(epoch) == len(given) for epoch in found
    )
    assert found[0] != found[1] != found[2]
    assert found == epochs(loader(), 3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_cut_at_every_batch_of_two_epochs(num_workers: int) -> None:
    whole = epochs(loader(), 3)
    for epoch in range(2):
        for cut in range(1, len(whole[0]) + 1)[:: 4 if num_workers else 1]:
            killed = loader()
            epochs(killed, epoch)
            killed.sampler.set_epoch(epoch)
            batches = iter(killed)
            for _ in range(cut):
                next(batches)
            resumed = loader(num_workers=num_workers)
            resumed.load_state_dict(killed.state_dict())
            assert resumed.state_dict() == killed.state_dict()  # also before the first batch
            ended = cut == len(whole[0])
            rest = epochs(resumed, 3 - epoch - ended, epoch + ended)
            assert rest == ([] if ended else [whole[epoch][cut:]]) + whole[epoch + 1 :]


def test_what_is_to_be_skipped_is_skipped_in_its_own_epoch_alone() -> None:
    given = loader()
    given.load_state_dict({"epoch": 0, "batches": 3, "order_settings": {}})
    assert epochs(given, 1, first=1) == epochs(loader(), 1, first=1)


def test_the_position_of_an_earlier_version_is_found() -> None:
    state = loader().state_dict() | {"batches": 3}
    state["made_of"] = state.pop("order_settings")
    given = loader()
    given.load_state_dict(state)
    assert epochs(given, 1) == [epochs(loader(), 1)[0][3:]]
    with pytest.raises(ConfigError, match=r"^data\.batch_tokens=200: "):
        loader(budget=200).load_state_dict(state)


def test_processes_share_an_epoch() -> None:
    shares = [epochs(loader(process, 3), 1)[0] for process in range(3)]
    assert {len(share) for share in shares} == {len(loader(0, 3))}
    assert sorted(example for share in shares for batch in share for example in batch) == list(
        range(40)
    )


def test_another_order_is_refused() -> None:
    state = loader(budget=120).state_dict()
    with pytest.raises(
        ConfigError,
        match=r"^data.batch_tokens=200: the run was started with another[^\n]*legal: 120$",
    ):
        loader(budget=200).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"^processes=2: .* legal: 1$"):
        loader(0, 2).load_state_dict(state)


@pytest.mark.parametrize(("size", "processes"), [(7, 1), (7, 3), (1, 3), (64, 2)])
def test_decoding_covers_everything_once_in_equal_shares(size: int, processes: int) -> None:
    shares = [
        list(decoding_loader(SPLIT, list(range(40)), size, process=process, processes=processes))
        for process in range(processes)
    ]
    assert len({len(share) for share in shares}) == 1
    assert sorted(i for share in shares for batch in share for i in batch.indices) == list(
        range(40)
    )
    assert all(
        0 < len(batch.indices) <= size + (processes > 1) for share in shares for batch in share
    )
    for share in shares:
        lengths = [length for batch in share for length in batch.document_lengths]
        assert lengths == sorted(lengths, reverse=True)


def test_fewer_examples_to_decode_than_processes() -> None:
    with pytest.raises(
        ConfigError, match="trainer.devices=3: too many processes to decode 2 examples"
    ):
        decoding_loader(SPLIT, [0, 1], 8, process=0, processes=3)


def test_a_worker_sends_its_batches_without_shared_memory(monkeypatch) -> None:
    """It drops a batch that finds no room in /dev/shm, and the training would wait for it."""
    batch = SPLIT.batch([3, 0])

    def fail(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory")

    monkeypatch.setattr("torch.UntypedStorage._share_fd_cpu_", fail)
    monkeypatch.setattr(worker, "_worker_info", object())
    received = loads(ForkingPickler.dumps(batch))
    assert type(received) is type(batch) and received.indices == [3, 0]
    assert torch.equal(received.document_ids, batch.document_ids)
    assert torch.equal(received.summary_ids, batch.summary_ids)
    assert received.document_ids.dtype == batch.document_ids.dtype


def test_workers_without_room_for_their_semaphores_are_one_line(monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multiprocessing.context.BaseContext.Lock", fail)
    check_workers(0)
    with pytest.raises(RunError) as found:
        next(iter(loader(num_workers=2)))
    assert str(found.value) == (
        "data.num_workers=2: the workers cannot be started (No space left on device); they need a "
        "little room in /dev/shm"
    )


DIES = """
from headcount.data.batches import EncodedPairs
from headcount.data.loader import decoding_loader
from tests.data.test_loader import SPLIT

iterator = iter(decoding_loader(SPLIT, list(range(40)), 2, num_workers=2))
next(iterator)
raise ZeroDivisionError("in the middle")
"""


def test_workers_do_not_hold_an_interpreter_that_dies() -> None:
    """They ignore SIGTERM, which is what Python would send them before it waits for them."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", DIES], cwd=root, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1 and "ZeroDivisionError: in the middle" in done.stderr


WRITES_MUCH = """
import sys, time
from multiprocessing import active_children
from headcount.data.loader import WorkerLoader, init_worker

loader = WorkerLoader(
    range(100),
    batch_size=None,
    collate_fn=lambda _: b"x" * 300_000,  # more than a pipe takes
    num_workers=3,
    multiprocessing_context="fork",
    worker_init_fn=init_worker,
)
batches = iter(loader)
next(batches)
print(*[child.pid for child in active_children()], flush=True)
time.sleep(60)
"""


def test_workers_end_with_a_process_that_is_killed() -> None:
    """Also those that wait for their turn to write to a pipe that nobody reads any more."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES_MUCH], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    workers = process.stdout.readline().split()
    assert len(workers) == 3
    process.kill()
    process.wait()

    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "workers outlive the process that started them"
        time.sleep(0.05)
