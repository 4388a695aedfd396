"""Seeds that were added to a study after its launch, by hand or by the sequential rule.

``grid.yaml`` keeps the seeds of the design. What was added is stored beside the study's runs, in
``added_seeds-FINGERPRINT.json``; the fingerprint is that of the study, so another study begins
without additions. Several launches may add to it: each holds its lock from reading to writing.

A grid that was edited after a look and still has trainings that were looked at is rejected: it
would spend a second error rate on the same scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from headcount.errors import ConfigError
from headcount.experiments.cell import Cell
from headcount.experiments.cells import fingerprint_study, make_cells
from headcount.experiments.grid import Grid
from headcount.experiments.verdicts import Verdict
from headcount.runs.files import damage_as_config_error, unwritable_as_run_error, write_atomically
from headcount.wording import count_nouns


@dataclass(frozen=True, kw_only=True)
class Look:
    """A look of the sequential rule.

    Attributes:
        seeds: number of seeds of the settings that were undecided until then.
        verdicts: of the settings and metrics that were tested, by label and metric.
        reference_cell: label of the setting that the others were compared with.
        margin: the smallest difference that matters, by metric.
        trainings: names of the run folders whose scores were seen; empty in looks of earlier
            versions, which did not record them.
    """

    seeds: int
    verdicts: dict[str, dict[str, Verdict]]
    reference_cell: str
    margin: dict[str, float]
    trainings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What all launches of the sequential rule have taken together.

    Attributes:
        hours: by the clock.
        worker_hours: the hours of each launch times its trainings at a time.
        trainings: number of trainings that were finished meanwhile.
    """

    hours: float = 0.0
    worker_hours: float = 0.0
    trainings: int = 0


@dataclass(frozen=True, kw_only=True)
class AddedSeeds:
    """What was added to a study.

    Attributes:
        by_hand: seeds that were added to all settings.
        by_rule: seeds that the sequential rule added, by label of the setting.
        looks: of the sequential rule, in order; empty without it.
        usage: hours of the sequential rule.
    """

    by_hand: list[int] = field(default_factory=list)
    by_rule: dict[str, list[int]] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    def of_setting(self, label: str) -> list[int]:
        """Return the seeds that were added to a setting."""
        return [*self.by_hand, *self.by_rule.get(label, [])]

    def seeds(self) -> list[int]:
        """Return the seeds that were added to any setting, each once."""
        seeds = list(self.by_hand)
        for of_setting in self.by_rule.values():
            seeds += of_setting
        return list(dict.fromkeys(seeds))

    def verdicts(self) -> dict[str, dict[str, Verdict]]:
        """Return the last verdict of the sequential rule by label and metric."""
        verdicts: dict[str, dict[str, Verdict]] = {}
        for look in self.looks:
            for label, by_metric in look.verdicts.items():
                verdicts.setdefault(label, {}).update(by_metric)
        return verdicts

    def undecided(self, metrics: Iterable[str]) -> set[str]:
        """Return the labels of the settings that are undecided in one of some metrics."""
        undecided = set()
        for label, by_metric in self.verdicts().items():
            if any(by_metric.get(metric) == "undecided" for metric in metrics):
                undecided.add(label)
        return undecided


def _file(cells: Sequence[Cell]) -> Path:
    return cells[0].folder.parent / _file_name(fingerprint_study(cells))


def _file_name(fingerprint: str) -> str:
    return f"added_seeds-{fingerprint}.json"


def read_added_seeds(grid: Grid, cells: Sequence[Cell]) -> AddedSeeds:
    """Return what was added to a study.

    Args:
        grid: the checked grid.
        cells: of the grid, without additions.

    Raises:
        ConfigError: the file is damaged; or the grid now has another reference cell or margin than
            the looks of the sequential rule, whose verdicts are about these; or looks at some of
            these trainings were taken with another grid.
    """
    path = _file(cells)
    _check_other_looks(grid, cells, path)
    if not path.exists():
        return AddedSeeds()
    added = _read(path)

    reference_cell = grid.label(grid.reference_cell)
    for look in added.looks:
        if look.reference_cell != reference_cell:
            raise _changed_after_a_look(
                grid, path, "reference_cell", reference_cell, look.reference_cell
            )
        if look.margin != grid.margin:
            raise _changed_after_a_look(grid, path, "margin", grid.margin, look.margin)
    return added


def _check_other_looks(grid: Grid, cells: Sequence[Cell], own: Path) -> None:
    """Check that no study with another grid has looked at trainings of this one."""
    names = {cell.folder.name for cell in cells}
    for path in sorted(own.parent.glob(_file_name("*"))):
        if path == own:
            continue
        for number, look in enumerate(_read(path).looks, start=1):
            seen = names.intersection(look.trainings)
            if seen:
                raise ConfigError(
                    f"{grid.file}: look {number} of --until-decided, in {path}, has seen "
                    f"{count_nouns(len(seen), 'training')} of this study, as {min(seen)}, with "
                    "another grid: further looks would spend a second error rate on them; legal: "
                    "grid.yaml and its configs as they were, or cells that were not looked at, as "
                    "by other seeds"
                )


def _read(path: Path) -> AddedSeeds:
    """Return the content of a record.

    Raises:
        ConfigError: it is damaged.
    """
    with damage_as_config_error(path, "ablate"):
        content = json.loads(path.read_text(encoding="utf-8"))

        # The looks of the sequential rule.
        looks = []
        for look in content["looks"]:
            looks.append(
                Look(
                    seeds=int(look["seeds"]),
                    verdicts={label: dict(each) for label, each in look["verdicts"].items()},
                    reference_cell=str(look["reference_cell"]),
                    margin=dict(look["margin"]),
                    trainings=_read_trainings(look),
                )
            )

        # The seeds that it added, by setting.
        by_rule = {}
        for label, seeds in content["by_rule"].items():
            by_rule[str(label)] = [int(seed) for seed in seeds]
        return AddedSeeds(
            by_hand=[int(seed) for seed in content["by_hand"]],
            by_rule=by_rule,
            looks=looks,
            usage=_read_usage(content),
        )


def _read_trainings(look: dict[str, Any]) -> list[str]:
    # Earlier versions did not record them.
    if "trainings" not in look:
        return []
    return [str(name) for name in look["trainings"]]


def _read_usage(content: dict[str, Any]) -> Usage:
    # Earlier versions did not record it.
    if "usage" not in content:
        return Usage()
    usage = content["usage"]
    return Usage(
        hours=float(usage["hours"]),
        worker_hours=float(usage["worker_hours"]),
        trainings=int(usage["trainings"]),
    )


def _changed_after_a_look(
    grid: Grid, path: Path, key: str, found: object, expected: object
) -> ConfigError:
    return ConfigError(
        f"{grid.file}: {key}={found}: the looks of --until-decided were taken with {expected}; "
        f"legal: that again, or a new study without {path}"
    )


@contextmanager
def lock_added_seeds(cells: Sequence[Cell]) -> Iterator[None]:
    """Lock the record of a study within a ``with`` block. Other launches wait.

    Args:
        cells: of the grid, without additions.

    Raises:
        RunError: the folder of the runs cannot be written.
    """
    path = _file(cells)
    lock = FileLock(f"{path}.lock")
    with unwritable_as_run_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_added_seeds(cells: Sequence[Cell], added: AddedSeeds) -> None:
    """Record what was added to a study.

    Args:
        cells: of the grid, without additions.
        added: everything that was added so far, as read under the same lock.
    """
    path = _file(cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(asdict(added), indent=2, ensure_ascii=False) + "\n")


def add_by_hand(grid: Grid, added: AddedSeeds, text: str) -> AddedSeeds:
    """Return what was added to a study with more seeds for all settings.

    Args:
        grid: the checked grid.
        added: what was added so far.
        text: whole numbers, separated by commas. Seeds that the study has are left out.

    Raises:
        ConfigError: it is no list of whole numbers, or the sequential rule has begun.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds={text}: not whole numbers; legal: as in --seeds 3,4") from None
    if added.looks:
        raise ConfigError(
            f"--seeds={text}: the seeds of {grid.folder} are added by --until-decided, whose "
            "error rate would not hold; legal: --until-decided"
        )
    new = [seed for seed in dict.fromkeys(seeds) if seed not in [*grid.seeds, *added.by_hand]]
    return replace(added, by_hand=[*added.by_hand, *new])


def record_by_hand(grid: Grid, cells: Sequence[Cell], text: str) -> None:
    """Record seeds that are added to all settings, beside those that another launch has added
    meanwhile.

    Args:
        grid: the checked grid.
        cells: of the grid, without additions.
        text: as in ``add_by_hand``.
    """
    with lock_added_seeds(cells):
        added = read_added_seeds(grid, cells)
        write_added_seeds(cells, add_by_hand(grid, added, text))


def extend_cells(
    grid: Grid, cells: Sequence[Cell], added: AddedSeeds, *, smoke: bool = False
) -> list[Cell]:
    """Return the cells of a study with those of the added seeds, the seeds of a setting together.

    Args:
        grid: the checked grid.
        cells: of the grid, without additions.
        added: what was added.
        smoke: whether these are cells of ``--smoke``.
    """
    seeds = added.seeds()
    if not seeds:
        return list(cells)

    # Every setting is resolved with one seed at a time: --smoke takes only the first one.
    more = []
    for seed in seeds:
        for cell in make_cells(replace(grid, seeds=[seed]), smoke=smoke):
            if seed in added.of_setting(cell.label):
                more.append(cell)

    extended = []
    for group in dict.fromkeys(cell.seed_group for cell in cells):
        for cell in [*cells, *more]:
            if cell.seed_group == group:
                extended.append(cell)
    return extended
