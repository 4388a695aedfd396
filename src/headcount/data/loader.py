"""Loaders.

Training that can go on from any batch, on any process; decoding that covers every example once.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from headcount.data.batches import Batch, EncodedPairs, longest_first
from headcount.data.sampler import Examples, TokenBudgetSampler
from headcount.errors import ConfigError
from headcount.watchdog import ignore_stop_signals


class TrainingLoader:
    """The training batches of one process, epoch after epoch.

    Lightning keeps ``state_dict`` in a checkpoint and gives it back on resume; the next batch is
    then the one that was not handed out yet. The state holds nothing of a process or worker, so
    that all processes share that of the first.
    """

    def __init__(
        self,
        split: EncodedPairs,
        sampler: TokenBudgetSampler,
        *,
        made_of: Mapping[str, Any],
        num_workers: int = 0,
        process: int = 0,
        processes: int = 1,
        same_order: bool = False,
    ) -> None:
        """Take the examples and their order.

        Args:
            split: the training split.
            sampler: its batches, those of all processes.
            made_of: what the order depends on, by name; a state that was made of anything else is
                refused.
            num_workers: processes that make batches ahead; 0: they are made when asked for.
            process: which process this is.
            processes: how many there are.
            same_order: whether every epoch has the order of the first one, as when a model is to
                overfit a few batches.
        """
        self.same_order = same_order
        self.split, self.order, self.made_of = split, sampler, {**made_of, "processes": processes}
        self.num_workers, self.process, self.processes = num_workers, process, processes
        self.epoch, self.done, self.skip = 0, 0, 0
        self.sampler = self  # Lightning calls set_epoch on a loader's sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose the order.

        What a state says to skip is skipped in its own epoch alone, which may have ended.
        """
        if epoch != self.epoch:
            self.epoch, self.done, self.skip = epoch, 0, 0

    def __len__(self) -> int:
        """Return the number of batches that each process has in an epoch."""
        return len(self.order) // self.processes

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this epoch that were not handed out before."""
        self.done, self.skip = self.skip, 0
        epoch = 0 if self.same_order else self.epoch
        batches = self.order.batches(epoch)[self.process :: self.processes][self.done :]
        for batch in _loader(self.split, batches, self.num_workers):
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the data: an epoch, and how many of its batches were handed out."""
        return {
            "epoch": self.epoch,
            "batches": self.skip or self.done,
            "made_of": dict(self.made_of),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a place.

        Raises:
            ConfigError: the state belongs to another order.
        """
        check_made_of(state["made_of"], self.made_of)
        self.epoch, self.skip = state["epoch"], state["batches"]


def check_made_of(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to look for a place in another order.

    Raises:
        ConfigError: the two differ.
    """
    for name, value in then.items():
        if name not in now or now[name] != value:
            raise ConfigError(
                f"{name}={now.get(name)}: the run was started with another, and would not find "
                f"its place in the data; legal: {value}"
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
) -> DataLoader[Any]:
    """Return batches of similar documents, the longest first, for decoding.

    Every example comes once, on one process; each process has the same number of batches, before
    any are left out.

    Args:
        split: the split.
        examples: those of it to decode.
        size: examples of a batch; with several processes a batch may hold one more.
        num_workers: processes that make batches ahead.
        process: which process this is.
        processes: how many there are.
        done: for each example of the split whether it is decoded; a batch of none but such is left
            out.
        in_windows: long documents come in windows, not cut.

    Raises:
        ConfigError: there are fewer examples than processes.
    """
    if len(examples) < processes:
        raise ConfigError(
            f"trainer.devices={processes}: too many processes to decode {len(examples)} examples"
        )
    mine = longest_first(split, examples)[process::processes]
    number = -(-(len(examples) // processes) // size)
    batches = [
        batch
        for batch in np.array_split(np.array(mine), number)
        if done is None or not done[batch].all()
    ]
    return _loader(split, batches, num_workers, in_windows=in_windows)


def _loader(
    split: EncodedPairs, batches: list[Examples], num_workers: int, *, in_windows: bool = False
) -> DataLoader[Any]:
    context = "fork" if num_workers else None  # the mapped files need not be copied
    return DataLoader(
        batches,  # type: ignore[arg-type] # any sequence serves as a data set
        batch_size=None,
        collate_fn=partial(split.batch, in_windows=in_windows),
        num_workers=num_workers,
        multiprocessing_context=context,
        worker_init_fn=_become_worker,
    )


def _become_worker(worker: int) -> None:
    ignore_stop_signals()  # here, because torch sets handlers of its own before
