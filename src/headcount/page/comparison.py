"""The content of a comparison's page: where two runs differ, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from headcount.escape import map_texts, printable
from headcount.evaluation.comparison import Bucket, NgramUse, Outputs
from headcount.evaluation.comparison_report import BucketTable, ComparisonReport, Contrast


def describe_comparison(report: ComparisonReport) -> dict[str, Any]:
    """Return what the page of a comparison shows, as JSON."""
    content = {
        "first": report.contrasts[0].first.name,
        "metric": report.metric,
        "signature": report.signature,
        "examples": len(report.ids),
        "contrasts": [_describe_contrast(contrast, report) for contrast in report.contrasts],
    }
    shown: dict[str, Any] = map_texts(printable, content)
    return shown


def _describe_contrast(contrast: Contrast, report: ComparisonReport) -> dict[str, Any]:
    improvement = contrast.improvement
    agreement = contrast.agreement

    # The tests of the whole test set.
    differences = []
    for title, test in contrast.differences.items():
        differences.append(
            {
                "title": title,
                "mean": round(test.mean, 4),
                "low": round(test.low, 4),
                "high": round(test.high, 4),
                "p": f"{test.corrected_p:.4f}",
            }
        )

    # For each of the two runs the n-grams that it writes more often, and the examples it wins.
    ngrams = []
    examples = []
    for number, (more, less) in enumerate(contrast.orders):
        ngrams.append(_ngram_table(more, less, contrast.ngrams[number]))
        examples.append(_describe_examples(more, less, contrast.examples[number], report))

    return {
        "name": contrast.other.name,
        "differences": differences,
        "improvement": [improvement.mean, improvement.low, improvement.high],
        "wins": contrast.wins,
        "losses": contrast.losses,
        "ties": contrast.ties,
        "identical": agreement.identical,
        "overlap": agreement.overlap,
        "correlation": _none_if_nan(agreement.correlation),
        "tables": [_bucket_table(contrast, table) for table in contrast.tables],
        "ngrams": ngrams,
        "examples": examples,
    }


def _bucket_table(contrast: Contrast, table: BucketTable) -> dict[str, Any]:
    """Return a table with a row for each bucket of examples or words, such as a length range.

    A difference of scores on other examples would say nothing, so unpaired tables have none.
    """
    columns = [{"title": table.quantity, "kind": "text"}]
    titles = [contrast.first.name, contrast.other.name]
    if table.is_paired:
        titles.append("difference")
    for title in titles:
        columns.append({"title": title, "kind": "number"})
    rows = []
    for number, bucket in enumerate(table.buckets):
        cells = [{"lines": [bucket.label], "sort": number}]
        for score, size in zip(bucket.scores, bucket.sizes, strict=True):
            cells.append(_score_cell(score, f"{size:,} {table.unit}"))
        if table.is_paired:
            cells.append(_difference_cell(bucket))
        rows.append({"cells": cells})
    return {"title": table.title, "columns": columns, "rows": rows}


def _score_cell(score: float, size: str) -> dict[str, Any]:
    if math.isnan(score):
        return {"lines": ["-", size], "sort": None}
    return {"lines": [f"{score:.2f}", size], "sort": round(score, 4), "share": score / 100}


def _difference_cell(bucket: Bucket) -> dict[str, Any]:
    first, other = bucket.scores
    difference = other - first
    if math.isnan(difference):
        return {"lines": ["-"], "sort": None}
    return {"lines": [f"{difference:+.2f}"], "sort": round(difference, 4)}


def _ngram_table(more: Outputs, less: Outputs, uses: Sequence[NgramUse]) -> dict[str, Any]:
    """Return the n-grams that one run writes more often, each with its counts in both runs and in
    the references."""
    columns = [{"title": "n-gram", "kind": "text"}]
    for title in (more.name, less.name, "references"):
        columns.append({"title": title, "kind": "number"})
    rows = []
    for number, use in enumerate(uses):
        cells = [{"lines": [" ".join(use.ngram)], "sort": number}]
        for count in (*use.counts, use.in_references):
            cells.append({"lines": [f"{count:,}"], "sort": count})
        rows.append({"cells": cells})
    return {
        "title": f"N-grams that {more.name} writes more often",
        "columns": columns,
        "rows": rows,
    }


def _describe_examples(
    winner: Outputs, loser: Outputs, examples: Sequence[int], report: ComparisonReport
) -> dict[str, Any]:
    described = []
    for example in examples:
        described.append(
            {
                "id": report.ids[example],
                "reference": report.references[example][0],
                "texts": [winner.summaries[example], loser.summaries[example]],
                "scores": [round(float(each.scores[example]), 2) for each in (winner, loser)],
            }
        )
    return {"names": [winner.name, loser.name], "examples": described}


def _none_if_nan(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return None if math.isnan(value) else value
