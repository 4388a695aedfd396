"""The figures of summaries, whoever wrote them: a model, a baseline, people."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import nan

import numpy as np

from headcount.config.schema import EvaluationConfig, ReferenceRule
from headcount.evaluation.bootstrap import Figure, Values, divide, intervals
from headcount.evaluation.extractive import extract
from headcount.evaluation.parallel import map_examples
from headcount.evaluation.rouge import MEASURES, ROUGE_TYPES, Rouge, Text
from headcount.evaluation.text_statistics import BEYOND_ROUGE, describe

ROUGE = tuple(
    kind if measure == "f1" else f"{kind}_{measure}"
    for kind in ROUGE_TYPES
    for measure in MEASURES
)
FIGURES = (*ROUGE, *BEYOND_ROUGE, "cut")


@dataclass(frozen=True, kw_only=True)
class System:
    """What wrote summaries, and their figures.

    Attributes:
        name: as it stands in tables.
        values: a row an example, a column each of FIGURES; NaN where there is no such figure.
            ROUGE is times 100, F1 under the bare name of its type; see ``beyond_rouge`` for the
            others; ``cut`` is 100 for a summary that ended at the maximum length, else 0.
    """

    name: str
    values: Values

    @cached_property
    def figures(self) -> dict[str, Figure | None]:
        """The mean over examples of each of FIGURES, with its 95 % interval.

        None where no example has it.
        """
        return dict(zip(FIGURES, intervals(self.values), strict=True))

    def mean(self, name: str) -> float:
        """Return the mean of one of FIGURES; NaN where no example has it."""
        figure = self.figures[name]
        return nan if figure is None else figure.mean


def measure(
    name: str,
    summaries: Sequence[str],
    documents: Sequence[str],
    references: Sequence[Sequence[str]],
    rule: ReferenceRule,
    cut: Sequence[bool] | None = None,
) -> System:
    """Measure summaries.

    Args:
        name: of what wrote them.
        summaries: one for each example.
        documents: what each was written from.
        references: what each is scored against; where there is none it has no score.
        rule: what several references make of a score.
        cut: whether each ended at the maximum length; None where there is no maximum.
    """
    rows = map_examples(partial(_measure, Rouge(rule)), summaries, documents, references)
    ends = [nan] * len(rows) if cut is None else [100.0 * was_cut for was_cut in cut]
    return System(name=name, values=np.column_stack([np.array(rows), ends]))


def _measure(rouge: Rouge, summary: str, document: str, references: Sequence[str]) -> list[float]:
    scores = [nan] * len(ROUGE)
    if references:
        scores = (
            (100 * rouge.score_texts(Text.of(summary), [Text.of(text) for text in references]))
            .ravel()
            .tolist()
        )
    return [*scores, *describe(summary, document)]


def measure_baselines(
    documents: Sequence[str],
    references: Sequence[Sequence[str]],
    evaluation: EvaluationConfig,
    seed: int,
) -> list[System]:
    """Measure the configured baselines, and people."""
    systems = []
    for name in evaluation.baselines:
        write = partial(extract, name, unit=evaluation.unit, rule=evaluation.references, seed=seed)
        summaries = map_examples(write, documents, references)
        systems.append(measure(name, summaries, documents, references, evaluation.references))
    return [*systems, measure_people(documents, references, evaluation.references)]


def measure_people(
    documents: Sequence[str], references: Sequence[Sequence[str]], rule: ReferenceRule
) -> System:
    """Measure the references themselves, each against the others of its example, and take each
    example's mean.

    An only reference has no score. Under ``max`` people have one reference fewer to meet than the
    others have.
    """
    left_out = [
        (example, place) for example, texts in enumerate(references) for place in range(len(texts))
    ]
    values = measure(
        "human",
        [references[example][place] for example, place in left_out],
        [documents[example] for example, _ in left_out],
        [
            [text for other, text in enumerate(references[example]) if other != place]
            for example, place in left_out
        ],
        rule,
    ).values
    first = [row for row, (_, place) in enumerate(left_out) if place == 0]
    known = np.isfinite(values)
    sums, counts = (
        np.add.reduceat(part, first)
        for part in (np.where(known, values, 0.0), known.astype(float))
    )
    return System(name="human", values=divide(sums, counts))
