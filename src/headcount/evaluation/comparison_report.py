"""The report of a comparison of systems, each with the first one, and its Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headcount.escape import markdown, markdown_code
from headcount.evaluation.bootstrap import CorrectedDifference, Estimate, Vector
from headcount.evaluation.comparison import (
    COPIED_EDGES,
    Agreement,
    Bucket,
    NgramUse,
    Outputs,
    find_ngrams,
    largest_wins,
    measure_agreement,
    probability_of_improvement,
    quartile_edges,
    score_by,
    score_by_frequency,
)
from headcount.evaluation.rouge import Rouge
from headcount.evaluation.text_statistics import words_of

NGRAMS = 10  # of each system
EXAMPLES = 5  # of each system
# Labels of the examples whose quantity is unknown.
UNKNOWN_LENGTH = "unknown: all summaries are empty"
NO_WORDS = "empty summary"


@dataclass(frozen=True, kw_only=True)
class BucketTable:
    """The scores of two systems on groups of examples or words.

    Attributes:
        title: title of the table.
        quantity: title of its first column, the quantity that defines the groups.
        unit: unit of the sizes of the groups: examples or words.
        buckets: the rows.
        is_paired: whether both systems are scored on the same examples or words in each row. They
            are not where each system's own summaries define the groups.
    """

    title: str
    quantity: str
    unit: str
    buckets: list[Bucket]
    is_paired: bool = True


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The comparison of one system with the first one.

    Attributes:
        first: the first system.
        other: the system that is compared with it.
        differences: other minus first by the title of the metric.
        improvement: the probability that the other system beats the first on an example.
        wins: number of examples on which the other system scores higher.
        losses: number of examples on which it scores lower.
        agreement: agreement of the two systems.
        tables: scores by length, by the share of copied words and by the frequency of words.
        ngrams: n-grams that the other system generates more often, and those of the first.
        examples: rows of the examples that the other system wins most, and those of the first.
    """

    first: Outputs
    other: Outputs
    differences: dict[str, CorrectedDifference]
    improvement: Estimate
    wins: int
    losses: int
    agreement: Agreement
    tables: list[BucketTable]
    ngrams: tuple[list[NgramUse], list[NgramUse]]
    examples: tuple[list[int], list[int]]

    @property
    def ties(self) -> int:
        """The number of examples on which both systems score the same."""
        return len(self.other.scores) - self.wins - self.losses

    @property
    def orders(self) -> tuple[tuple[Outputs, Outputs], tuple[Outputs, Outputs]]:
        """The systems in the two orders of ``ngrams`` and ``examples``."""
        return (self.other, self.first), (self.first, self.other)


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """The comparison of several systems with the first one.

    Attributes:
        contrasts: one for each system except the first.
        ids: ids of the examples.
        references: references of each example.
        metric: title of the metric in ``Outputs.scores``.
        signature: signature of the scores, which is that of all systems.
    """

    contrasts: list[Contrast]
    ids: Sequence[str]
    references: Sequence[Sequence[str]]
    metric: str
    signature: str


def make_comparison(
    outputs: Sequence[Outputs],
    tests: Sequence[dict[str, CorrectedDifference]],
    ids: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metric: str,
    signature: str,
    rouge: Rouge,
) -> ComparisonReport:
    """Compare each system with the first.

    Args:
        outputs: two or more systems.
        tests: for each system except the first its differences from the first by the title of the
            metric.
        ids: ids of the examples.
        references: references of each example.
        metric: title of the metric in ``Outputs.scores``.
        signature: signature of the scores, which is that of all systems.
        rouge: scorer for the agreement of summaries.
    """
    first = outputs[0]
    document_words = _count_document_words(outputs)
    contrasts = []
    for other, differences in zip(outputs[1:], tests, strict=True):
        # N-grams and examples are listed in both directions.
        more_of_other = find_ngrams(other, first, references, NGRAMS)
        more_of_first = find_ngrams(first, other, references, NGRAMS)
        wins_of_other = largest_wins(other, first, EXAMPLES)
        wins_of_first = largest_wins(first, other, EXAMPLES)

        contrasts.append(
            Contrast(
                first=first,
                other=other,
                differences=differences,
                improvement=probability_of_improvement(other.scores, first.scores),
                wins=int((other.scores > first.scores).sum()),
                losses=int((other.scores < first.scores).sum()),
                agreement=measure_agreement(first, other, rouge),
                tables=_bucket_tables(first, other, references, metric, document_words),
                ngrams=(more_of_other, more_of_first),
                examples=(wins_of_other, wins_of_first),
            )
        )

    return ComparisonReport(
        contrasts=contrasts, ids=ids, references=references, metric=metric, signature=signature
    )


def _count_document_words(outputs: Sequence[Outputs]) -> Vector:
    """Return the length of each document, [examples]; NaN where all summaries are empty.

    It is compression x words of a summary, which is unknown for an empty one.
    """
    words = np.full(len(outputs[0].scores), np.nan)
    for system in outputs:
        of_system = system.metric("compression") * system.metric("words")
        words = np.where(np.isfinite(words), words, of_system)
    return words.round()


def _bucket_tables(
    first: Outputs,
    other: Outputs,
    references: Sequence[Sequence[str]],
    metric: str,
    document_words: Vector,
) -> list[BucketTable]:
    systems = [first, other]
    tables = []

    # By the lengths of document and reference, which do not depend on the system.
    reference_words = np.array([len(words_of(texts[0])) for texts in references], dtype=float)
    for quantity, values in (
        ("words of the document", document_words),
        ("words of the reference", reference_words),
    ):
        if np.isfinite(values).any():
            buckets = score_by(
                [values, values], systems, quartile_edges(values), unknown=UNKNOWN_LENGTH
            )
            tables.append(_example_table(metric, quantity, buckets))

    # By the length of each system's own summaries, and by the share of copied words in them.
    summary_words = [system.metric("words") for system in systems]
    buckets = score_by(summary_words, systems, quartile_edges(summary_words[0]))
    tables.append(_example_table(metric, "words of the summary", buckets, is_paired=False))
    copied = [system.metric("coverage") for system in systems]
    buckets = score_by(copied, systems, np.array(COPIED_EDGES), unknown=NO_WORDS)
    quantity = "% of the summary copied from the document"
    tables.append(_example_table(metric, quantity, buckets, is_paired=False))

    # Words instead of examples: rare words are harder.
    tables.append(
        BucketTable(
            title="F1 of words by their frequency in the references",
            quantity="occurrences",
            unit="words",
            buckets=score_by_frequency(systems, references),
        )
    )
    return tables


def _example_table(
    metric: str, quantity: str, buckets: list[Bucket], *, is_paired: bool = True
) -> BucketTable:
    return BucketTable(
        title=f"{metric} by {quantity}",
        quantity=quantity,
        unit="examples",
        buckets=buckets,
        is_paired=is_paired,
    )


def as_markdown(report: ComparisonReport) -> str:
    """Return a report as Markdown."""
    first = report.contrasts[0].first
    lines = [f"# {markdown(first.name)} compared with others", ""]
    lines.append(f"{len(report.ids):,} examples, scored with {markdown_code(report.signature)}")
    for contrast in report.contrasts:
        lines += ["", f"## {markdown(contrast.other.name)} and {markdown(first.name)}"]
        lines += _differences(contrast, report.metric)
        lines += _improvement(contrast, report.metric)
        lines += _agreement(contrast, report.metric)
        for table in contrast.tables:
            lines += _bucket_table(contrast, table)
        lines += _ngrams(contrast)
        lines += _examples(contrast, report)
    return "\n".join(lines) + "\n"


def _differences(contrast: Contrast, metric: str) -> Iterator[str]:
    rows = []
    for title, test in contrast.differences.items():
        interval = f"{test.mean:+.2f} [{test.low:+.2f}, {test.high:+.2f}]"
        rows.append([title, interval, f"{test.corrected_p:.4f}"])
    yield from _section("Differences")
    yield (
        f"{markdown(contrast.other.name)} minus {markdown(contrast.first.name)}, with 95 % "
        "interval over documents and p by paired bootstrap, two-sided, Holm-corrected. The "
        f"sections below compare {metric} of each example."
    )
    yield ""
    yield from _table(["", "difference", "p"], rows)


def _improvement(contrast: Contrast, metric: str) -> Iterator[str]:
    probability = contrast.improvement
    interval = f"[{probability.low:.3f}, {probability.high:.3f}]"
    yield from _section("Probability of improvement")
    yield (
        f"{markdown(contrast.other.name)} beats {markdown(contrast.first.name)} on an example "
        f"with probability {probability.mean:.3f} {interval} (Agarwal et al. 2021; 0.5 is no "
        f"improvement): better on {contrast.wins:,}, worse on {contrast.losses:,}, equal on "
        f"{contrast.ties:,} examples by {metric}."
    )


def _agreement(contrast: Contrast, metric: str) -> Iterator[str]:
    agreement = contrast.agreement
    correlation = "none" if np.isnan(agreement.correlation) else f"{agreement.correlation:.2f}"
    yield from _section("Agreement")
    yield (
        f"{agreement.identical:.1f} % of the summaries are identical. ROUGE-L of one system's "
        f"summaries against the other's is {agreement.overlap:.2f}. Correlation of the examples' "
        f"{metric}: {correlation}."
    )


def _bucket_table(contrast: Contrast, table: BucketTable) -> Iterator[str]:
    titles = [table.quantity]
    for system in (contrast.first, contrast.other):
        titles += [markdown(system.name), table.unit]
    rows = []
    for bucket in table.buckets:
        row = [bucket.label]
        for score, size in zip(bucket.scores, bucket.sizes, strict=True):
            row += ["-" if np.isnan(score) else f"{score:.2f}", f"{size:,}"]
        rows.append(row)
    yield from _section(table.title)
    yield from _table(titles, rows)


def _ngrams(contrast: Contrast) -> Iterator[str]:
    for (more, less), uses in zip(contrast.orders, contrast.ngrams, strict=True):
        yield from _section(f"N-grams that {markdown(more.name)} writes more often")
        rows = []
        for use in uses:
            counts = [f"{count:,}" for count in (*use.counts, use.in_references)]
            rows.append([markdown(" ".join(use.ngram)), *counts])
        yield from _table(["", markdown(more.name), markdown(less.name), "references"], rows)


def _examples(contrast: Contrast, report: ComparisonReport) -> Iterator[str]:
    for (winner, loser), examples in zip(contrast.orders, contrast.examples, strict=True):
        yield from _section(f"Examples where {markdown(winner.name)} wins most")
        if not examples:
            yield "None."

        for example in examples:
            yield (
                f"- {markdown(report.ids[example])}: {report.metric} "
                f"{winner.scores[example]:.2f} against {loser.scores[example]:.2f}"
            )
            yield f"  - reference: {markdown(report.references[example][0])}"
            for system in (winner, loser):
                yield f"  - {markdown(system.name)}: {markdown(system.summaries[example])}"


def _section(title: str) -> Iterator[str]:
    yield ""
    yield f"### {title}"
    yield ""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        yield "None."
        return
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join([':---', *['---:'] * (len(titles) - 1)])} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
