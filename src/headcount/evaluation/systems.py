"""The metrics of the summaries of a system: a model, a baseline, or human writers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import nan

import numpy as np

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.bootstrap import Estimate, Values, divide, intervals
from headcount.evaluation.corpus_metrics import (
    CorpusMetric,
    Statistics,
    estimate_corpus_score,
    make_corpus_metrics,
)
from headcount.evaluation.extractive import extract
from headcount.evaluation.parallel import map_examples
from headcount.evaluation.rouge import MEASURES, ROUGE_TYPES, Rouge
from headcount.evaluation.text_statistics import TEXT_STATISTICS, describe


def _rouge_metrics() -> Iterator[str]:
    """Yield the names of all types and measures of ROUGE: ``rouge1_recall``, ``rouge1`` for F1."""
    for kind in ROUGE_TYPES:
        for measure in MEASURES:
            yield kind if measure == "f1" else f"{kind}_{measure}"


ROUGE_METRICS = tuple(_rouge_metrics())
EXAMPLE_METRICS = (*ROUGE_METRICS, *TEXT_STATISTICS, "cut")  # metrics of one example


class Scorers:
    """The scorers of ROUGE and of the configured corpus metrics.

    Args:
        evaluation: the ``evaluation`` section of the config.
    """

    def __init__(self, evaluation: EvaluationConfig) -> None:
        self.rouge = Rouge.from_config(evaluation)
        self.corpus = make_corpus_metrics(evaluation)

    def measure(
        self, summary: str, document: str, references: Sequence[str]
    ) -> tuple[list[float], list[list[int]]]:
        """Return ``EXAMPLE_METRICS`` without ``cut``, and the statistics of each corpus metric."""
        scores = [nan] * len(ROUGE_METRICS)
        if references:
            texts = [self.rouge.parse(reference) for reference in references]
            rouge = self.rouge.score_texts(self.rouge.parse(summary), texts)
            scores = (100 * rouge).ravel().tolist()
        statistics = [metric.count(summary, references) for metric in self.corpus.values()]
        return [*scores, *describe(summary, document)], statistics


@dataclass(frozen=True, kw_only=True)
class System:
    """The metrics of a model, a baseline, or human writers.

    Attributes:
        name: name in tables.
        values: metrics of each example, [examples, EXAMPLE_METRICS]; NaN where an example does not
            have the metric. ROUGE is from 0 to 100. ``cut`` is 100 for a summary that was cut off
            at the maximum length, else 0. For the others see ``describe``.
        corpus: each corpus metric by its name, with the statistics of all examples.
    """

    name: str
    values: Values
    corpus: dict[str, tuple[CorpusMetric, Statistics]] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> dict[str, Estimate | None]:
        """The means of ``EXAMPLE_METRICS`` and the scores of the corpus metrics, with 95 %
        intervals; None for a metric that no example has."""
        estimates = dict(zip(EXAMPLE_METRICS, intervals(self.values), strict=True))
        for name, (metric, statistics) in self.corpus.items():
            estimates[name] = estimate_corpus_score(metric, statistics)
        return estimates

    def mean(self, name: str) -> float:
        """Return the mean of a metric; NaN if no example has it."""
        estimate = self.metrics[name]
        return nan if estimate is None else estimate.mean


def measure(
    name: str,
    summaries: Sequence[str],
    documents: Sequence[str],
    references: Sequence[Sequence[str]],
    scorers: Scorers,
    cut: Sequence[bool] | None = None,
) -> System:
    """Measure summaries.

    Args:
        name: name of the system.
        summaries: one for each example.
        documents: the document of each summary.
        references: the references of each summary; an example without references has no score.
        scorers: the scorers.
        cut: for each summary whether it was cut off at the maximum length; None: the system has
            no maximum length.
    """
    measured = map_examples(scorers.measure, summaries, documents, references)
    values = np.array([row for row, _ in measured])
    is_cut = [nan] * len(measured) if cut is None else [100.0 * was_cut for was_cut in cut]

    corpus = {}
    for number, (metric_name, metric) in enumerate(scorers.corpus.items()):
        rows = [statistics[number] for _, statistics in measured]
        corpus[metric_name] = (metric, np.array(rows, dtype=np.int64))
    return System(name=name, values=np.column_stack([values, is_cut]), corpus=corpus)


def measure_baselines(
    documents: Sequence[str], references: Sequence[Sequence[str]], evaluation: EvaluationConfig
) -> list[System]:
    """Measure the configured extractive baselines, and the human references."""
    scorers = Scorers(evaluation)
    systems = []
    for name in evaluation.baselines:
        summarize = partial(extract, name, unit=evaluation.unit, rouge=scorers.rouge)
        summaries = map_examples(summarize, documents, references)
        systems.append(measure(name, summaries, documents, references, scorers))
    return [*systems, measure_human(documents, references, scorers)]


def measure_human(
    documents: Sequence[str], references: Sequence[Sequence[str]], scorers: Scorers
) -> System:
    """Measure the references, each against the others of its example (leave one out).

    The metrics of an example are means over its references, the statistics of corpus metrics are
    sums. The only reference of an example has no score. The row is not quite comparable with
    others: a summary is scored against all references, a reference against one fewer, which lowers
    its score under ``references=max``.
    """
    # Flatten the examples: each reference is a summary, with the others as its references.
    summaries: list[str] = []
    sources: list[str] = []
    others: list[list[str]] = []
    first_rows: list[int] = []
    for document, texts in zip(documents, references, strict=True):
        first_rows.append(len(summaries))
        for number, text in enumerate(texts):
            summaries.append(text)
            sources.append(document)
            others.append([*texts[:number], *texts[number + 1 :]])
    left_out = measure("human", summaries, sources, others, scorers)

    # The rows of an example are adjacent: average those that have the metric, the others are NaN.
    known = np.isfinite(left_out.values)
    sums = np.add.reduceat(np.where(known, left_out.values, 0.0), first_rows)
    counts = np.add.reduceat(known.astype(float), first_rows)
    corpus = {
        name: (metric, np.add.reduceat(statistics, first_rows))
        for name, (metric, statistics) in left_out.corpus.items()
    }
    return System(name="human", values=divide(sums, counts), corpus=corpus)
