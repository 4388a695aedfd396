"""Loaders: training that resumes at any batch, and decoding that covers every example once."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from headcount.data.batches import Batch, EncodedPairs, longest_first
from headcount.data.sampler import TokenBudgetSampler
from headcount.data.training_examples import Drawn, TrainingExamples
from headcount.errors import ConfigError, RunError
from headcount.watchdog import end_with_parent, ignore_stop_signals, kill_at_exit


class TrainingLoader:
    """The training batches of one process, epoch after epoch.

    Lightning saves ``state_dict`` in a checkpoint and loads it on resume; the next batch is then
    the first one that was not handed out. The state does not depend on the process or its workers,
    so all processes resume from that of the first.

    Args:
        examples: the training split.
        sampler: the batches of all processes.
        order_settings: what the order depends on, by name; a state with other values is rejected.
        num_workers: number of processes that prepare batches ahead; 0: none.
        process: which process this is.
        processes: number of processes.
        same_order: whether every epoch has the order of the first one, as when a model is to
            overfit a few batches.
    """

    def __init__(
        self,
        examples: TrainingExamples,
        sampler: TokenBudgetSampler,
        *,
        order_settings: Mapping[str, Any],
        num_workers: int = 0,
        process: int = 0,
        processes: int = 1,
        same_order: bool = False,
    ) -> None:
        self.examples = examples
        self.order = sampler
        self.order_settings = {**order_settings, "processes": processes}
        self.num_workers = num_workers
        self.process = process
        self.processes = processes
        self.same_order = same_order

        self.epoch = 0
        self.done = 0  # batches of this epoch that were handed out
        self.skip = 0  # batches that the next iteration leaves out
        self.sampler = self  # Lightning calls set_epoch on the sampler of a loader

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch.

        The batches that a loaded state skips belong to its epoch, which may have ended.
        """
        if epoch != self.epoch:
            self.epoch = epoch
            self.done = 0
            self.skip = 0

    def __len__(self) -> int:
        """Return the number of batches that each process has in an epoch."""
        return len(self.order) // self.processes

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this epoch that were not handed out before."""
        self.done = self.skip
        self.skip = 0
        drawn = self._draw()[self.done :]
        for batch in _batch_loader(self.examples.batch, drawn, self.num_workers):
            self.done += 1
            yield batch

    def _draw(self) -> list[Drawn]:
        """Return what each batch of this epoch is made of."""
        order_epoch = 0 if self.same_order else self.epoch
        batches = self.order.batches(order_epoch)[self.process :: self.processes]
        drawn = []
        for position, indices in enumerate(batches):
            objective = self.examples.plan.objective(position, self.epoch)
            drawn.append(Drawn(indices=indices, epoch=order_epoch, objective=objective))
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """Return the position: the epoch, and how many of its batches were handed out."""
        return {
            "epoch": self.epoch,
            "batches": self.skip or self.done,
            "order_settings": dict(self.order_settings),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume at a position.

        Raises:
            ConfigError: the state belongs to another order.
        """
        check_order_settings(state, self.order_settings)
        self.epoch = state["epoch"]
        self.skip = state["batches"]


def check_order_settings(state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Reject a position in another order of the data.

    Args:
        state: of the loader of the started run, with what its order depends on.
        now: what the present order depends on, by name.

    Raises:
        ConfigError: a value of the started run differs.
    """
    # Checkpoints of earlier versions have another key.
    then = state["order_settings" if "order_settings" in state else "made_of"]
    for name, value in then.items():
        if name not in now or now[name] != value:
            raise ConfigError(
                f"{name}={now.get(name)}: the run was started with another value, so its position "
                f"in the data cannot be found; legal: {value}"
            )


def decoding_loader(
    split: EncodedPairs,
    examples: list[int],
    size: int,
    *,
    num_workers: int = 0,
    process: int = 0,
    processes: int = 1,
    done: NDArray[np.bool_] | None = None,
    in_windows: bool = False,
    shuffled: bool = False,
) -> "DecodingLoader":
    """Return batches of documents of similar length, the longest first, for decoding.

    Each example belongs to one process. All processes have the same number of batches, unless some
    are left out.

    Args:
        split: the split.
        examples: the rows to decode.
        size: number of examples in a batch; with several processes a batch may have one more.
        num_workers: number of processes that prepare batches ahead; 0: none.
        process: which process this is.
        processes: number of processes.
        done: for each example of the split whether it is decoded; batches of decoded examples are
            left out.
        in_windows: give long documents in windows instead of cutting them.
        shuffled: give the batches in a random order, which is always the same.

    Raises:
        ConfigError: there are fewer examples than processes.
    """
    if len(examples) < processes:
        raise ConfigError(
            f"trainer.devices={processes}: too many processes to decode {len(examples)} examples"
        )
    mine = longest_first(split, examples)[process::processes]
    # The process with the fewest examples decides, so that all have the same number of batches.
    number = -(-(len(examples) // processes) // size)
    batches = np.array_split(np.array(mine), number)
    if shuffled:
        order = np.random.default_rng(0).permutation(len(batches))
        batches = [batches[index] for index in order]
    if done is not None:
        batches = [batch for batch in batches if not done[batch].all()]
    return DecodingLoader(split, batches, num_workers, in_windows=in_windows)


class DecodingLoader:
    """The batches of one process for decoding.

    It is not a DataLoader, whose batches Lightning would share among the processes a second time.

    Args:
        split: the split.
        batches: the rows of each batch.
        num_workers: number of processes that prepare batches ahead; 0: none.
        in_windows: give long documents in windows instead of cutting them.
    """

    def __init__(
        self,
        split: EncodedPairs,
        batches: Sequence[Any],
        num_workers: int,
        *,
        in_windows: bool = False,
    ) -> None:
        self.split = split
        self.batches = batches
        self.num_workers = num_workers
        self.in_windows = in_windows

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        make_batch = partial(self.split.batch, in_windows=self.in_windows)
        yield from _batch_loader(make_batch, self.batches, self.num_workers)


def _batch_loader(
    make_batch: Callable[[Any], Batch], batches: Sequence[Any], num_workers: int
) -> DataLoader[Any]:
    return WorkerLoader(
        cast(Dataset[Any], batches),  # torch documents that any sequence serves as one
        batch_size=None,
        collate_fn=make_batch,
        num_workers=num_workers,
        # A forked worker shares the mapped files.
        multiprocessing_context="fork" if num_workers else None,
        worker_init_fn=init_worker,
    )


class WorkerLoader(DataLoader[Any]):
    """A DataLoader that says in one line why its workers cannot be started."""

    def __iter__(self) -> Any:
        """Start the workers, if there are any, and yield their batches."""
        check_workers(self.num_workers)
        earlier = set(active_children())
        batches = super().__iter__()
        kill_at_exit(set(active_children()) - earlier)
        return batches


def check_workers(number: int, *, loaders: int = 1) -> None:
    """Check that loader workers can be started: their queues need semaphores in /dev/shm.

    Args:
        number: of workers of a loader.
        loaders: that have workers at the same time.

    Raises:
        RunError: there is no room for the semaphores.
    """
    if not number:
        return
    # Three for the queue of each worker, three for that of their results, and an event.
    needed = loaders * (3 * number + 8)
    reason = _try_semaphores(needed)
    if reason is not None:
        # Those of earlier epochs and validations may still wait for the garbage collector.
        gc.collect()
        reason = _try_semaphores(needed)
    if reason is not None:
        raise RunError(
            f"data.num_workers={number}: the workers cannot be started ({reason}); they need a "
            "little room in /dev/shm"
        )


def _try_semaphores(number: int) -> str | None:
    """Return why a number of semaphores cannot be made; None if they can."""
    context = get_context("fork")
    semaphores = []
    try:
        for _ in range(number):
            semaphores.append(context.Lock())
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def init_worker(worker: int) -> None:
    """Leave the signals that stop a run to the process that started this worker, and end with it.

    A worker that writes to a full pipe waits until it is read, and others wait for their turn to
    write. After the death of the reader they would for good, and torch looks at its parent only
    between two batches.

    Args:
        worker: number of the worker.
    """
    # Here, because torch installs signal handlers of its own in a worker before.
    ignore_stop_signals()
    parent = parent_process()
    assert parent is not None and parent.pid is not None
    end_with_parent(parent.pid)
