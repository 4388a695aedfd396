"""The embedded data set: summaries that every Python installation already holds.

PEP 257: a docstring is "a summary line just like a one-line docstring, followed by a blank line,
followed by a more elaborate description". Document = the description, summary = the summary line.
They are read with ``ast``, nothing is imported or run, from the standard library and from packages
that ``requirements.txt`` installs.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from headcount.data.cache import cached
from headcount.watchdog import worker_pool

# Raise it when the pairs that the code below makes change, so that no stale cache is used.
FORMAT = 1
PACKAGES = (
    "torch", "sympy", "numpy", "matplotlib", "networkx", "pandas", "nltk", "datasets", "wandb",
    "huggingface_hub", "pytorch_lightning", "torchmetrics", "pyarrow", "fsspec", "aiohttp", "PIL",
    "pydantic", "rich", "joblib", "httpx", "omegaconf", "mpmath", "fontTools", "click", "urllib3",
    "requests", "jinja2", "anyio", "google.protobuf", "dill",
)  # fmt: skip
DISTRIBUTIONS = {
    "PIL": "pillow",
    "google.protobuf": "protobuf",
}  # where the name differs from the package's
SKIPPED = {  # folders
    "site-packages", "dist-packages", "__pycache__", "test", "tests", "testing", "_vendor",
    "idlelib", "lib2to3",
}  # fmt: skip
SPLITS = {
    "train": 90,
    "validation": 95,
    "test": 100,
}  # upper ends, in hundredths of the source files


def build(cache_dir: str) -> tuple[Path, dict[str, Any]]:
    """Build the data set, or find it in the cache.

    Args:
        cache_dir: the ``data.cache_dir`` of the config.

    Returns:
        The folder of ``train``, ``validation`` and ``test.parquet`` (columns id, document,
        summary), and its make-up: packages with versions, pairs per split, sha256 of the text.
    """
    packages = {name: spec for name in PACKAGES if (spec := _spec(name))}
    versions = {
        name: importlib.metadata.version(DISTRIBUTIONS.get(name, name)) for name in packages
    }
    versions["python"] = platform.python_version()

    def fill(folder: Path) -> None:
        roots = {
            name: Path(next(iter(spec.submodule_search_locations)))
            for name, spec in packages.items()
        }
        roots["python"] = Path(sysconfig.get_paths()["stdlib"])
        splits = extract(roots)
        text = json.dumps(splits, ensure_ascii=False, sort_keys=True)
        info = {
            "packages": versions,
            "pairs": {split: len(rows) for split, rows in splits.items()},
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        for split, rows in splits.items():
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
        (folder / "info.json").write_text(json.dumps(info, indent=2))

    folder = cached(cache_dir, "docstrings", [FORMAT, versions], fill)
    return folder, json.loads((folder / "info.json").read_text())


def extract(roots: dict[str, Path]) -> dict[str, list[dict[str, str]]]:
    """Read every docstring below the roots and split the pairs by source file.

    Args:
        roots: for each package its folder.

    Returns:
        For each split its rows: ``id`` (file, line and name), ``document`` and ``summary``. No
        document occurs twice.
    """
    files = sorted(
        (f"{name}/{path.relative_to(root).as_posix()}", path)
        for name, root in roots.items()
        for path in _sources(root)
    )
    splits: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    workers = min(os.cpu_count() or 1, 8)
    with worker_pool(workers) as pool:
        found = pool.map(pairs, [path for _, path in files], chunksize=64)
        for (name, _), rows in zip(
            files, track(found, "Reading docstrings", len(files)), strict=True
        ):
            place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100
            split = next(split for split, end in SPLITS.items() if place < end)
            for where, document, summary in rows:
                if document not in seen:
                    seen.add(document)
                    splits[split].append(
                        {"id": f"{name}:{where}", "document": document, "summary": summary}
                    )
    return splits


def pairs(path: Path) -> list[tuple[str, str, str]]:
    """Read the pairs of one source file.

    Returns:
        For each docstring that has 3-30 words in its summary line, 20 or more in its description,
        and whose description does not contain the summary: place, document, summary. Nothing for a
        file that is not Python 3.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return []
    rows = []
    for node in _definitions(tree):
        docstring = (ast.get_docstring(node) or "").encode("utf-8", "replace").decode()
        summary, _, rest = docstring.partition("\n")
        blank, _, document = rest.partition("\n")
        summary, document = summary.strip(), document.strip()
        if blank.strip() or not 3 <= len(summary.split()) <= 30 or len(document.split()) < 20:
            continue
        if " ".join(summary.lower().split()).rstrip(".") in " ".join(document.lower().split()):
            continue
        where = f"{node.lineno}:{node.name}" if not isinstance(node, ast.Module) else "1"
        rows.append((where, document, summary))
    return rows


def _definitions(
    node: ast.AST,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield what can hold a docstring.

    Statements alone are visited, which is far less than every node.
    """
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for block in ("body", "orelse", "handlers", "finalbody"):
        inner = getattr(node, block, None)
        for child in inner if isinstance(inner, list) else ():
            yield from _definitions(child)


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the parent of a dotted name
        return None


def _sources(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - SKIPPED)
        yield from (Path(folder) / name for name in names if name.endswith(".py"))
