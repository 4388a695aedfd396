"""The content of a page: the documents, and for each run the summaries of its model."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headcount.data.batches import EncodedPairs
from headcount.data.pairs import Pairs
from headcount.escape import printable
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.generation.hypothesis import Hypothesis
from headcount.model.attention_blocks import attention_blocks
from headcount.page.explain import Explanation, explain
from headcount.page.heads_off import generate_without, head_sets, summaries_without
from headcount.page.maps import pack_small
from headcount.runs.folder import RunFile
from headcount.training.decoding import encode_pairs
from headcount.training.module import Summarizer

SHOWN_TYPES = ROUGE_TYPES[:3]  # ROUGE-1, ROUGE-2 and ROUGE-L


@dataclass(frozen=True, kw_only=True)
class PageRun:
    """A run of a page.

    Attributes:
        name: name that the page shows.
        summarizer: its model, in evaluation mode.
        folder: folder with the newest ``heads-N/heads.csv``; None: the page has no importance and
            no roles of heads.
    """

    name: str
    summarizer: Summarizer
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of a page.

    Attributes:
        content: everything but the attention weights; JSON can hold it.
        maps: packed attention weights by the name with which the content refers to them.
    """

    content: dict[str, Any]
    maps: dict[str, str]


def select_rows(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    """Return the pairs of some rows of a split."""
    return Pairs(
        ids=[pairs.ids[row] for row in rows],
        documents=[pairs.documents[row] for row in rows],
        references=[pairs.references[row] for row in rows],
    )


def without_references(ids: Sequence[str], documents: Sequence[str]) -> Pairs:
    """Return documents as pairs whose only reference is empty."""
    empty: list[list[str]] = [[""] for _ in documents]
    return Pairs(ids=list(ids), documents=list(documents), references=empty)


def make_page(
    pairs: Pairs,
    runs: Sequence[PageRun],
    *,
    with_heads_off: bool = True,
    with_text: bool = False,
    after_each: Callable[[], None] = lambda: None,
) -> Page:
    """Generate the summaries of documents, and return the page that shows them.

    Args:
        pairs: the documents, with their references or an empty one.
        runs: one or two runs.
        with_heads_off: also generate the summaries without each head, each layer and each site.
        with_text: include the texts of the documents, which a served page sends to its server.
        after_each: called after each document and each set of heads, to show progress.
    """
    documents = []
    for row in range(len(pairs)):
        document: dict[str, Any] = {
            "id": printable(pairs.ids[row]),
            "references": [printable(text) for text in _references(pairs, row)],
            "words": len(pairs.documents[row].split()),
        }
        if with_text:
            document["text"] = pairs.documents[row]
        documents.append(document)

    # A page has the documents once, and each run's view of them.
    maps: dict[str, str] = {}
    described = []
    for number, run in enumerate(runs):
        description = describe_run(run)
        description["documents"] = _describe_documents(
            pairs, run, number, maps, with_heads_off=with_heads_off, after_each=after_each
        )
        described.append(description)
    return Page(content={"documents": documents, "runs": described}, maps=maps)


def count_steps(runs: Sequence[PageRun], documents: int, *, with_heads_off: bool = True) -> int:
    """Return the number of times that ``make_page`` calls ``after_each``."""
    steps = 0
    for run in runs:
        steps += documents
        if with_heads_off:
            steps += len(head_sets(run.summarizer))
    return steps


def describe_run(run: PageRun) -> dict[str, Any]:
    """Return what a page shows of a run: its name, its model, its heads, and the results of
    ``headcount heads``."""
    summarizer = run.summarizer
    model = summarizer.config.model
    generation = summarizer.config.generation
    blocks = []
    for name, block in attention_blocks(summarizer.model).items():
        blocks.append({"name": name, "heads": block.num_heads})

    return {
        "name": printable(run.name),
        "architecture": model.architecture,
        "parameters": sum(each.numel() for each in summarizer.model.parameters()),
        "copying": model.copying,
        "strategy": generation.strategy,
        "beams": generation.num_beams,
        "length": generation.max_tokens,
        "blocks": blocks,
        "sets": head_sets(summarizer),
        "findings": read_findings(run.folder),
    }


def _describe_documents(
    pairs: Pairs,
    run: PageRun,
    number: int,
    maps: dict[str, str],
    *,
    with_heads_off: bool,
    after_each: Callable[[], None],
) -> list[dict[str, Any]]:
    """Return what a page shows of each document for one run, and add the packed weights to
    ``maps``."""
    if not len(pairs):
        return []

    # The summaries with all heads.
    encoded = encode_pairs(run.summarizer, pairs)
    described = []
    hypotheses = generate_without(run.summarizer, encoded)
    for row, hypothesis in enumerate(hypotheses):
        name = f"maps-{number}-{row}"
        document, maps[name] = describe_document(
            run.summarizer, encoded, row, hypothesis, name=name
        )
        described.append(document)
        after_each()
    if not with_heads_off:
        return described

    # Those without each set of heads, in the order of the sets in ``describe_run``.
    sets = head_sets(run.summarizer)
    without = summaries_without(run.summarizer, encoded, sets, after_each=after_each)
    for row, document in enumerate(described):
        references = _references(pairs, row)
        off = []
        for summaries in without:
            score = scores(run.summarizer, summaries[row], references)
            off.append([printable(summaries[row]), score])
        document["off"] = off
    return described


def describe_document(
    summarizer: Summarizer, encoded: EncodedPairs, row: int, hypothesis: Hypothesis, *, name: str
) -> tuple[dict[str, Any], str]:
    """Return what a page shows of a document and its summary, and the packed weights.

    Args:
        summarizer: the model that generated the summary.
        encoded: the documents.
        row: row of the document.
        hypothesis: its summary.
        name: name of the weights on the page.
    """
    explanation = explain(summarizer, encoded.batch([row]), hypothesis)
    packed, step = pack_small(explanation.maps)
    references = _references(encoded.pairs, row)
    return {
        "tokens": explanation.tokens,
        "isCut": bool(encoded.is_long[row]),
        "summary": printable(explanation.summary),
        "finished": explanation.finished,
        "written": [asdict(token) for token in explanation.written],
        "rouge": scores(summarizer, explanation.summary, references),
        "mapsName": name,
        "step": step,
        "maps": _describe_maps(explanation),
    }, packed


def _describe_maps(explanation: Explanation) -> list[dict[str, Any]]:
    described = []
    for each in explanation.maps:
        heads, rows, columns = each.weights.shape
        described.append(
            {
                "site": each.site,
                "layer": each.layer,
                "block": each.block,
                "heads": heads,
                "rows": rows,
                "columns": columns,
                "span": each.span,
                "perplexity": each.perplexity,
            }
        )
    return described


def scores(summarizer: Summarizer, summary: str, references: Sequence[str]) -> list[float] | None:
    """Return the F1 x 100 of ``SHOWN_TYPES``, rounded; None without a reference."""
    if not references:
        return None
    values = summarizer.rouge.score(summary, references)
    return [round(100 * value, 2) for value in values[: len(SHOWN_TYPES)]]


def _references(pairs: Pairs, row: int) -> list[str]:
    return [text for text in pairs.references[row] if text.strip()]


def read_findings(folder: Path | None) -> dict[str, dict[str, Any]]:
    """Read importance and roles of each head from the newest ``heads-N/heads.csv`` of a run.

    Returns:
        By the name of a head its ``importance`` and ``roles``; empty if there is no such file, or
        it cannot be read: a page without importance and roles is complete, too.
    """
    if folder is None:
        return {}
    tables = list(folder.glob(f"heads-*/{RunFile.HEADS}"))
    if not tables:
        return {}

    findings = {}
    try:
        newest = max(tables, key=lambda path: path.stat().st_mtime)
        with newest.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                name = f"{row['site']}.{int(row['layer'])}.{int(row['head'])}"
                findings[name] = {
                    "importance": float(row["importance"]),
                    "roles": row["roles"].split(),
                }
        # A NaN is a ValueError here; in the page it would be no JSON.
        json.dumps(findings, allow_nan=False)
    # A user can edit the table: columns may be missing (KeyError) or rows short (None for a text).
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return findings
