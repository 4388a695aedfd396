"""Importing the package changes nothing outside it."""

import subprocess
import sys

SCRIPT = """
import importlib.util, logging, pkgutil, warnings
import pytorch_lightning, omegaconf, matplotlib.figure, wandb, datasets, submitit
import headcount

def state():
    levels = {name: logger.level for name, logger in logging.root.manager.loggerDict.items() if hasattr(logger, "level")}
    return list(warnings.filters), levels, omegaconf.OmegaConf.has_resolver("oc.env")

# Its extra may be missing, which is what it says when it is imported.
left_out = {"headcount.__main__"}
if importlib.util.find_spec("transformers") is None:
    left_out.add("headcount.hf")

before = state()
for module in pkgutil.walk_packages(headcount.__path__, "headcount."):
    if module.name not in left_out:
        importlib.import_module(module.name)
after = state()
assert before[0] == after[0], [each for each in after[0] if each not in before[0]]
assert {name: after[1][name] for name in before[1]} == before[1]
assert before[2] == after[2] is True
"""


def test_no_side_effects_at_import() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
