"""The ``trainer`` section: arguments of ``pytorch_lightning.Trainer``, checked against its
signature.

Lightning's signature is read from its source, because importing it takes seconds and a mistake
should be reported at once.
"""

import ast
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from headcount.errors import ConfigError, legal_names

RESERVED_TRAINER_ARGS = {  # set by headcount
    "logger",
    "callbacks",
    "default_root_dir",
    "enable_checkpointing",
    "enable_progress_bar",
    "plugins",
    "use_distributed_sampler",
}
INSTEAD = {  # how to get what a reserved argument is for
    "logger": "the sections tracking and loggers, or headcount.train(config, loggers=[...])",
    "callbacks": "the section callbacks, or headcount.train(config, callbacks=[...])",
}
TRAINER_DEFAULTS = {
    "devices": 1,
    "max_steps": 2000,
    "max_epochs": -1,
    "val_check_interval": 200,
    "check_val_every_n_epoch": None,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
}
# Values below these would divide by zero in the middle of a training, or do nothing at all.
AT_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,
    "overfit_batches": 0,
}
POSITIVE = ("val_check_interval", "limit_train_batches", "limit_predict_batches")
TYPE_NAMES = {
    "int": "int",
    "float": "float",
    "str": "str",
    "bool": "bool",
    "None": "NoneType",
    "list": "list",
}


def check_trainer(trainer: dict[str, Any]) -> None:
    """Check names, types, ranges and budget of the Trainer's arguments.

    Raises:
        ConfigError: an argument is unknown, reserved, of the wrong type or out of range, or the
            budget is not exactly one of steps and epochs.
    """
    signature = trainer_signature()
    for name, value in trainer.items():
        _check_argument(name, value, signature)

    # Exactly one budget: of two, the one that ends the training would decide the learning-rate
    # schedule silently.
    steps = trainer.get("max_steps", -1)
    epochs = trainer.get("max_epochs", -1)
    budgets = f"trainer.max_steps={steps} and trainer.max_epochs={epochs}"
    limits_epochs = epochs is not None and epochs >= 0
    if steps >= 0 and limits_epochs:
        raise ConfigError(f"{budgets} are two budgets; set one of them to -1")
    if steps < 0 and not limits_epochs and not trainer.get("fast_dev_run"):
        raise ConfigError(f"{budgets} are no budget; set one of them")


def _check_argument(name: str, value: Any, signature: dict[str, set[str] | None]) -> None:
    if name in RESERVED_TRAINER_ARGS:
        legal = f"; legal: {INSTEAD[name]}" if name in INSTEAD else ""
        raise ConfigError(f"trainer.{name}={value} is not yours to set: headcount sets it{legal}")
    if name not in signature:
        names = sorted(set(signature) - RESERVED_TRAINER_ARGS)
        raise ConfigError(f"trainer.{name}={value}: unknown key; {legal_names(name, names)}")

    # The value is written to YAML and JSON with the run.
    kind = type(value).__name__
    try:
        json.dumps(value)
    except TypeError:
        legal = "text, numbers, and lists and mappings of those"
        raise ConfigError(f"trainer.{name}={value}: wrong type {kind}; legal: {legal}") from None

    # Arguments that also take objects have no plain type and are left to Lightning.
    types = signature[name]
    is_legal = (
        types is None or kind in types or kind == "dict" or (kind == "int" and "float" in types)
    )
    if types and not is_legal:
        legal = " or ".join(sorted(types)).replace("NoneType", "null")
        raise ConfigError(f"trainer.{name}={value}: wrong type {kind}; legal: {legal}")
    if isinstance(value, int | float):
        _check_range(name, value)


def _check_range(name: str, value: float) -> None:
    # The comparisons are false for NaN.
    lowest = AT_LEAST.get(name)
    if lowest is not None and not value >= lowest:
        raise ConfigError(f"trainer.{name}={value} is out of range: legal: at least {lowest}")
    if name in POSITIVE and not value > 0:
        raise ConfigError(f"trainer.{name}={value} is out of range: legal: more than 0")


@cache
def trainer_signature() -> dict[str, set[str] | None]:
    """Return for each argument of Lightning's Trainer the names of its types.

    None if one is not a plain type.
    """
    package = importlib.util.find_spec("pytorch_lightning")
    if package is None or package.origin is None:
        raise ConfigError("pytorch-lightning is not installed; see requirements.txt")
    source = Path(package.origin).parent / "trainer" / "trainer.py"

    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return {
                argument.arg: _plain_types(argument.annotation)
                for argument in node.args.kwonlyargs
            }
    raise AssertionError("the Trainer of Lightning has no __init__")


def _plain_types(annotation: ast.expr | None) -> set[str] | None:
    text = ast.unparse(annotation) if annotation else "Any"
    text = re.sub(r"(list|dict)\[[^\]]*\]", r"\1", text).replace("Optional", "None")
    names = set(re.findall(r"\w+", text)) - {"Union", "timedelta", "dict"}
    return {TYPE_NAMES[name] for name in names} if names <= TYPE_NAMES.keys() else None
