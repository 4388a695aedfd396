"""The whole analysis of a small trained model; its tables, pictures and findings are tested on the
same one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headcount.heads.ablation import ablated
from headcount.heads.analysis import (
    analyse,
    count_measurements,
    head_orders,
    tokenizer_kinds,
    without,
)
from headcount.heads.blocks import heads_of
from headcount.heads.importance import example_losses, importance
from headcount.heads.measure import COMPLETE, HeadEvaluator, MeasurementStore
from headcount.training.data_module import SummarizationDataModule
from headcount.training.module import Summarizer
from tests.model import builds

ARCHITECTURES = {**builds.ARCHITECTURES, "transformer": ["model.copying=true"]}


def make_evaluator(small, folder: Path, *changes: str) -> HeadEvaluator:
    config = small(
        "heads.documents=6",
        "heads.points=3",
        "heads.random_orders=2",
        "generation.max_tokens=6",
        *changes,
    )
    data = SummarizationDataModule(config)
    data.setup()
    summarizer = Summarizer(config, data.tokenizer)
    summarizer.configure_model()
    store = MeasurementStore(folder / "measurements.jsonl", {})
    return HeadEvaluator(summarizer.eval(), data.splits["validation"], range(6), store)


@pytest.fixture(params=list(ARCHITECTURES))
def evaluator(small, tmp_path: Path, request: pytest.FixtureRequest) -> HeadEvaluator:
    return make_evaluator(small, tmp_path, *ARCHITECTURES[request.param])


def test_every_head_of_every_architecture_is_measured(evaluator: HeadEvaluator) -> None:
    model = evaluator.summarizer.model
    made: list[int] = []
    evaluator.on_measured = lambda: made.append(1)
    analysis = analyse(evaluator)
    assert [result.head for result in analysis.heads] == heads_of(model)
    assert len(made) <= count_measurements(evaluator.summarizer.config, model)

    complete = evaluator.measure(COMPLETE)
    gradient = importance(model, evaluator.batches)
    for result in analysis.heads:
        head = result.head
        assert result.importance == pytest.approx(gradient[head.block][head.index])
        off = evaluator.measure(without({head}))
        change = result.loss_changes["zero"].mean
        assert change == pytest.approx((off.losses - complete.losses).mean())
        assert 0 < result.confidence <= 1 and result.entropy >= 0
        assert np.isnan(result.distance) == (head.site == "cross")

    # Curves begin with the complete model and end with no head.
    scopes = {"all", *analysis.sites} if len(analysis.sites) > 1 else {"all"}
    assert {curve.scope for curve in analysis.curves} == scopes
    for curve in analysis.curves:
        assert curve.points[0].difference == 0.0 and curve.points[-1].kept == 0
    everything = evaluator.measure(without(set(heads_of(model))))
    last = analysis.curves[0].points[-1]
    assert last.loss == pytest.approx(everything.losses.mean())


def test_a_measurement_is_that_of_the_ablated_model(evaluator: HeadEvaluator) -> None:
    model = evaluator.summarizer.model
    head = heads_of(model)[-1]
    measured = evaluator.measure(without({head}))
    with ablated(model, [head]):
        for batch in evaluator.batches:
            expected = example_losses(model, batch).detach().numpy()
            np.testing.assert_allclose(measured.losses[batch.indices], expected, rtol=1e-6)
            texts = evaluator.summarizer.generate_texts(batch, greedy=True)
            for row, text in zip(batch.indices, texts, strict=True):
                references = evaluator.split.pairs.references[row]
                scores = np.array(evaluator.summarizer.rouge.score(text, references)) * 100
                np.testing.assert_allclose(measured.scores[row], scores)


def test_an_interrupted_analysis_resumes_with_the_same_results(small, tmp_path: Path) -> None:
    evaluator = make_evaluator(small, tmp_path)
    whole = analyse(evaluator)
    path = evaluator.store.path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:9]) + lines[9][:20])

    store = MeasurementStore(path, {})
    assert len(store.found) == 8
    again = analyse(HeadEvaluator(evaluator.summarizer, evaluator.split, evaluator.rows, store))
    assert repr(again) == repr(whole)
    assert path.read_bytes() == b"".join(lines)


def test_orders_are_those_of_the_measures(small, tmp_path: Path) -> None:
    analysis = analyse(make_evaluator(small, tmp_path))
    results = [
        replace(result, normalized_importance=float(-number))
        for number, result in enumerate(analysis.heads)
    ]
    orders = head_orders(results, 3)
    assert orders["gradient"] == [result.head for result in reversed(results)]
    assert orders["reverse"] == orders["one_off"][::-1]
    assert set(orders) == {
        "gradient",
        "one_off",
        "confidence",
        "reverse",
        "random-1",
        "random-2",
        "random-3",
    }
    for order in orders.values():
        assert sorted(map(str, order)) == sorted(str(result.head) for result in results)


def test_tags_that_tokenizer_words_names_are_found(small, tmp_path: Path) -> None:
    evaluator = make_evaluator(small, tmp_path, "tokenizer.words=Ada|Ben|Cleo|Dan")
    tokenizer = evaluator.summarizer.tokenizer
    kinds = tokenizer_kinds(tokenizer, "Ada|Ben|Cleo|Dan")
    named = {tokenizer.decode([token]).strip() for token in kinds.is_speaker.nonzero()[0]}
    assert named <= {"Ada", "Ben", "Cleo", "Dan"} and named
    assert not tokenizer_kinds(tokenizer, None).is_speaker.any()
    assert kinds.is_delimiter[tokenizer.token_to_id("<s>")]
    assert kinds.is_delimiter[tokenizer.encode(".").ids[0]]
    assert not kinds.is_delimiter[tokenizer.encode("a").ids[0]]


def test_a_summary_that_was_cut_can_be_read_again(small, tmp_path: Path) -> None:
    """It is as long as the model has positions, without an end token."""
    evaluator = make_evaluator(
        small,
        tmp_path,
        *("model.positions=learned", "data.max_document_tokens=24", "data.max_summary_tokens=24"),
        *("generation.min_tokens=24", "generation.max_tokens=24"),
    )
    assert evaluator.summarizer.config.max_positions == 24
    assert analyse(evaluator).heads
