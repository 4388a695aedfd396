"""Statistics of a data set: sizes, lengths, novelty, repeats, and which rows were dropped.

Words are separated by whitespace; lines are the non-blank ones. A novel n-gram is one of the
distinct n-grams of a summary, over lower-cased runs of word characters, that the document does not
contain (See et al. 2017, section 6.3). Its share is averaged over the pairs that have an n-gram.
The 95th percentile is by nearest rank.
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
from headcount.terminal import print_on

CACHE_VERSION = 1  # raise it when the statistics below change
GRAM_SIZES = (1, 2, 3, 4)
NOVELTY_PAIRS = 20_000  # searched for novel n-grams: at most this many pairs, evenly spread
SHOWN_ROWS = 5  # dropped rows of a split that are printed
WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, 95th percentile and maximum of some lengths."""

    median: float
    p95: int
    max: int

    @classmethod
    def from_lengths(cls, lengths: Sequence[int] | NDArray[np.integer]) -> "Spread":
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
    """The statistics of one split.

    Attributes:
        pairs: number of pairs of a document and at least one summary.
        rows: number of rows in the source.
        references: number of pairs by number of references (as text).
        document_words, document_lines, document_tokens: lengths of the documents, uncut.
        summary_words, summary_tokens: lengths of the first references, uncut.
        cut_documents, cut_summaries: share that is longer than the limit.
        compression: median of the words of a document per word of its summary.
        novel: share of novel n-grams by n (as text).
        repeats: number of documents that occurred before in the same split: with the same text,
            and with the same words.
        shared: for each earlier split the number of documents that are in it as well, likewise.
        dropped_rows: place and reason of each row without a document or a summary.
        mended_rows: places of rows that were not UTF-8.
        nul_rows: places of rows that contain a NUL.
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


class _TextCounts:
    """What is counted of each pair of a split, in one pass over its texts.

    Args:
        every: novel n-grams are searched in every such pair.

    Attributes:
        document_words, document_lines, summary_words: lengths.
        text_hashes, word_hashes: eight bytes for each document, of its text and of its words.
        references: number of pairs by number of references.
        novelty: for each n the shares of novel n-grams.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.document_words = array("I")
        self.document_lines = array("I")
        self.summary_words = array("I")
        self.text_hashes = array("Q")
        self.word_hashes = array("Q")
        self.references: Counter[str] = Counter()
        self.novelty: dict[int, list[float]] = {n: [] for n in GRAM_SIZES}

    def add(self, row: int, document: str, references: list[str]) -> None:
        """Count a pair."""
        summary = references[0]
        words = WORD.findall(document.lower())
        lines = [line for line in document.splitlines() if line and not line.isspace()]
        self.document_words.append(len(document.split()))
        self.document_lines.append(len(lines))
        self.summary_words.append(len(summary.split()))
        self.text_hashes.append(_hash(document))
        self.word_hashes.append(_hash(" ".join(words)))
        self.references[str(len(references))] += 1
        if row % self.every == 0:
            for n, share in _novel_shares(words, WORD.findall(summary.lower())):
                self.novelty[n].append(share)

    def document_hashes(self) -> list[NDArray[np.uint64]]:
        """Return the hashes of the documents' texts, and of their words."""
        return [np.array(self.text_hashes, np.uint64), np.array(self.word_hashes, np.uint64)]


def audit(splits: dict[str, EncodedPairs], origin: dict[str, Any]) -> dict[str, SplitAudit]:
    """Read all of some splits, one chunk of their pairs in memory at a time.

    Args:
        splits: by role, the training split first.
        origin: from ``load_splits``: for each role which rows were dropped and repaired.
    """
    found: dict[str, SplitAudit] = {}
    hashes_of: dict[str, list[NDArray[np.uint64]]] = {}
    for role, split in splits.items():
        counts = _count(split)
        hashes = counts.document_hashes()
        shared = {}
        for earlier, others in hashes_of.items():
            kinds = zip(hashes, others, strict=True)
            shared[earlier] = [int(np.isin(mine, other).sum()) for mine, other in kinds]
        found[role] = _statistics(split, counts, shared, origin[role])
        hashes_of[role] = hashes
    return found


def _count(split: EncodedPairs) -> _TextCounts:
    pairs = split.pairs
    counts = _TextCounts(every=-(-len(pairs) // NOVELTY_PAIRS))
    examples = zip(pairs.documents, pairs.references, strict=True)
    for row, (document, references) in enumerate(examples):
        counts.add(row, document, references)
    return counts


def _statistics(
    split: EncodedPairs, counts: _TextCounts, shared: dict[str, list[int]], origin: dict[str, Any]
) -> SplitAudit:
    pairs = len(split.pairs)
    compression = np.array(counts.document_words) / np.array(counts.summary_words)
    novel = {}
    for n, shares in counts.novelty.items():
        if shares:
            novel[str(n)] = float(np.mean(shares))

    return SplitAudit(
        pairs=pairs,
        rows=origin["rows"],
        references=dict(sorted(counts.references.items())),
        document_words=Spread.from_lengths(counts.document_words),
        document_lines=Spread.from_lengths(counts.document_lines),
        document_tokens=Spread.from_lengths(split.documents.lengths + 1),
        summary_words=Spread.from_lengths(counts.summary_words),
        summary_tokens=Spread.from_lengths(split.summaries.lengths + 2),
        cut_documents=split.cut_documents / pairs,
        cut_summaries=split.cut_summaries / pairs,
        compression=float(np.median(compression)),
        novel=novel,
        repeats=[len(hashes) - len(np.unique(hashes)) for hashes in counts.document_hashes()],
        shared=shared,
        dropped_rows=origin["dropped_rows"],
        mended_rows=origin["mended_rows"],
        nul_rows=origin["nul_rows"],
    )


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _novel_shares(document: list[str], summary: list[str]) -> Iterator[tuple[int, float]]:
    """Yield n and the share of the summary's n-grams that the document does not contain.

    An n of which the summary has no n-gram is left out.
    """
    for n in GRAM_SIZES:
        of_summary = set(_ngrams(summary, n))
        if of_summary:
            novel = of_summary.difference(_ngrams(document, n))
            yield n, len(novel) / len(of_summary)


def _ngrams(words: list[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[begin:] for begin in range(n)), strict=False)


# The table


def show(found: dict[str, SplitAudit], console: Console) -> None:
    """Print the statistics, one column per split, and the first of the dropped rows."""
    splits = list(found.values())
    table = Table(
        "",
        *found,
        title="What is in the data",
        caption="lengths: median / 95th percentile / maximum",
    )

    def add_row(name: str, values: Iterable[Any]) -> None:
        table.add_row(name, *map(str, values))

    # Sizes and lengths.
    add_row("pairs", (f"{split.pairs:,}" for split in splits))
    add_row("references", (_format_references(split.references) for split in splits))
    for name in (
        "document_words",
        "document_lines",
        "document_tokens",
        "summary_words",
        "summary_tokens",
    ):
        add_row(name.replace("_", " "), (getattr(split, name) for split in splits))
    cut = (f"{split.cut_documents:.1%}, {split.cut_summaries:.1%}" for split in splits)
    add_row("cut on either side", cut)
    add_row("compression, words", (f"{split.compression:.1f}" for split in splits))

    # Novelty and repeats.
    for n in map(str, GRAM_SIZES):
        shares = (f"{split.novel[n]:.1%}" if n in split.novel else "" for split in splits)
        add_row(f"novel {n}-grams", shares)
    add_row("repeats (by words)", (_format_counts(split.repeats) for split in splits))
    for role in list(found)[:-1]:
        counts = (
            _format_counts(split.shared[role]) if role in split.shared else "" for split in splits
        )
        add_row(f"also in {role}", counts)

    # Rows that are no pairs, or had to be repaired.
    rows = (
        f"{len(split.dropped_rows)}, {len(split.mended_rows)}, {len(split.nul_rows)}"
        for split in splits
    )
    add_row("dropped, mended, NUL rows", rows)
    console.print(table)
    for role, split in found.items():
        for place, reason in islice(split.dropped_rows.items(), SHOWN_ROWS):
            print_on(console, f"{role}: dropped {place}: {reason}")


def _format_references(pairs: dict[str, int]) -> str:
    """Return the number of references if all pairs have the same, else how many have which."""
    if len(pairs) == 1:
        return next(iter(pairs))
    return ", ".join(f"{number}: {count:,}" for number, count in pairs.items())


def _format_counts(counts: Sequence[int]) -> str:
    by_text, by_words = counts
    return f"{by_text:,} ({by_words:,})"


# The cache


def prepare_audit(
    splits: dict[str, EncodedPairs], origin: dict[str, Any], cache_dir: str, key: Any
) -> tuple[Path, dict[str, SplitAudit], bool]:
    """Return the cached folder of ``audit.json`` and ``lengths.png``.

    Args:
        splits: by role, the training split first.
        origin: from ``load_splits``.
        cache_dir: the ``data.cache_dir`` of the config.
        key: what the statistics depend on, in addition to ``origin``.

    Returns:
        The folder, the statistics of each split, and whether they are new.
    """
    is_new = False

    def build(folder: Path) -> None:
        nonlocal is_new
        is_new = True
        statistics = {role: asdict(split) for role, split in audit(splits, origin).items()}
        (folder / "audit.json").write_text(json.dumps(statistics, indent=2))
        draw_lengths(splits, folder / "lengths.png")

    origin_of_splits = {role: origin[role] for role in splits}
    folder = cached(cache_dir, "audit", [CACHE_VERSION, origin_of_splits, key], build)
    return folder, _read(folder / "audit.json"), is_new


def _read(path: Path) -> dict[str, SplitAudit]:
    found = {}
    for role, values in json.loads(path.read_text()).items():
        for name, value in values.items():
            if isinstance(value, dict) and "p95" in value:
                values[name] = Spread(**value)
        found[role] = SplitAudit(**values)
    return found
