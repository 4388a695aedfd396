"""The command ``init``: a project of one's own, which imports the package."""

import os
from pathlib import Path

from headcount.config.shipped import SHIPPED
from headcount.escape import markdown
from headcount.runs.files import write_folder
from headcount.terminal import print_line

TEMPLATE = SHIPPED / "project"
NAME = "{{name}}"  # stands for the project's name in the README
RENAMED = {"gitignore": ".gitignore"}  # hidden files are not packaged


def init(folder: Path) -> None:
    """Write the project, completely or not at all.

    Args:
        folder: new or empty.

    Raises:
        ConfigError: it is neither, or cannot be written.
    """
    files = {}
    for place, _, names in os.walk(TEMPLATE):
        for name in names:
            path = Path(place, name).relative_to(TEMPLATE)
            if "__pycache__" not in path.parts:
                files[str(path.with_name(RENAMED.get(name, name)))] = Path(
                    place, name
                ).read_bytes()

    title = markdown(folder.resolve().name)
    files["README.md"] = files["README.md"].replace(NAME.encode(), title.encode())
    write_folder(folder, files)
    print_line(f"{folder}: {', '.join(sorted(files))}")
    print_line(f"next: cd {folder} && make test && make train")
