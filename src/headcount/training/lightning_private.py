"""Everything that relies on private names of Lightning, in one place.

Each function says which behaviour it relies on, and has a test that fails if a new version behaves
differently.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor, nn
from torch.optim import Optimizer


def validation_follows(trainer: pl.Trainer) -> bool:
    """Return whether a validation follows the batch that just ended.

    Relies on: the loop decides by ``_should_check_val_fx`` right after ``on_train_batch_end``.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Return whether the gradients of an optimizer step are still being accumulated.

    Relies on: ``_should_accumulate`` is about the batch that just ended.
    """
    return trainer.fit_loop._should_accumulate()


def copies_this_process(trainer: pl.Trainer) -> bool:
    """Return whether the strategy starts its processes as copies of this one, which do not run the
    command.

    Relies on: ``ddp_spawn``, ``ddp_fork`` and their like have a launcher of this class.
    """
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def use_rank_of(trainer: pl.Trainer) -> None:
    """Let the trainer's own rank decide who logs, and not variables of another launcher.

    Relies on: loggers and messages go by ``rank_zero_only.rank``, which is read from RANK,
    LOCAL_RANK, SLURM_PROCID and others at import.
    """
    rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined] # a function with an attribute


class ShardingOnCPU(FSDPStrategy):
    """FSDP among processes without GPUs, over gloo: a way to try a sharded training.

    Relies on: Lightning rejects no subclass of ``FSDPStrategy`` where there is no GPU, and
    ``_setup_model`` does not wrap a model that is already wrapped. By itself it would name the
    device by an index, which a CPU has none of, and copy whole weights to the CPU: torch 2.13
    crashes if they are there already.
    """

    def _setup_model(self, model: nn.Module) -> nn.Module:
        from torch.distributed.fsdp import FullyShardedDataParallel  # takes a second

        wrapped = FullyShardedDataParallel(
            model,
            device_id=self.root_device,
            sharding_strategy=self.sharding_strategy,
            mixed_precision=self.mixed_precision_config,
            **self.kwargs,
        )
        return super()._setup_model(wrapped)

    @contextmanager
    def _whole_states(self) -> Iterator[None]:
        """Give the first rank whole weights and optimizer states within a ``with`` statement."""
        from torch.distributed import fsdp

        assert self.model is not None
        with fsdp.FullyShardedDataParallel.state_dict_type(
            self.model,
            fsdp.StateDictType.FULL_STATE_DICT,
            fsdp.FullStateDictConfig(rank0_only=True),
            fsdp.FullOptimStateDictConfig(rank0_only=True),
        ):
            yield

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the whole weights; nothing on ranks other than the first."""
        assert self.model is not None
        with self._whole_states():
            return self.model.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """Return the whole state of an optimizer; nothing on ranks other than the first."""
        from torch.distributed.fsdp import FullyShardedDataParallel, OptimStateKeyType

        assert self.model is not None
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        with self._whole_states():
            states = FullyShardedDataParallel.optim_state_dict(self.model, optimizer)
        if self.global_rank == 0:
            by_number = OptimStateKeyType.PARAM_ID
            states = FullyShardedDataParallel.rekey_optim_state_dict(states, by_number, self.model)
        return states
