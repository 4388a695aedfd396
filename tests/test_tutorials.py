"""The notebooks of tutorials/ run from top to bottom, and their outputs are committed.

With ``WRITE_TUTORIALS`` set, the slow test writes the notebooks with the outputs of this run.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_data

TUTORIALS = Path(__file__).parent.parent / "tutorials"
NOTEBOOKS = ["attention", "sequence_to_sequence"]
SECONDS = 300  # that a notebook may take on two cores


def execute(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: str) -> Any:
    """Execute a notebook, with these lines after its cell of parameters."""
    nbformat = pytest.importorskip("nbformat", reason="needs the extra tutorials")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra tutorials")
    pytest.importorskip("ipykernel", reason="needs the extra tutorials")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    notebook = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)
    if parameters:
        [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        cell.source += f"\n{parameters}"

    # Nothing that depends on timing gets into the file: no timestamps, one output for each stream.
    client = nbclient.NotebookClient(
        notebook,
        timeout=2 * SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(TUTORIALS)}},
    )
    return client.execute()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_short_version_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, with hardly any training and on made-up data."""
    data = write_data(tmp_path / "data")
    parameters = {
        "attention": "STEPS = TOY_STEPS = 2",
        "sequence_to_sequence": f"DATA = {str(data)!r}\n"
        "STEPS = STUDY_STEPS = TRANSLATION_STEPS = 2\nSEEDS = (0, 1)\nDOCUMENTS = 6",
    }
    done = execute(name, tmp_path, monkeypatch, parameters[name])
    assert all(c.execution_count for c in done.cells if c.cell_type == "code")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_installs_the_package_where_it_is_told_from_where(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first cell, which a notebook on Colab needs; otherwise it does nothing."""
    cells = json.loads((TUTORIALS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    source = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    exec(source, {})
    assert commands == []

    exec(source.replace('REPOSITORY = ""', 'REPOSITORY = "file:///copy"'), {})
    pip = [sys.executable, "-m", "pip", "install"]
    assert commands == [[*pip, "--quiet", "git+file:///copy"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_as_committed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    began = time.monotonic()
    done = execute(name, tmp_path, monkeypatch, "")
    assert time.monotonic() - began < SECONDS
    if os.environ.get("WRITE_TUTORIALS"):
        pytest.importorskip("nbformat").write(done, TUTORIALS / f"{name}.ipynb")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_outputs_are_committed(name: str) -> None:
    path = TUTORIALS / f"{name}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [cell for cell in code if "execution" in cell["metadata"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 300_000

    # Each section but the last ends with an exercise and its answer.
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    sections = [line for line in text.splitlines() if line.startswith("## ")][:-1]
    assert text.count("**Exercise") == text.count("Answer:") == len(sections)
