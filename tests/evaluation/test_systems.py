import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from headcount.config.sections.evaluation import EvaluationConfig, ReferenceRule
from headcount.evaluation import parallel
from headcount.evaluation.extractive import extract
from headcount.evaluation.rouge import ROUGE_TYPES
from headcount.evaluation.systems import (
    EXAMPLE_METRICS,
    Scorers,
    System,
    measure,
    measure_baselines,
    measure_human,
)

DOCUMENTS = ["Ada has a red kite. She flies it.\nBen looks on.", "A dog barks. It is loud."]
REFERENCES = [
    ["Ada flies a kite", "a kite is flown", "Ben looks at Ada"],
    ["a loud dog", "the dog barks"],
]


SUMMARIES = ["Ada has a kite", "a dog"]


def scorers(references: ReferenceRule = "mean") -> Scorers:
    return Scorers(EvaluationConfig(references=references))


def column(system: System, name: str) -> list[float]:
    return list(system.values[:, EXAMPLE_METRICS.index(name)])


def test_measures_each_example_by_the_rule() -> None:
    summaries = ["Ada has a kite", "a dog"]
    system = measure("model", summaries, DOCUMENTS, REFERENCES, scorers("max"), [True, False])
    expected = [
        scorers("max").rouge.score(s, r) for s, r in zip(summaries, REFERENCES, strict=True)
    ]
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
    found = system.metrics["words"]
    assert found is not None and (found.low, found.mean, found.high) == (2, 3, 4)
    assert list(system.metrics) == list(EXAMPLE_METRICS)


def test_baselines_are_measured_as_summaries_are() -> None:
    evaluation = EvaluationConfig(baselines=["lead-1", "oracle-2"], references="best-by-rouge1")
    *baselines, people = measure_baselines(DOCUMENTS, REFERENCES, evaluation)
    assert [system.name for system in (*baselines, people)] == ["lead-1", "oracle-2", "human"]
    for system in baselines:
        texts = [
            extract(system.name, d, r, unit="sentence", rouge=scorers("best-by-rouge1").rouge)
            for d, r in zip(DOCUMENTS, REFERENCES, strict=True)
        ]
        alone = measure(system.name, texts, DOCUMENTS, REFERENCES, scorers("best-by-rouge1"))
        assert np.array_equal(system.values, alone.values, equal_nan=True)
        assert system.metrics["cut"] is None


def test_humans_are_scored_against_the_references_of_others() -> None:
    rouge = scorers().rouge
    first = [rouge.score(r, [o for o in REFERENCES[0] if o != r])[0] for r in REFERENCES[0]]
    second = rouge.score(*REFERENCES[1][:1], REFERENCES[1][1:])[
        0
    ]  # F1 of a pair is the same both ways
    people = measure_human(DOCUMENTS, REFERENCES, scorers())
    assert column(people, "rouge1") == pytest.approx([100 * np.mean(first), 100 * second])
    assert column(people, "words") == pytest.approx([4, 3])


def test_an_only_reference_has_figures_but_no_score() -> None:
    people = measure_human(DOCUMENTS, [REFERENCES[0], REFERENCES[1][:1]], scorers())
    alone = measure_human(DOCUMENTS[:1], REFERENCES[:1], scorers())
    assert (
        np.isnan(column(people, "rougeL")[1]) and people.mean("rougeL") == alone.mean("rougeL") > 0
    )
    assert column(people, "words")[1] == 3
    assert measure_human(DOCUMENTS[:1], [["one"]], scorers()).metrics["rouge1"] is None


def test_an_equal_reference_is_left_out_once() -> None:
    assert measure_human(["a"], [["a b", "a b"]], scorers()).mean("rouge1") == 100


def test_corpus_metrics_are_scored_over_all_examples() -> None:
    evaluation = EvaluationConfig(baselines=["lead-1"], metrics=["bleu", "chrf"])
    summaries = ["Ada flies a kite", "a loud dog"]
    system = measure("model", summaries, DOCUMENTS, REFERENCES, Scorers(evaluation))
    streams = [["Ada flies a kite", "a loud dog"], ["a kite is flown", "the dog barks"]]
    streams.append(["Ben looks at Ada", None])
    assert system.mean("bleu") == pytest.approx(BLEU().corpus_score(summaries, streams).score)
    assert system.mean("chrf") == pytest.approx(CHRF().corpus_score(summaries, streams).score)
    assert list(system.metrics) == [*EXAMPLE_METRICS, "bleu", "chrf"]

    lead, human = measure_baselines(DOCUMENTS, REFERENCES, evaluation)
    assert 0 < lead.mean("chrf") < 100 and 0 < human.mean("chrf") < 100
    assert lead.corpus["bleu"][1].shape == human.corpus["bleu"][1].shape


def test_human_row_meets_the_other_references_in_corpus_metrics() -> None:
    evaluation = EvaluationConfig(metrics=["chrf"])
    human = measure_human(["a", "b"], [["one two", "one two"], ["only"]], Scorers(evaluation))
    assert human.mean("chrf") == 100
    assert human.corpus["chrf"][1][1].sum() == 0


def test_scores_with_corpus_metrics_are_the_same_on_all_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scoring = Scorers(EvaluationConfig(metrics=["bleu", "chrf"], tokenizer="unicode"))
    texts = (SUMMARIES * 6, DOCUMENTS * 6, REFERENCES * 6)
    here = measure("model", *texts, scoring)
    monkeypatch.setattr(parallel, "CHUNK", 2)
    shared = measure("model", *texts, scoring)
    assert np.array_equal(here.values, shared.values, equal_nan=True)
    assert here.metrics["bleu"] == shared.metrics["bleu"]
