import numpy as np
import pytest

from headcount.config.schema import EvaluationConfig
from headcount.evaluation.extractive import extract
from headcount.evaluation.rouge import ROUGE_TYPES, Rouge
from headcount.evaluation.systems import (
    FIGURES,
    System,
    measure,
    measure_baselines,
    measure_people,
)

DOCUMENTS = ["Ada has a red kite. She flies it.\nBen looks on.", "A dog barks. It is loud."]
REFERENCES = [
    ["Ada flies a kite", "a kite is flown", "Ben looks at Ada"],
    ["a loud dog", "the dog barks"],
]


def column(system: System, name: str) -> list[float]:
    return list(system.values[:, FIGURES.index(name)])


def test_measures_each_example_by_the_rule() -> None:
    summaries = ["Ada has a kite", "a dog"]
    system = measure("model", summaries, DOCUMENTS, REFERENCES, "max", [True, False])
    expected = [Rouge("max").score(s, r) for s, r in zip(summaries, REFERENCES, strict=True)]
    for place, kind in enumerate(ROUGE_TYPES):
        assert column(system, kind) == [100 * scores[place] for scores in expected]
        assert system.mean(kind) == pytest.approx(50 * (expected[0][place] + expected[1][place]))
    assert column(system, "rouge1_precision")[1] == 100 and column(system, "rouge1_recall")[
        1
    ] == pytest.approx(200 / 3)
    assert (
        column(system, "words") == [4, 2]
        and column(system, "cut") == [100, 0]
        and system.mean("empty") == 0
    )
    figure = system.figures["words"]
    assert figure is not None and (figure.low, figure.mean, figure.high) == (2, 3, 4)
    assert list(system.figures) == list(FIGURES)


def test_baselines_are_measured_as_summaries_are() -> None:
    evaluation = EvaluationConfig(baselines=["lead-1", "oracle-2"], references="best-by-rouge1")
    *baselines, people = measure_baselines(DOCUMENTS, REFERENCES, evaluation, 0)
    assert [system.name for system in (*baselines, people)] == ["lead-1", "oracle-2", "human"]
    for system in baselines:
        texts = [
            extract(system.name, d, r, unit="sentence", rule="best-by-rouge1", seed=0)
            for d, r in zip(DOCUMENTS, REFERENCES, strict=True)
        ]
        alone = measure(system.name, texts, DOCUMENTS, REFERENCES, "best-by-rouge1")
        assert np.array_equal(system.values, alone.values, equal_nan=True)
        assert system.figures["cut"] is None


def test_people_meet_the_references_of_others() -> None:
    rouge = Rouge("mean")
    first = [rouge.score(r, [o for o in REFERENCES[0] if o != r])[0] for r in REFERENCES[0]]
    second = rouge.score(*REFERENCES[1][:1], REFERENCES[1][1:])[
        0
    ]  # F1 of a pair is the same both ways
    people = measure_people(DOCUMENTS, REFERENCES, "mean")
    assert column(people, "rouge1") == pytest.approx([100 * np.mean(first), 100 * second])
    assert column(people, "words") == pytest.approx([4, 3])


def test_an_only_reference_has_figures_but_no_score() -> None:
    people = measure_people(DOCUMENTS, [REFERENCES[0], REFERENCES[1][:1]], "mean")
    alone = measure_people(DOCUMENTS[:1], REFERENCES[:1], "mean")
    assert (
        np.isnan(column(people, "rougeL")[1]) and people.mean("rougeL") == alone.mean("rougeL") > 0
    )
    assert column(people, "words")[1] == 3
    assert measure_people(DOCUMENTS[:1], [["one"]], "mean").figures["rouge1"] is None


def test_an_equal_reference_is_left_out_once() -> None:
    assert measure_people(["a"], [["a b", "a b"]], "mean").mean("rouge1") == 100
