"""What is held constant while the heads vary, checked on every cell before the first one starts.

``fixed_width`` is the design of Vaswani et al. (2017, table 3 A): the width is divided among the
heads, so that the number of parameters is constant. ``fixed_head_dim`` gives every head the same
width, so that parameters grow with the heads. ``matched_parameters`` is the design of Shazeer
(2019, section 4.1): the feed-forward blocks compensate for the parameters that attention gains or
loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from headcount.config.load import as_dict, flatten
from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.experiments.cell import Cell, read_keys
from headcount.experiments.grid import Grid
from headcount.model.cost import Cost, cost

TOLERANCE = 0.01  # of the reference cell's parameters
_cached_cost = cache(cost)


def count_cost(config: Config) -> Cost:
    """Return the cost of a model for the longest pair and the largest vocabulary that its config
    allows."""
    return _cached_cost(
        config.model,
        vocabulary_size=config.tokenizer.vocabulary_size,
        max_positions=config.max_positions,
        document_tokens=config.data.max_document_tokens,
        summary_tokens=config.data.max_summary_tokens,
    )


def match_parameters(cells: Sequence[Cell]) -> list[int]:
    """Return for each cell the ``feedforward_size`` with which its number of parameters is nearest
    to the reference cell's."""
    wanted = count_cost(_find_reference(cells).config).parameters
    sizes: dict[str, int] = {}
    for cell in cells:
        if cell.label not in sizes:
            sizes[cell.label] = _solve_feedforward_size(cell, wanted)
    return [sizes[cell.label] for cell in cells]


def _solve_feedforward_size(cell: Cell, wanted: int) -> int:
    own_size = cell.config.model.feedforward_size
    if cell.is_reference:
        return own_size

    # Parameters are linear in the size.
    with_one = _parameters_with(cell.config, feedforward_size=1)
    slope = _parameters_with(cell.config, feedforward_size=2) - with_one
    if slope == 0:
        return max(1, own_size)
    return 1 + max(0, round((wanted - with_one) / slope))


def check_controls(grid: Grid, cells: Sequence[Cell]) -> None:
    """Check that all cells keep the grid's control and differ only in what the grid varies.

    Args:
        grid: the checked grid.
        cells: all of its cells.

    Raises:
        ConfigError: a cell that does not, by name.
    """
    reference = _find_reference(cells)
    varied = {*grid.axes, *reference.choice}
    for file in grid.overlays:
        varied |= read_keys(grid.locate(file)).keys()

    for cell in cells:
        where = f"{grid.file}: cell {cell.name} breaks control={grid.control}"
        _check_constants(grid, cell, reference, varied, where)
        _check_parameters(grid, cell, reference, where)


def _check_constants(
    grid: Grid, cell: Cell, reference: Cell, varied: set[str], where: str
) -> None:
    found = _constants(grid, cell, varied)
    expected = _constants(grid, reference, varied)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            legal = f"{expected.get(name)}, as in {reference.label}, or an axis that says so"
            raise ConfigError(f"{where}: {name}={found.get(name)}; legal: {legal}")


def _check_parameters(grid: Grid, cell: Cell, reference: Cell, where: str) -> None:
    model = cell.config.model
    found = count_cost(cell.config).parameters
    wanted = count_cost(reference.config).parameters
    if grid.control == "fixed_width" and model.head_dim is not None:
        raise ConfigError(
            f"{where}: model.head_dim={model.head_dim}; legal: null, which is embedding_size / "
            "heads"
        )
    if grid.control == "fixed_width" and found != wanted:
        raise ConfigError(
            f"{where}: {found:,} parameters; legal: {wanted:,}, as in {reference.label}"
        )
    is_near = abs(found - wanted) <= TOLERANCE * wanted
    if grid.control == "matched_parameters" and not is_near:
        raise ConfigError(
            f"{where}: {found:,} parameters with model.feedforward_size="
            f"{model.feedforward_size}, which comes nearest; legal: within {TOLERANCE:.0%} of "
            f"{wanted:,}, as in {reference.label}"
        )


def _find_reference(cells: Sequence[Cell]) -> Cell:
    return next(cell for cell in cells if cell.is_reference)


def _parameters_with(config: Config, *, feedforward_size: int) -> int:
    model = replace(config.model, feedforward_size=feedforward_size)
    return count_cost(replace(config, model=model)).parameters


def _constants(grid: Grid, cell: Cell, varied: set[str]) -> dict[str, Any]:
    """Return what has to be the same in all cells.

    That is everything but the model and what is varied, and what the control holds constant.
    """
    free = ("model.", "seed", "run.", "tracking.")
    constants = {}
    for name, value in flatten(as_dict(cell.config)).items():
        if not name.startswith(free) and name not in varied:
            constants[name] = value
    if grid.control != "none":
        constants["model.embedding_size"] = cell.config.model.embedding_size
    if grid.control == "fixed_head_dim":
        for place in count_cost(cell.config).places:
            constants[f"head_dim in {place.name}"] = place.head_dim
    return constants
