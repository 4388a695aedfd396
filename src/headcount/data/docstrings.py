"""The embedded data set: docstrings, which every Python installation has.

PEP 257: a docstring is "a summary line just like a one-line docstring, followed by a blank line,
followed by a more elaborate description". The description is the document, the summary line is the
summary. The docstrings are those of the standard library and of packages that
``requirements.txt`` installs. They are read with ``ast``: nothing is imported or run.
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
CACHE_VERSION = 1

PACKAGES = (
    "torch", "sympy", "numpy", "matplotlib", "networkx", "pandas", "nltk", "datasets", "wandb",
    "huggingface_hub", "pytorch_lightning", "torchmetrics", "pyarrow", "fsspec", "aiohttp", "PIL",
    "pydantic", "rich", "joblib", "httpx", "omegaconf", "mpmath", "fontTools", "click", "urllib3",
    "requests", "jinja2", "anyio", "google.protobuf", "dill",
)  # fmt: skip

# Names of distributions that differ from those of their packages.
DISTRIBUTIONS = {"PIL": "pillow", "google.protobuf": "protobuf"}

SKIPPED_FOLDERS = {
    "site-packages", "dist-packages", "__pycache__", "test", "tests", "testing", "_vendor",
    "idlelib", "lib2to3",
}  # fmt: skip

# Where each split ends, in percent of the source files.
SPLIT_ENDS = {"train": 90, "validation": 95, "test": 100}

MIN_DOCUMENT_WORDS = 20
MIN_SUMMARY_WORDS = 3
MAX_SUMMARY_WORDS = 30
MAX_WORKERS = 8
FILES_PER_TASK = 64

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def build(cache_dir: str) -> tuple[Path, dict[str, Any]]:
    """Build the data set, unless it is in the cache.

    Args:
        cache_dir: the ``data.cache_dir`` of the config.

    Returns:
        The folder of ``train``, ``validation`` and ``test.parquet`` (columns id, document,
        summary), and where it comes from: versions of the packages, number of pairs in each split,
        SHA-256 of the text.
    """
    # The versions of the packages that are installed are the key in the cache.
    packages = {}
    versions = {}
    for name in PACKAGES:
        spec = _find_spec(name)
        if spec:
            packages[name] = spec
            versions[name] = importlib.metadata.version(DISTRIBUTIONS.get(name, name))
    versions["python"] = platform.python_version()

    def fill(folder: Path) -> None:
        roots = {}
        for name, spec in packages.items():
            roots[name] = Path(next(iter(spec.submodule_search_locations)))
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

    folder = cached(cache_dir, "docstrings", [CACHE_VERSION, versions], fill)
    return folder, json.loads((folder / "info.json").read_text())


def extract(roots: dict[str, Path]) -> dict[str, list[dict[str, str]]]:
    """Read every docstring below the roots and split the pairs by source file.

    Args:
        roots: for each package its folder.

    Returns:
        For each split its rows: ``id`` (file, line and name), ``document`` and ``summary``. No
        document occurs twice.
    """
    # In an order that does not depend on the file system.
    files = []
    for name, root in roots.items():
        for path in _find_sources(root):
            files.append((f"{name}/{path.relative_to(root).as_posix()}", path))
    files.sort()

    # Of equal documents the first one is kept.
    splits: dict[str, list[dict[str, str]]] = {split: [] for split in SPLIT_ENDS}
    seen: set[str] = set()
    with worker_pool(min(os.cpu_count() or 1, MAX_WORKERS)) as pool:
        found = pool.map(pairs, [path for _, path in files], chunksize=FILES_PER_TASK)
        shown = track(found, "Reading docstrings", len(files))
        for (file, _), of_file in zip(files, shown, strict=True):
            rows = splits[_split_of(file)]
            for place, document, summary in of_file:
                if document not in seen:
                    seen.add(document)
                    rows.append(
                        {"id": f"{file}:{place}", "document": document, "summary": summary}
                    )
    return splits


def _split_of(file: str) -> str:
    """Return the split of a source file, which a hash of its name decides."""
    percent = int.from_bytes(hashlib.sha256(file.encode()).digest()[:4], "big") % 100
    return next(split for split, end in SPLIT_ENDS.items() if percent < end)


def pairs(path: Path) -> list[tuple[str, str, str]]:
    """Read the pairs of one source file.

    A docstring is a pair if its summary line has 3 to 30 words, its description has 20 or more,
    and the description does not contain the summary.

    Returns:
        Place (line and name), document and summary of each; nothing for a file that is not
        Python 3.
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
        pair = _split_docstring(docstring)
        if pair:
            place = "1" if isinstance(node, ast.Module) else f"{node.lineno}:{node.name}"
            rows.append((place, *pair))
    return rows


def _split_docstring(docstring: str) -> tuple[str, str] | None:
    """Return document and summary of a docstring, None if it is no pair."""
    summary, _, rest = docstring.partition("\n")
    line_between, _, document = rest.partition("\n")
    summary = summary.strip()
    document = document.strip()
    has_length = (
        MIN_SUMMARY_WORDS <= len(summary.split()) <= MAX_SUMMARY_WORDS
        and len(document.split()) >= MIN_DOCUMENT_WORDS
    )
    if line_between.strip() or not has_length:
        return None

    summary_words = " ".join(summary.lower().split()).rstrip(".")
    if summary_words in " ".join(document.lower().split()):
        return None
    return document, summary


def _definitions(node: ast.AST) -> Iterator[Definition]:
    """Yield the nodes that can have a docstring.

    Only statements are visited, which are far fewer than all nodes.
    """
    if isinstance(node, Definition):
        yield node
    for block in ("body", "orelse", "handlers", "finalbody"):
        inner = getattr(node, block, None)
        for child in inner if isinstance(inner, list) else ():
            yield from _definitions(child)


def _find_spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the parent of a dotted name
        return None


def _find_sources(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        # os.walk descends into what this list holds.
        subfolders[:] = sorted(set(subfolders) - SKIPPED_FOLDERS)
        for name in names:
            if name.endswith(".py"):
                yield Path(folder) / name
