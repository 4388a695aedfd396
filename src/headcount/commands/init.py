"""The command ``init``: a new project that imports the package."""

import os
import shlex
from pathlib import Path

from headcount.config.shipped import SHIPPED
from headcount.escape import markdown
from headcount.runs.files import write_folder
from headcount.terminal import print_line

TEMPLATE = SHIPPED / "project"
NAME = "{{name}}"  # placeholder of the project's name in the README
RENAMED = {"gitignore": ".gitignore"}  # hidden files are not packaged


def init(folder: Path) -> None:
    """Write the project, completely or not at all.

    Args:
        folder: a new or empty folder.

    Raises:
        ConfigError: the folder is neither new nor empty, or cannot be written.
    """
    files = {}
    for parent, _, names in os.walk(TEMPLATE):
        for name in names:
            source = Path(parent, name)
            target = source.relative_to(TEMPLATE).with_name(RENAMED.get(name, name))
            if "__pycache__" not in target.parts:
                files[str(target)] = source.read_bytes()

    title = markdown(folder.resolve().name)
    files["README.md"] = files["README.md"].replace(NAME.encode(), title.encode())
    write_folder(folder, files)
    print_line(f"{folder}: {', '.join(sorted(files))}")
    print_line(f"next: cd {shlex.quote(str(folder))} && make test && make train")
