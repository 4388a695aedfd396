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
    """Yield the names of all kinds and measures of ROUGE; F1 has that of the kind."""
    for kind in ROUGE_TYPES:
        for measure in MEASURES:
            yield kind if measure == "f1" else f"{kind}_{measure}"


ROUGE_METRICS = tuple(_rouge_metrics())
EXAMPLE_METRICS = (*ROUGE_METRICS, *TEXT_STATISTICS, "cut")  # of each example


class Scorers:
    """What examples are scored with.

    Args:
        evaluation: the config's section.
    """

    def __init__(self, evaluation: EvaluationConfig) -> None:
        self.rouge = Rouge.from_config(evaluation)
        self.corpus = make_corpus_metrics(evaluation)

    def measure(
        self, summary: str, document: str, references: Sequence[str]
    ) -> tuple[list[float], list[list[int]]]:
        """Return EXAMPLE_METRICS without ``cut``, and the statistics of each corpus metric."""
        scores = [nan] * len(ROUGE_METRICS)
        if references:
            texts = [self.rouge.read(reference) for reference in references]
            rouge = self.rouge.score_texts(self.rouge.read(summary), texts)
            scores = (100 * rouge).ravel().tolist()
        statistics = [metric.count(summary, references) for metric in self.corpus.values()]
        return [*scores, *describe(summary, document)], statistics


@dataclass(frozen=True, kw_only=True)
class System:
    """What wrote summaries, and how good they are.

    Attributes:
        name: its name in tables.
        values: a row an example, a column each of EXAMPLE_METRICS; NaN where an example has no
            such metric. ROUGE is times 100, F1 under the bare name of its type; for the others see
            ``describe``; ``cut`` is 100 for a summary that ended at the maximum length, else 0.
        corpus: for each corpus metric the metric and its statistics.
    """

    name: str
    values: Values
    corpus: dict[str, tuple[CorpusMetric, Statistics]] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> dict[str, Estimate | None]:
        """The means of EXAMPLE_METRICS and the scores of the corpus metrics, with 95 % intervals.

        None where no example has it.
        """
        estimates = dict(zip(EXAMPLE_METRICS, intervals(self.values), strict=True))
        for name, (metric, statistics) in self.corpus.items():
            estimates[name] = estimate_corpus_score(metric, statistics)
        return estimates

    def mean(self, name: str) -> float:
        """Return one of the metrics; NaN where no example has it."""
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
        name: of what wrote them.
        summaries: one for each example.
        documents: what each was written from.
        references: what each is scored against; an example without any has no score.
        scorers: what they are scored with.
        cut: whether each ended at the maximum length; None where there is no maximum.
    """
    measured = map_examples(scorers.measure, summaries, documents, references)
    values = np.array([row for row, _ in measured])
    is_cut = [nan] * len(measured) if cut is None else [100.0 * was_cut for was_cut in cut]

    corpus = {}
    for place, (metric_name, metric) in enumerate(scorers.corpus.items()):
        rows = [statistics[place] for _, statistics in measured]
        corpus[metric_name] = (metric, np.array(rows, dtype=np.int64))
    return System(name=name, values=np.column_stack([values, is_cut]), corpus=corpus)


def measure_baselines(
    documents: Sequence[str],
    references: Sequence[Sequence[str]],
    evaluation: EvaluationConfig,
    seed: int,
) -> list[System]:
    """Measure the configured extractive baselines, and the human references."""
    scorers = Scorers(evaluation)
    systems = []
    for name in evaluation.baselines:
        write = partial(extract, name, unit=evaluation.unit, rouge=scorers.rouge, seed=seed)
        summaries = map_examples(write, documents, references)
        systems.append(measure(name, summaries, documents, references, scorers))
    return [*systems, measure_human(documents, references, scorers)]


def measure_human(
    documents: Sequence[str], references: Sequence[Sequence[str]], scorers: Scorers
) -> System:
    """Measure the references themselves, each against the others of its example.

    The metrics of an example are the means over its references, its statistics the sums. An only
    reference has no score. Under ``max`` the human row has one reference fewer to meet than the
    others have.
    """
    # Each reference is a summary, with the others of its example as references.
    summaries: list[str] = []
    sources: list[str] = []
    others: list[list[str]] = []
    first_rows: list[int] = []
    for document, texts in zip(documents, references, strict=True):
        first_rows.append(len(summaries))
        for place, text in enumerate(texts):
            summaries.append(text)
            sources.append(document)
            others.append([*texts[:place], *texts[place + 1 :]])
    left_out = measure("human", summaries, sources, others, scorers)

    # The rows of an example are neighbours: add them up. NaN is an example without a metric.
    known = np.isfinite(left_out.values)
    sums = np.add.reduceat(np.where(known, left_out.values, 0.0), first_rows)
    counts = np.add.reduceat(known.astype(float), first_rows)
    corpus = {
        name: (metric, np.add.reduceat(statistics, first_rows))
        for name, (metric, statistics) in left_out.corpus.items()
    }
    return System(name="human", values=divide(sums, counts), corpus=corpus)
