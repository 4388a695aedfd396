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

from headcount.config.load import as_dict, changed, flatten
from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.experiments.cell import Cell, read_keys
from headcount.experiments.grid import Grid
from headcount.model.cost import Cost, cost

TOLERANCE = 0.01  # of the reference cell's parameters
_costs: dict[str, Cost] = {}  # by what they are counted from; many cells differ in the seed only


def count_cost(config: Config) -> Cost:
    """Return the cost of a model for the longest pair and the largest vocabulary that its config
    allows."""
    sizes = {
        "vocabulary_size": config.tokenizer.vocabulary_size,
        "max_positions": config.max_positions,
        "document_tokens": config.data.max_document_tokens,
        "summary_tokens": config.data.max_summary_tokens,
    }
    key = repr((config.model, sizes))
    if key not in _costs:
        _costs[key] = cost(config.model, **sizes)
    return _costs[key]


def match_parameters(cells: Sequence[Cell]) -> list[int]:
    """Return for each cell the ``feedforward_size`` with which its number of parameters is nearest
    to that of the reference cell with the same value of the inner axis."""
    sizes: dict[tuple[str, str], int] = {}
    for cell in cells:
        if cell.without_seed not in sizes:
            wanted = count_cost(_find_reference(cells, cell).config).parameters
            sizes[cell.without_seed] = _solve_feedforward_size(cell, wanted)
    return [sizes[cell.without_seed] for cell in cells]


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
    varied = {*grid.axes, *cells[0].choice}
    for file in grid.overlays:
        varied |= read_keys(grid.locate(file)).keys()

    for cell in cells:
        where = f"{grid.file}: cell {cell.name} breaks control={grid.control}"
        reference = _find_reference(cells, cell)
        _check_keys(grid, cell, reference, varied, where)
        _check_widths(grid, cell, reference, where)
        _check_parameters(grid, cell, reference, where)
    _check_separable(grid, cells)
    _check_strategies(grid, cells)


def _check_separable(grid: Grid, cells: Sequence[Cell]) -> None:
    """Check that no two axes change together only: their effects could not be told apart.

    A cell may differ from the reference cell in several axes if other cells differ in each of
    them alone, or if the grid declares that they are varied together.
    """
    reference = next(cell for cell in cells if cell.is_reference)
    differing = {}
    for cell in cells:
        keys = [key for key in grid.axes if cell.axes[key] != reference.axes[key]]
        differing[cell.label] = keys

    varied_alone = {keys[0] for keys in differing.values() if len(keys) == 1}
    declared = {*grid.varied_together}
    for label, keys in differing.items():
        confounded = [key for key in keys if key not in varied_alone]
        if len(keys) > 1 and confounded and not set(keys) <= declared:
            raise ConfigError(
                f"{grid.file}: cell {label} differs from {reference.label} in "
                f"{' and '.join(keys)} at once, and no cell in {confounded[0]} alone: their "
                "effects cannot be told apart; legal: a cell for each alone, or "
                f"varied_together: [{', '.join(keys)}]"
            )


def _check_strategies(grid: Grid, cells: Sequence[Cell]) -> None:
    """Check that minimum Bayes risk, which optimizes the metric, is in all cells or in none."""
    with_mbr = [cell for cell in cells if cell.config.generation.strategy == "mbr"]
    others = [cell for cell in cells if cell.config.generation.strategy != "mbr"]
    if with_mbr and others:
        raise ConfigError(
            f"{grid.file}: cell {with_mbr[0].name} has generation.strategy=mbr, which optimizes "
            f"the metric, and {others[0].name} has generation.strategy="
            f"{others[0].config.generation.strategy}: their scores are not comparable; legal: mbr "
            "in all cells, or in none"
        )


def _check_keys(grid: Grid, cell: Cell, reference: Cell, varied: set[str], where: str) -> None:
    """Check that no key differs but those that are varied, and those that follow them.

    A key whose default is the value of another key follows it: ``model.encoder_heads`` follows
    ``model.num_heads``. In another section it has to be an axis all the same: if the summaries
    that are generated become longer with the data, that is to be declared.
    """
    free = ("seed", "run.", "tracking.")
    solved = {"model.feedforward_size"} if grid.control == "matched_parameters" else set()
    sections = {key.split(".")[0] for key in varied}
    own_keys = changed(cell.config).keys() | changed(reference.config).keys()
    found = flatten(as_dict(cell.config))
    expected = flatten(as_dict(reference.config))
    for name in sorted(found.keys() | expected.keys()):
        if name.startswith(free) or name in varied | solved:
            continue
        # What differs without being set in either config follows another key.
        follows_axis = name not in own_keys and name.split(".")[0] in sections
        if found.get(name) != expected.get(name) and not follows_axis:
            legal = f"{expected.get(name)}, as in {reference.label}, or an axis that says so"
            raise ConfigError(f"{where}: {name}={found.get(name)}; legal: {legal}")


def _check_widths(grid: Grid, cell: Cell, reference: Cell, where: str) -> None:
    """Check the widths that a control holds constant, also against the axes."""
    found = _widths(grid, cell)
    expected = _widths(grid, reference)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            legal = f"{expected.get(name)}, as in {reference.label}, or control: none"
            raise ConfigError(f"{where}: {name}={found.get(name)}; legal: {legal}")


def _check_parameters(grid: Grid, cell: Cell, reference: Cell, where: str) -> None:
    """Check the numbers of parameters that the control of a grid promises."""
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


def _find_reference(cells: Sequence[Cell], cell: Cell) -> Cell:
    """Return a reference cell with the same value of the inner axis as another cell."""
    return next(each for each in cells if each.is_reference and each.choice == cell.choice)


def _parameters_with(config: Config, *, feedforward_size: int) -> int:
    model = replace(config.model, feedforward_size=feedforward_size)
    return count_cost(replace(config, model=model)).parameters


def _widths(grid: Grid, cell: Cell) -> dict[str, int | list[int]]:
    """Return the widths that the control holds constant; a list where layers have several."""
    widths: dict[str, int | list[int]] = {}
    if grid.control != "none":
        widths["model.embedding_size"] = cell.config.model.embedding_size
    if grid.control == "fixed_head_dim":
        for site in count_cost(cell.config).sites:
            head_dims = list(dict.fromkeys(block.head_dim for block in site.blocks))
            is_one = len(head_dims) == 1
            widths[f"head_dim in {site.name}"] = head_dims[0] if is_one else head_dims
    return widths
