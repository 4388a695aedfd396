import inspect

import pytest
import pytorch_lightning as pl

from headcount.config import trainer as config
from headcount.config.load import load
from headcount.errors import ConfigError


def test_trainer_signature_is_lightnings_own() -> None:
    """Read from the source without importing it; here held against the imported one."""
    assert list(config.trainer_signature()) == list(inspect.signature(pl.Trainer).parameters)
    assert config.trainer_signature()["max_epochs"] == {"int", "NoneType"}


@pytest.mark.parametrize(
    "override",
    [
        "accumulate_grad_batches=0",
        "accumulate_grad_batches=-1",
        "check_val_every_n_epoch=0",
        "gradient_clip_val=-1",
        "gradient_clip_val=.nan",
        "limit_predict_batches=0",
        "limit_predict_batches=0.0",
        "limit_train_batches=0",
        "limit_train_batches=.nan",
        "log_every_n_steps=-1",
        "num_sanity_val_steps=-3",
        "overfit_batches=-1",
        "val_check_interval=0",
        "val_check_interval=0.0",
    ],
)
def test_values_that_lightning_rejects_in_mid_training_are_rejected_at_once(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"trainer\.{key}=\S+ is out of range: legal: "):
        load([], [f"trainer.{override}"])
