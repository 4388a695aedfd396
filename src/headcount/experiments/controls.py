"""What is held while the heads vary, checked on every cell before the first one starts.

``fixed_width`` is the design of Vaswani et al. (2017, table 3 A): the width is divided among the
heads, so that the number of parameters stays. ``fixed_head_dim`` gives every head the same width,
so that parameters grow with the heads. ``matched_parameters`` is the design of Shazeer (2019,
section 4.1): what attention gains or loses in parameters, the feed-forward blocks make up for.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from headcount.config.load import as_dict, flatten
from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.experiments.cell import Cell, read_keys
from headcount.experiments.grid import Grid
from headcount.model.cost import Cost, cost

TOLERANCE = 0.01  # of the baseline's parameters
_cost = cache(cost)


def count_cost(config: Config) -> Cost:
    """Count what a model costs, for the longest pair and the largest vocabulary that its config
    allows."""
    return _cost(
        config.model,
        vocabulary_size=config.tokenizer.vocabulary_size,
        max_positions=config.max_positions,
        document_tokens=config.data.max_document_tokens,
        summary_tokens=config.data.max_summary_tokens,
    )


def match_parameters(cells: list[Cell]) -> list[int]:
    """Return for each cell the feedforward_size that gives it the baseline's number of parameters,
    or comes nearest."""
    wanted = count_cost(_baseline(cells).config).parameters
    solved: dict[str, int] = {}
    for cell in cells:
        if cell.label not in solved:
            one, two = (
                _with_feedforward(cell.config, size) for size in (1, 2)
            )  # parameters are linear in it
            more = (
                round((wanted - one) / (two - one))
                if two > one
                else cell.config.model.feedforward_size - 1
            )
            solved[cell.label] = (
                cell.config.model.feedforward_size if cell.is_baseline else 1 + max(0, more)
            )
    return [solved[cell.label] for cell in cells]


def check_controls(grid: Grid, cells: list[Cell]) -> None:
    """Check that all cells keep the grid's control and differ in nothing but what the grid varies.

    Args:
        grid: the checked grid.
        cells: all of its cells.

    Raises:
        ConfigError: a cell that does not, by its name.
    """
    baseline = _baseline(cells)
    varied = {*grid.axes, *baseline.choice}.union(
        *(read_keys(grid.locate(file)) for file in grid.overlays)
    )
    then = _held(grid, baseline, varied)
    for cell in cells:
        held, where = (
            _held(grid, cell, varied),
            f"{grid.file}: cell {cell.name} breaks control={grid.control}",
        )
        for name in sorted(held.keys() | then.keys()):
            if held.get(name) != then.get(name):
                legal = f"{then.get(name)}, as in {baseline.label}, or an axis that says so"
                raise ConfigError(f"{where}: {name}={held.get(name)}; legal: {legal}")
        model, found, wanted = (
            cell.config.model,
            *(count_cost(each.config).parameters for each in (cell, baseline)),
        )
        if grid.control == "fixed_width" and model.head_dim is not None:
            raise ConfigError(
                f"{where}: model.head_dim={model.head_dim}; legal: null, which is embedding_size "
                "/ heads"
            )
        if grid.control == "fixed_width" and found != wanted:
            raise ConfigError(
                f"{where}: {found:,} parameters; legal: {wanted:,}, as in {baseline.label}"
            )
        if grid.control == "matched_parameters" and abs(found - wanted) > TOLERANCE * wanted:
            raise ConfigError(
                f"{where}: {found:,} parameters with "
                f"model.feedforward_size={model.feedforward_size}, which comes "
                f"nearest; legal: within {TOLERANCE:.0%} of {wanted:,}, as in {baseline.label}"
            )


def _baseline(cells: list[Cell]) -> Cell:
    return next(cell for cell in cells if cell.is_baseline)


def _with_feedforward(config: Config, size: int) -> int:
    return count_cost(
        replace(config, model=replace(config.model, feedforward_size=size))
    ).parameters


def _held(grid: Grid, cell: Cell, varied: set[str]) -> dict[str, Any]:
    """Return what has to be the same in all cells.

    All but the model and what is varied, and what the control holds.
    """
    free = ("model.", "seed", "run.", "tracking.")
    held = {
        name: value
        for name, value in flatten(as_dict(cell.config)).items()
        if not name.startswith(free)
    }
    held = {name: value for name, value in held.items() if name not in varied}
    if grid.control != "none":
        held["model.embedding_size"] = cell.config.model.embedding_size
    if grid.control == "fixed_head_dim":
        held |= {
            f"head_dim in {place.name}": place.head_dim for place in count_cost(cell.config).places
        }
    return held
