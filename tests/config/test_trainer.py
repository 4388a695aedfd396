import inspect

import pytorch_lightning as pl

from headcount.config import trainer as config


def test_trainer_signature_is_lightnings_own() -> None:
    """Read from the source without importing it; here held against the imported one."""
    assert list(config.trainer_signature()) == list(inspect.signature(pl.Trainer).parameters)
    assert config.trainer_signature()["max_epochs"] == {"int", "NoneType"}
