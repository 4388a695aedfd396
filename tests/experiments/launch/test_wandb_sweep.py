"""A study as a W&B sweep, before a stand-in for the server.

What is registered, and what a real agent makes of it.
"""

import io
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from rich.console import Console

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.cells import make_cells, pick_cells
from headcount.experiments.grid import load_grid
from headcount.experiments.launch.local import read_state
from headcount.experiments.launch.wandb_sweep import make_sweep, register_sweep
from tests.experiments.test_grid import write
from tests.training.wandb_server import KEY, WandbServer, serving

TWO, ONLINE = "{model.num_heads: 2}", "{tracking.mode: online}"


class SweepServer(WandbServer):
    """Knows one sweep, and hands out its grid."""

    def ask(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if name == "SweepWithRuns":
            return {
                "project": {
                    "sweep": {
                        **super().ask(name, given)["project"]["sweep"],
                        "config": self.config,
                    }
                }
            }
        if name == "Heartbeat" and json.loads(given["runState"]):
            return {
                "agentHeartbeat": {"agent": {"id": "agent"}, "commands": "[]"}
            }  # one run at a time
        if name != "UpsertSweep":
            return super().ask(name, given)
        self.config, self.sweep = given["config"], yaml.safe_load(given["config"])
        values = {key: each["values"] for key, each in self.sweep["parameters"].items()}
        self.commands = [
            dict(zip(values, each, strict=True)) for each in product(*values.values())
        ]
        project = {
            "id": "p",
            "name": given["projectName"] or "headcount",
            "entity": {"id": "e", "name": "me"},
        }
        return {
            "upsertSweep": {
                "sweep": {"name": "sw1", "project": project},
                "configValidationWarnings": [],
            }
        }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text("")
    return tmp_path / "study"


def parameters(folder: Path, **changes: str) -> dict[str, list[Any]]:
    grid = load_grid(write(folder, **changes))
    return {
        key: each["values"]
        for key, each in make_sweep(grid, make_cells(grid))["parameters"].items()
    }


def test_axes_of_a_product_are_parameters(folder: Path) -> None:
    select = "{over: {optimizer.learning_rate: [1e-3, 2e-3]}, by: validation/rouge2}"
    assert parameters(folder, select=select) == {
        "model.num_heads": [1, 2],
        "model.norm_position": ["pre"],
        "optimizer.learning_rate": [0.001, 0.002],
        "seed": [0, 1],
    }


def test_otherwise_the_cells_are_named(folder: Path) -> None:
    cells = "[{model.encoder_heads: 1}, {model.cross_heads: 1}]"
    found = parameters(folder, grid=cells, reference_cell="{model.encoder_heads: 1}")
    assert found == {"cell": ["encoder_heads=1", "cross_heads=1"], "seed": [0, 1]}


def test_what_an_agent_is_given_picks_one_cell(folder: Path) -> None:
    """An agent spells values as Python does."""
    grid = load_grid(write(folder))
    cells = make_cells(grid)
    values = {key: each["values"] for key, each in make_sweep(grid, cells)["parameters"].items()}
    picked = [
        pick_cells(cells, [f"{key}={value}" for key, value in zip(values, each, strict=True)])
        for each in product(*values.values())
    ]
    assert [[cell.name for cell in each] for each in picked] == [[cell.name] for cell in cells]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("num_heads=1", "num_heads=1: not what cells differ in; did you mean model.num_heads?"),
        ("model.num_heads=3", "model.num_heads=3: no such cell; legal: 1, 2"),
        (
            "cell=x",
            "cell=x: no such cell; legal: num_heads=1,norm_position=pre, num_heads=2,norm_position=pre",
        ),
    ],
)
def test_no_such_cell(wanted: str, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        pick_cells(make_cells(load_grid(write(folder))), [wanted])
    assert str(caught.value) == message


def test_without_a_key_it_says_so(folder: Path) -> None:
    grid = load_grid(write(folder))
    cells = make_cells(grid)
    with pytest.raises(ConfigError, match="--where wandb: no key is configured"):
        register_sweep(make_sweep(grid, cells), cells, Console())


@pytest.mark.slow
def test_a_real_agent_trains_every_cell(
    small_study: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, printed = SweepServer(), io.StringIO()
    grid = load_grid(
        write(
            Path("study"),
            grid="{model.num_heads: [1, 2]}",
            seeds="[0]",
            overrides=ONLINE,
            reference_cell=TWO,
        )
    )
    cells = make_cells(grid)
    with serving(server):
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        wandb.teardown()  # what it knows of the environment
        register_sweep(make_sweep(grid, cells), cells, Console(file=printed, width=200))
        wandb.teardown()
        agent = printed.getvalue().split(": ")[-1].split()
        assert agent == ["wandb", "agent", "me/headcount/sw1"] and server.sweep["method"] == "grid"
        done = subprocess.run([sys.executable, "-m", *agent], capture_output=True, text=True)
    assert done.returncode == 0 and [read_state(cell) for cell in cells] == ["finished"] * 2, (
        done.stdout + done.stderr
    )
    told = [(run["groupName"], run["displayName"], run["tags"]) for run in server.runs.values()]
    assert told == [
        ("study", cell.name, [f"model.num_heads={cell.setting['model.num_heads']}", "seed=0"])
        for cell in cells
    ]
