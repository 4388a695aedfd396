"""The environment of a run: ``environment.json`` in its folder, a list with an entry for each
environment in which it was trained, usually one.

| key | meaning |
| --- | --- |
| ``processor`` | name of its model |
| ``device`` | ``cpu``, or the name of the GPU |
| ``threads`` | of torch, in each process |
| ``processes`` | of the training |
| ``system`` | operating system and architecture |
| ``python`` | its version |
| ``headcount`` | its version; in a repository also the commit, and whether its code was changed |
| ``packages`` | the versions of all packages that headcount requires |

Nothing in it names a user or a machine.
"""

import json
import platform
import re
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

from headcount.escape import one_line
from headcount.runs.files import read_json_or_put_aside, write_atomically
from headcount.runs.folder import RunFile, current_folder

PACKAGE = "headcount"
CPU_INFO = Path("/proc/cpuinfo")  # of Linux
COMMIT_LENGTH = 12  # digits
GIT_SECONDS = 10  # a command of Git may take no longer


def describe_environment(device: torch.device, processes: int) -> dict[str, Any]:
    """Return the present environment, by the keys of above.

    Args:
        device: that trains.
        processes: number of processes that train together.
    """
    is_gpu = device.type == "cuda"
    return {
        "processor": processor_name(),
        "device": torch.cuda.get_device_name(device) if is_gpu else device.type,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        PACKAGE: code_version(),
        "packages": _package_versions(),
    }


def add_environment(folder: Path, environment: dict[str, Any]) -> None:
    """Add an environment to those of a run, unless it is among them.

    Args:
        folder: the run folder.
        environment: as from ``describe_environment``.
    """
    path = current_folder(folder) / RunFile.ENVIRONMENT
    known = read_json_or_put_aside(path, list) or []

    # The last one is that in which the training ended.
    others = [each for each in known if each != environment]
    write_atomically(path, json.dumps([*others, environment], indent=2))


@cache
def processor_name() -> str:
    """Return the name of the processor's model; of its architecture where it has none."""
    name = ""
    with suppress(OSError):
        found = re.search(r"^model name\s*:(.+)$", CPU_INFO.read_text(), re.MULTILINE)
        name = found[1] if found else ""
    if not name and platform.system() == "Darwin":
        name = _output_of(["sysctl", "-n", "machdep.cpu.brand_string"]) or ""
    return one_line(name) or platform.processor() or platform.machine()


@cache
def code_version() -> str:
    """Return the version of this package, with the commit if it is a part of a repository."""
    try:
        text = version(PACKAGE)
    except PackageNotFoundError:
        text = "not installed"

    # A package that is installed may be in another repository, which does not track its files.
    folder = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(folder)]
    if _output_of([*git, "ls-files", "--error-unmatch", "__init__.py"]) is None:
        return text
    commit = _output_of([*git, "rev-parse", f"--short={COMMIT_LENGTH}", "HEAD"])
    if not commit:
        return text
    is_changed = _output_of([*git, "status", "--porcelain", "--", "."]) != ""
    return f"{text} (commit {commit}{', changed' if is_changed else ''})"


def _package_versions() -> dict[str, str]:
    """Return the versions of the packages that this one requires, without extras; of those that
    are installed."""
    requirements: list[str] = []
    with suppress(PackageNotFoundError):  # from a folder of sources that is not installed
        requirements = requires(PACKAGE) or []

    versions = {}
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if "extra ==" not in requirement:
            with suppress(PackageNotFoundError):
                versions[name] = version(name)
    return versions


def _output_of(command: list[str]) -> str | None:
    """Return what a command prints; None if it fails or does not exist."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
