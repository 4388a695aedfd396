"""What is held constant while the heads vary, checked on every cell before the first one starts.

``fixed_width`` is the design of Vaswani et al. (2017, table 3 A): the width is divided among the
heads, so that the number of parameters is constant. ``fixed_head_dim`` gives every head the same
width, so that parameters grow with the heads. ``matched_parameters`` is the design of Shazeer
(2019, section 4.1): the feed-forward blocks compensate for the parameters that attention gains or
loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headcount.config.load import as_dict, changed, flatten
from headcount.config.schema import Config
from headcount.errors import ConfigError
from headcount.experiments.cell import Cell, read_keys
from headcount.experiments.grid import Grid, as_text
from headcount.model.cost import Cost, cost
from headcount.runs.folder import has_effect
from headcount.wording import join_words

TOLERANCE = 0.01  # of the reference cell's parameters
# Keys of the section ``evaluation`` that change which weights are kept, not how they are scored.
TRAINING_KEYS = (
    "evaluation.validation_examples",
    "evaluation.select_by",
    "evaluation.selection_margin",
    "evaluation.patience",
)
# Keys that determine the examples of the splits, or how data.json identifies them: a stream by the
# digest of its source, so that a report cannot tell that its texts are the same.
EXAMPLE_KEYS = (
    "data.path",
    "data.name",
    "data.revision",
    "data.document_columns",
    "data.summary_columns",
    "data.reference_columns",
    "data.group_by",
    "data.train_split",
    "data.validation_split",
    "data.test_split",
    "data.carved_examples",
    "data.carving_seed",
    "data.streaming",
)
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
        if cell.seed_group not in sizes:
            wanted = count_cost(_find_reference(cells, cell).config).parameters
            sizes[cell.seed_group] = _solve_feedforward_size(cell, wanted)
    return [sizes[cell.seed_group] for cell in cells]


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
    differences = []
    for cell in cells:
        where = f"{grid.file}: cell {cell.name} breaks control={grid.control}"
        reference = _find_reference(cells, cell)
        differing = _find_differences(grid, cell, reference)
        _check_comparable(cell, reference, differing, where)
        _check_keys(grid, cell, reference, differing, where)
        _check_widths(grid, cell, reference, where)
        _check_parameters(grid, cell, reference, where)
        differences.append(differing)
    _check_separable(grid, cells, differences)
    _check_strategies(grid, cells)


def find_differences(grid: Grid, cells: Sequence[Cell], cell: Cell) -> dict[str, Any]:
    """Return the keys in which a cell differs from the reference cell, with the cell's values.

    Args:
        grid: the checked grid.
        cells: all of its cells.
        cell: any of them.
    """
    return _find_differences(grid, cell, _find_reference(cells, cell))


def _find_differences(grid: Grid, cell: Cell, reference: Cell) -> dict[str, Any]:
    """Return the keys in which a cell differs from the reference cell, with the cell's values.

    A key whose default is the value of another key follows it: ``model.encoder_heads`` follows
    ``model.num_heads``, and is no further difference. In another section it is one all the same:
    if the summaries that are generated become longer with the data, that is to be declared.
    """
    # Every key that differs, but for those that are free to.
    solved = {"model.feedforward_size"} if grid.control == "matched_parameters" else set()
    found = flatten(as_dict(cell.config))
    expected = flatten(as_dict(reference.config))
    differing = {}
    for name in sorted(found.keys() | expected.keys()):
        is_free = name == "seed" or name in solved or not has_effect(name, cell.config)
        if not is_free and found.get(name) != expected.get(name):
            differing[name] = found.get(name)

    # What differs without being set in either config follows another key.
    own_keys = changed(cell.config).keys() | changed(reference.config).keys()
    varied = _varied_keys(grid, cell, reference)
    sections = {_section(name) for name in differing if name in varied and name in own_keys}
    own_differences = {}
    for name, value in differing.items():
        if name in own_keys or _section(name) not in sections:
            own_differences[name] = value
    return own_differences


def _varied_keys(grid: Grid, cell: Cell, reference: Cell) -> set[str]:
    """Return the axes, and the keys that an overlay of either cell sets."""
    varied = {*grid.axes, *cell.choice}
    for overlay in (cell.axes.get("configs"), reference.axes.get("configs")):
        if overlay is not None:
            varied |= read_keys(grid.locate(overlay)).keys()
    return varied


def _section(name: str) -> str:
    return name.split(".")[0]


def _check_comparable(
    cell: Cell, reference: Cell, differing: Mapping[str, Any], where: str
) -> None:
    """Check that a cell has the examples of the reference cell and is scored as it is.

    No report could compare them otherwise, which would be noticed after all trainings.
    """
    for name, value in differing.items():
        is_scoring = _section(name) == "evaluation" and name not in TRAINING_KEYS
        if is_scoring or name in EXAMPLE_KEYS:
            expected = flatten(as_dict(reference.config))[name]
            raise ConfigError(
                f"{where}: {name}={value}; legal: {expected}, as in {reference.label}: cells with "
                "other examples or other scores cannot be compared"
            )

    # The selecting metric is computed on test, too.
    found = cell.config.evaluation.computed
    expected = reference.config.evaluation.computed
    if found != expected:
        raise ConfigError(
            f"{where}: the metrics {', '.join(found)} are computed; legal: {', '.join(expected)}, "
            f"as in {reference.label}: cells with other scores cannot be compared"
        )


def _check_keys(
    grid: Grid, cell: Cell, reference: Cell, differing: Mapping[str, Any], where: str
) -> None:
    """Check that no key differs but those that are varied."""
    varied = _varied_keys(grid, cell, reference)
    for name, value in differing.items():
        if name not in varied:
            expected = flatten(as_dict(reference.config)).get(name)
            legal = f"{expected}, as in {reference.label}, or an axis that says so"
            raise ConfigError(f"{where}: {name}={value}; legal: {legal}")


def _check_separable(
    grid: Grid, cells: Sequence[Cell], differences: Sequence[Mapping[str, Any]]
) -> None:
    """Check that no two keys change together only: their effects could not be told apart.

    A cell may differ from the reference cell in several keys if another cell differs in each of
    these values alone. Keys that the grid declares to be varied together are one change: a cell
    may differ in them alone, and in further keys if another cell has this change alone.

    Args:
        grid: the checked grid.
        cells: all of its cells.
        differences: of each cell from the reference cell.
    """
    # The changes that some cell has alone: of a key, or of the declared keys together.
    alone = set()
    alone_together = set()
    for differing in differences:
        declared = _only_declared(grid, differing)
        if len(differing) == 1:
            alone.update(_as_items(differing))
        if declared and len(declared) == len(differing):
            alone_together.add(declared)

    reference = next(cell for cell in cells if cell.is_reference)
    for cell, differing in zip(cells, differences, strict=True):
        items = _as_items(differing)
        declared = _only_declared(grid, differing)
        excused = declared if declared in alone_together else frozenset()
        confounded = [key for key, text in items if (key, text) not in alone | excused]
        if len(differing) > 1 and confounded:
            # A key that is not declared is named first: a declaration may be incomplete.
            confounded.sort(key=lambda key: key in grid.varied_together)
            first = confounded[0]
            several = confounded if len(confounded) > 1 else [*differing]
            together = dict.fromkeys([*grid.varied_together, *several])
            raise ConfigError(
                f"{grid.file}: cell {cell.label} differs from {reference.label} in "
                f"{join_words([*differing])} at once, and no cell in "
                f"{first}={as_text(differing[first])} alone: their effects cannot be told apart; "
                f"legal: a cell for each alone, or varied_together: [{', '.join(together)}]"
            )


def _as_items(differing: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, as_text(value)) for key, value in differing.items()]


def _only_declared(grid: Grid, differing: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return the differences in keys that the grid declares to be varied together."""
    items = _as_items(differing)
    return frozenset(item for item in items if item[0] in grid.varied_together)


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
