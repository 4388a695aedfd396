"""What is in a data set, in one table: sizes, lengths, novelty, repeats, and what was dropped.

Words are split at whitespace and lines are the non-blank ones. A novel n-gram is one of a
summary's distinct n-grams, of lower-cased runs of word characters, that is nowhere in the document
(See et al. 2017, section 6.3); the share is averaged over the pairs that have an n-gram. The 95th
percentile is by nearest rank.
"""

import hashlib
import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from headcount.data.batches import EncodedPairs
from headcount.data.cache import cached
from headcount.data.length_plot import draw_lengths
from headcount.terminal import say

FORMAT = 1  # raise it when the figures below change
GRAMS = (1, 2, 3, 4)
NOVELTY_PAIRS = (
    20_000  # of a larger split this many pairs, evenly spread, are searched for novel n-grams
)
WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, 95th percentile and maximum of some lengths."""

    median: float
    p95: int
    max: int

    @classmethod
    def of(cls, lengths: Sequence[int] | NDArray[np.integer]) -> "Spread":
        """Return the spread of at least one length."""
        ordered = np.sort(np.asarray(lengths))
        rank = math.ceil(0.95 * len(ordered))
        return cls(
            median=float(np.median(ordered)), p95=int(ordered[rank - 1]), max=int(ordered[-1])
        )

    def __str__(self) -> str:
        """Return the three numbers as the table shows them."""
        return f"{self.median:g} / {self.p95} / {self.max}"


@dataclass(frozen=True, kw_only=True)
class SplitAudit:
    """The figures of one split.

    Attributes:
        pairs: pairs of a document and at least one summary.
        rows: rows in the source.
        references: for each number of references, as text, the pairs that have it.
        document_words, document_lines, document_tokens: lengths of the documents; tokens before
        any are cut. summary_words, summary_tokens: lengths of the first references; tokens before
        any are cut. cut_documents, cut_summaries: share that is longer than the limit.
        compression: words of a document per word of its summary, the median.
        novel: for each n, as text, the share of novel n-grams.
        repeats: documents that occurred before in the same split, letter for letter and by their
            words alone.
        shared: for each earlier split the documents that are in it as well, likewise.
        dropped_rows: place and reason of every row without a document or a summary.
        mended_rows: places of rows that were not UTF-8.
        nul_rows: places of rows that hold a NUL.
    """

    pairs: int
    rows: int
    references: dict[str, int]
    document_words: Spread
    document_lines: Spread
    document_tokens: Spread
    summary_words: Spread
    summary_tokens: Spread
    cut_documents: float
    cut_summaries: float
    compression: float
    novel: dict[str, float]
    repeats: list[int]
    shared: dict[str, list[int]]
    dropped_rows: dict[str, str]
    mended_rows: list[str]
    nul_rows: list[str]


def audit(splits: dict[str, EncodedPairs], origin: dict[str, Any]) -> dict[str, SplitAudit]:
    """Read all of some splits, a chunk of their pairs in memory at a time.

    Args:
        splits: by role, the training split first.
        origin: from ``load_splits``: for each role what was dropped and mended.
    """
    found: dict[str, SplitAudit] = {}
    hashes: dict[str, tuple[NDArray[np.uint64], NDArray[np.uint64]]] = {}
    for role, split in splits.items():
        found[role], hashes[role] = _audit(split, origin[role], hashes)
    return found


def _audit(
    split: EncodedPairs,
    origin: dict[str, Any],
    earlier: dict[str, tuple[NDArray[np.uint64], NDArray[np.uint64]]],
) -> tuple[SplitAudit, tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
    pairs = split.pairs
    words, lines, summary_words, letters, bare = (array(kind) for kind in "IIIQQ")
    references: Counter[str] = Counter()
    novelty: dict[int, list[float]] = {n: [] for n in GRAMS}
    every = -(-len(pairs) // NOVELTY_PAIRS)
    for row, (document, summaries) in enumerate(
        zip(pairs.documents, pairs.references, strict=True)
    ):
        lowered = WORD.findall(document.lower())
        words.append(len(document.split()))
        lines.append(sum(not line.isspace() for line in document.splitlines() if line))
        summary_words.append(len(summaries[0].split()))
        letters.append(_hash(document))
        bare.append(_hash(" ".join(lowered)))
        references[str(len(summaries))] += 1
        if row % every == 0:
            for n, share in _novel(lowered, WORD.findall(summaries[0].lower())):
                novelty[n].append(share)
    mine = np.array(letters, np.uint64), np.array(bare, np.uint64)
    figures = SplitAudit(
        pairs=len(pairs),
        rows=origin["rows"],
        references=dict(sorted(references.items())),
        document_words=Spread.of(words),
        document_lines=Spread.of(lines),
        document_tokens=Spread.of(split.documents.lengths + 1),
        summary_words=Spread.of(summary_words),
        summary_tokens=Spread.of(split.summaries.lengths + 2),
        cut_documents=split.cut_documents / len(pairs),
        cut_summaries=split.cut_summaries / len(pairs),
        compression=float(np.median(np.array(words) / np.array(summary_words))),
        novel={str(n): float(np.mean(shares)) for n, shares in novelty.items() if shares},
        repeats=[len(kind) - len(np.unique(kind)) for kind in mine],
        shared={
            role: [
                int(np.isin(kind, other).sum()) for kind, other in zip(mine, theirs, strict=True)
            ]
            for role, theirs in earlier.items()
        },
        dropped_rows=origin["dropped_rows"],
        mended_rows=origin["mended_rows"],
        nul_rows=origin["nul_rows"],
    )
    return figures, mine


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _novel(document: list[str], summary: list[str]) -> Iterator[tuple[int, float]]:
    """Yield, for each n of which the summary has an n-gram, the share of those that the document
    lacks."""
    for n in GRAMS:
        if grams := set(zip(*(summary[i:] for i in range(n)), strict=False)):
            yield (
                n,
                len(grams.difference(zip(*(document[i:] for i in range(n)), strict=False)))
                / len(grams),
            )


def show(found: dict[str, SplitAudit], console: Console) -> None:
    """Print the figures, a column a split, and the first of the rows that were dropped."""
    splits = list(found.values())
    table = Table(
        "",
        *found,
        title="What is in the data",
        caption="lengths: median / 95th percentile / maximum",
    )

    def row(name: str, cells: Iterable[Any]) -> None:
        table.add_row(name, *map(str, cells))

    row("pairs", (f"{s.pairs:,}" for s in splits))
    row("references", (_references(s.references) for s in splits))
    for name in (
        "document_words",
        "document_lines",
        "document_tokens",
        "summary_words",
        "summary_tokens",
    ):
        row(name.replace("_", " "), (getattr(s, name) for s in splits))
    row("cut on either side", (f"{s.cut_documents:.1%}, {s.cut_summaries:.1%}" for s in splits))
    row("compression, words", (f"{s.compression:.1f}" for s in splits))
    for n in map(str, GRAMS):
        row(f"novel {n}-grams", (f"{s.novel[n]:.1%}" if n in s.novel else "" for s in splits))
    row("repeats (by words)", (_counts(s.repeats) for s in splits))
    for role in list(found)[:-1]:
        row(
            f"also in {role}",
            (_counts(s.shared[role]) if role in s.shared else "" for s in splits),
        )
    row(
        "dropped, mended, NUL rows",
        (f"{len(s.dropped_rows)}, {len(s.mended_rows)}, {len(s.nul_rows)}" for s in splits),
    )
    console.print(table)
    for role, figures in found.items():
        for place, reason in islice(figures.dropped_rows.items(), 5):
            say(console, f"{role}: dropped {place}: {reason}")


def _references(pairs: dict[str, int]) -> str:
    return (
        next(iter(pairs))
        if len(pairs) == 1
        else ", ".join(f"{number}: {count:,}" for number, count in pairs.items())
    )


def _counts(counts: Sequence[int]) -> str:
    return f"{counts[0]:,} ({counts[1]:,})"


def prepare_audit(
    splits: dict[str, EncodedPairs], origin: dict[str, Any], cache_dir: str, key: Any
) -> tuple[Path, dict[str, SplitAudit], bool]:
    """Return the cached folder of ``audit.json`` and ``lengths.png``, the figures, and whether
    they were made now.

    Args:
        splits: by role, the training split first.
        origin: from ``load_splits``.
        cache_dir: the ``data.cache_dir`` of the config.
        key: what the figures depend on, beside ``origin``.
    """
    made = False

    def build(folder: Path) -> None:
        nonlocal made
        made = True
        figures = {role: asdict(figures) for role, figures in audit(splits, origin).items()}
        (folder / "audit.json").write_text(json.dumps(figures, indent=2))
        draw_lengths(splits, folder / "lengths.png")

    folder = cached(
        cache_dir, "audit", [FORMAT, {role: origin[role] for role in splits}, key], build
    )
    return folder, _read(folder / "audit.json"), made


def _read(path: Path) -> dict[str, SplitAudit]:
    found = {}
    for role, figures in json.loads(path.read_text()).items():
        spreads = {
            name: Spread(**value)
            for name, value in figures.items()
            if isinstance(value, dict) and "p95" in value
        }
        found[role] = SplitAudit(**{**figures, **spreads})
    return found
