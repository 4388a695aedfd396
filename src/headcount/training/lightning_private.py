"""Everything that relies on private names of Lightning, in one place.

Each function says which behaviour it relies on, and has a test that fails if a new version behaves
differently.
"""

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher


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
