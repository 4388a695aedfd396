"""The evaluation of summaries, from texts alone: a model beside baselines and the references."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.alarms import find_alarms
from headcount.evaluation.signature import signature
from headcount.evaluation.systems import Scorers, System, measure, measure_baselines


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """The metrics of a model beside those of baselines.

    Attributes:
        signature: signature of the scores.
        systems: the model as the first, the human references as the last.
        alarms: warnings about the model's summaries, see ``alarms``.
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
    shuffle_sources: bool = False,
    name: str = "model",
) -> ScoreReport:
    """Evaluate the summaries of a model.

    Args:
        summaries: one for each example.
        cut: for each summary whether it was cut off at the maximum length.
        documents: the document of each summary.
        references: one or more for each example.
        evaluation: the ``evaluation`` section of the config.
        shuffle_sources: add the system ``shuffled``: the scores of the model if each example has
            the document of another. A summary depends only on its document, so the summaries are
            permuted instead of generated again.
        name: name of the first row: ``model``, or ``system`` for an ensemble.
    """
    scorers = Scorers(evaluation)
    model = measure(name, summaries, documents, references, scorers, cut)
    baselines = measure_baselines(documents, references, evaluation)

    # Score each summary against the references of another example: the alarms need it in any case.
    others = random_derangement(len(summaries))
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
    return ScoreReport(
        signature=signature(references, evaluation),
        systems=systems,
        alarms=list(find_alarms(model, shuffled, baselines, summaries, references, evaluation)),
    )


def random_derangement(count: int) -> list[int]:
    """Return a random permutation that maps no example to itself, unless there is only one.

    It is a random cycle through all examples.
    """
    cycle = np.random.default_rng(0).permutation(count)
    others = np.empty_like(cycle)
    others[cycle] = np.roll(cycle, 1)
    return [int(other) for other in others]
