"""The report of a comparison as Markdown."""

from collections.abc import Iterator, Sequence

import numpy as np

from headcount.escape import markdown, markdown_code
from headcount.evaluation.bootstrap import Difference, Values
from headcount.evaluation.comparison import (
    COPIED_EDGES,
    Bucket,
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


def write_comparison(
    outputs: Sequence[Outputs],
    tests: Sequence[dict[str, Difference]],
    ids: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metric: str,
    signature: str,
    rouge: Rouge,
) -> str:
    """Return a report on how each system differs from the first, as Markdown.

    Args:
        outputs: two or more systems.
        tests: for each but the first its differences from the first by the title of the metric,
            corrected.
        ids: of the examples.
        references: of the examples.
        metric: title of the metric in ``Outputs.scores``.
        signature: how all of them were scored.
        rouge: for the agreement between summaries.
    """
    first = outputs[0]
    lines = [f"# {markdown(first.name)} compared with others", ""]
    lines.append(f"{len(ids):,} examples, scored alike: {markdown_code(signature)}")
    for other, differences in zip(outputs[1:], tests, strict=True):
        lines += ["", f"## {markdown(other.name)} and {markdown(first.name)}"]
        lines += _scores(first, other, differences, metric)
        lines += _improvement(first, other, metric)
        lines += _agreement(first, other, rouge, metric)
        lines += _buckets(first, other, references, metric)
        lines += _ngrams(first, other, references)
        lines += _examples(first, other, ids, references, metric)
    return "\n".join(lines) + "\n"


def _scores(
    first: Outputs, other: Outputs, differences: dict[str, Difference], metric: str
) -> Iterator[str]:
    rows = []
    for title, test in differences.items():
        interval = f"{test.mean:+.2f} [{test.low:+.2f}, {test.high:+.2f}]"
        rows.append([title, interval, f"{test.p:.4f}"])
    yield from _section("Differences")
    yield (
        f"{markdown(other.name)} minus {markdown(first.name)}, with 95 % interval over documents "
        "and p by paired bootstrap, two-sided, Holm-corrected. All that follows is by "
        f"{metric} of each example."
    )
    yield ""
    yield from _table(["", "difference", "p"], rows)


def _improvement(first: Outputs, other: Outputs, metric: str) -> Iterator[str]:
    found = probability_of_improvement(other.scores, first.scores)
    wins = int((other.scores > first.scores).sum())
    losses = int((other.scores < first.scores).sum())
    ties = len(other.scores) - wins - losses
    yield from _section("Probability of improvement")
    yield (
        f"{markdown(other.name)} beats {markdown(first.name)} on an example with probability "
        f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] (Agarwal et al. 2021; 0.5 is no "
        f"improvement): better on {wins:,}, worse on {losses:,}, equal on {ties:,} examples by "
        f"{metric}."
    )


def _agreement(first: Outputs, other: Outputs, rouge: Rouge, metric: str) -> Iterator[str]:
    found = measure_agreement(first, other, rouge)
    correlation = "none" if np.isnan(found.correlation) else f"{found.correlation:.2f}"
    yield from _section("Agreement")
    yield (
        f"{found.identical:.1f} % of the summaries are identical. ROUGE-L of one system's "
        f"summaries against the other's is {found.overlap:.2f}. Correlation of the examples' "
        f"{metric}: {correlation}."
    )


def _buckets(
    first: Outputs, other: Outputs, references: Sequence[Sequence[str]], metric: str
) -> Iterator[str]:
    systems = [first, other]
    # Words of the document for each of the summary, times words of the summary: empty summaries
    # have no compression, but the other system's may have.
    lengths = [system.metric("compression") * system.metric("words") for system in systems]
    document_words = np.where(np.isfinite(lengths[0]), lengths[0], lengths[1]).round()
    reference_words = np.array([len(words_of(texts[0])) for texts in references], dtype=float)
    copied = [system.metric("coverage") for system in systems]

    def by(title: str, quantities: Sequence[Values], edges: Values) -> Iterator[str]:
        yield from _section(f"{metric} by {title}")
        yield from _bucket_table(title, "examples", systems, score_by(quantities, systems, edges))

    for title, quantity in (
        ("words of the document", document_words),
        ("words of the reference", reference_words),
    ):
        if np.isfinite(quantity).any():
            yield from by(title, [quantity, quantity], quartile_edges(quantity))
    yield from by(
        "words of the summary",
        [system.metric("words") for system in systems],
        quartile_edges(first.metric("words")),
    )
    yield from by("% of the summary copied from the document", copied, np.array(COPIED_EDGES))

    yield from _section("F1 of words by their frequency in the references")
    frequency = score_by_frequency(systems, references)
    yield from _bucket_table("occurrences", "words", systems, frequency)


def _bucket_table(
    title: str, unit: str, systems: Sequence[Outputs], buckets: Sequence[Bucket]
) -> Iterator[str]:
    names = [markdown(system.name) for system in systems]
    titles = [title]
    for name in names:
        titles += [name, unit]
    rows = []
    for bucket in buckets:
        row = [bucket.label]
        for score, size in zip(bucket.scores, bucket.sizes, strict=True):
            row += ["-" if np.isnan(score) else f"{score:.2f}", f"{size:,}"]
        rows.append(row)
    yield from _table(titles, rows)


def _ngrams(first: Outputs, other: Outputs, references: Sequence[Sequence[str]]) -> Iterator[str]:
    for more, less in ((other, first), (first, other)):
        yield from _section(f"N-grams that {markdown(more.name)} writes more often")
        rows = [
            [
                markdown(" ".join(use.ngram)),
                f"{use.counts[0]:,}",
                f"{use.counts[1]:,}",
                f"{use.in_references:,}",
            ]
            for use in find_ngrams(more, less, references, NGRAMS)
        ]
        yield from _table(["", markdown(more.name), markdown(less.name), "references"], rows)


def _examples(
    first: Outputs,
    other: Outputs,
    ids: Sequence[str],
    references: Sequence[Sequence[str]],
    metric: str,
) -> Iterator[str]:
    for winner, loser in ((other, first), (first, other)):
        yield from _section(f"Examples where {markdown(winner.name)} wins most")
        examples = largest_wins(winner, loser, EXAMPLES)
        if not examples:
            yield "None."
        for example in examples:
            yield (
                f"- {markdown(ids[example])}: {metric} {winner.scores[example]:.2f} against "
                f"{loser.scores[example]:.2f}"
            )
            yield f"  - reference: {markdown(references[example][0])}"
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
