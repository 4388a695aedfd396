"""What the tests of faults count, and the table that they write of it.

``make faults`` runs them all and writes the table into docs/faults.md. ``FAULTS_AT_MOST=2`` tries
no more than two of the cases of each.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import write_data
from tests.faults.forks import Forks

BEGIN, END = "<!-- table: written by make faults -->\n", "<!-- end of table -->\n"
FAULTS = pytest.StashKey[dict[tuple[str, str], int]]()


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return what counts a fault that ended as it should: ``fault(name, what_happens, tries=1)``,
    after each try.

    Rows stand in the table in the order of their first try.
    """
    counted = request.config.stash.setdefault(FAULTS, {})

    def count(name: str, what_happens: str, tries: int = 1) -> None:
        row = name, what_happens
        counted[row] = counted.get(row, 0) + tries

    return count


@pytest.fixture
def some() -> Callable[[Sequence[object]], list[object]]:
    """Return what picks from cases: all, or FAULTS_AT_MOST of them, evenly spread."""
    most = int(os.environ.get("FAULTS_AT_MOST", 10**9))

    def pick(cases: Sequence[object]) -> list[object]:
        number = min(most, len(cases))
        return [cases[index * len(cases) // number] for index in range(number)]

    return pick


@pytest.fixture(scope="session")
def forks() -> Forks:
    """Return what starts processes cheaply."""
    return Forks()


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    """Lay out the data that the runs of ``forks`` are trained on."""
    write_data(tmp_path / "data")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Write the table, if all that was asked for went well."""
    yield
    file = os.environ.get("FAULT_TABLE")
    if file and exitstatus == 0:
        counted = session.config.stash.get(FAULTS, {})
        rows = [
            f"| {name} | {happens} | {tries:,} |\n" for (name, happens), tries in counted.items()
        ]
        table = "| fault | what happens | times tried |\n|---|---|---:|\n" + "".join(rows)
        text = Path(file).read_text(encoding="utf-8")
        head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
        Path(file).write_text(f"{head}{BEGIN}{table}{tail}", encoding="utf-8")
