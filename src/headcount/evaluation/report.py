"""All that is said about the summaries of a split, from texts alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headcount.config.schema import EvaluationConfig
from headcount.evaluation.alarms import alarms
from headcount.evaluation.rouge import signature
from headcount.evaluation.systems import System, measure, measure_baselines


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of a model beside those of baselines.

    Attributes:
        signature: how all of them were scored.
        systems: the model first, people last.
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
) -> Report:
    """Judge the summaries of a model.

    Args:
        summaries: one for each example.
        cut: whether each ended only because it was as long as allowed.
        documents: what each was written from.
        references: one or more for each example.
        evaluation: the config's section.
        seed: of the random baseline.
        shuffle_sources: list among the systems what the model scores when each example has
            another's document. A summary depends on its document alone, so this takes no second
            decoding: the summaries change places.
    """
    rule = evaluation.references
    others = another_of_each(len(summaries))
    model = measure("model", summaries, documents, references, rule, cut)
    shuffled = measure(
        "shuffled",
        [summaries[i] for i in others],
        [documents[i] for i in others],
        references,
        rule,
    )
    baselines = measure_baselines(documents, references, evaluation, seed)
    return Report(
        signature=signature(references, rule),
        systems=[model, *([shuffled] if shuffle_sources else []), *baselines],
        alarms=list(alarms(model, shuffled, baselines[-1], summaries, references)),
    )


def another_of_each(count: int) -> list[int]:
    """Return for each of some examples another one, at random.

    Each has its turn once (a cycle through all).
    """
    cycle = np.random.default_rng(0).permutation(count)
    others = np.empty_like(cycle)
    others[cycle] = np.roll(cycle, 1)
    return [int(other) for other in others]
