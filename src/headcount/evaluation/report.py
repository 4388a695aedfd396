"""The evaluation of the summaries of a split, from texts alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.alarms import find_alarms
from headcount.evaluation.signature import signature
from headcount.evaluation.systems import Scorers, System, measure, measure_baselines


@dataclass(frozen=True, kw_only=True)
class Report:
    """The metrics of a model beside those of baselines.

    Attributes:
        signature: how all of them were scored.
        systems: the model first, the human references last.
        alarms: what is wrong with the model's summaries, in plain words.
    """

    signature: str
    systems: list[System]
    alarms: list[str]


def report(
    summaries: Sequence[str],
    cut: Sequence[bool],
    documents: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    evaluation: EvaluationConfig,
    seed: int,
    shuffle_sources: bool = False,
    name: str = "model",
) -> Report:
    """Evaluate the summaries of a model.

    Args:
        summaries: one for each example.
        cut: whether each ended only because it reached the maximum length.
        documents: what each was written from.
        references: one or more for each example.
        evaluation: the config's section.
        seed: of the random baseline.
        shuffle_sources: list among the systems the scores of the model when each example has
            another's document. A summary depends on its document alone, so nothing is generated
            again: the summaries change places.
        name: of the row: ``model``, or ``system`` if several models wrote the summaries.
    """
    scorers = Scorers(evaluation)
    model = measure(name, summaries, documents, references, scorers, cut)
    baselines = measure_baselines(documents, references, evaluation, seed)

    # Score each summary against the references of another example.
    others = another_of_each(len(summaries))
    shuffled = measure(
        "shuffled",
        [summaries[other] for other in others],
        [documents[other] for other in others],
        references,
        scorers,
    )

    systems = [model, *baselines]
    if shuffle_sources:
        systems.insert(1, shuffled)
    return Report(
        signature=signature(references, evaluation),
        systems=systems,
        alarms=list(find_alarms(model, shuffled, baselines, summaries, references, evaluation)),
    )


def another_of_each(count: int) -> list[int]:
    """Return for each of some examples another one, at random.

    Each is used once: it is a cycle through all examples.
    """
    cycle = np.random.default_rng(0).permutation(count)
    others = np.empty_like(cycle)
    others[cycle] = np.roll(cycle, 1)
    return [int(other) for other in others]
