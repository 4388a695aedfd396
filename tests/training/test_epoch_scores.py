import pytest
import torch

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.corpus_metrics import make_corpus_metrics
from headcount.evaluation.rouge import ROUGE_TYPES, Rouge
from headcount.training.epoch_scores import EpochScores

SUMMARIES = ["Ada buys a red pear.", "Ben sells a lamp in the rain.", "Nobody came."]
REFERENCES = [["Ada buys a pear."], ["Ben sells a lamp.", "A lamp is sold by Ben."], ["All came."]]


def make_scores() -> EpochScores:
    evaluation = EvaluationConfig(metrics=["bleu", "chrf"])
    return EpochScores(Rouge.from_config(evaluation), make_corpus_metrics(evaluation))


def test_corpus_metrics_are_of_the_epoch_and_rouge_is_of_a_batch() -> None:
    whole, batches = make_scores(), make_scores()
    rouge = whole.add(SUMMARIES, REFERENCES)
    first = batches.add(SUMMARIES[:2], REFERENCES[:2])
    last = batches.add(SUMMARIES[2:], REFERENCES[2:])
    assert tuple(rouge) == ROUGE_TYPES
    for kind, mean in rouge.items():
        assert mean.dtype == torch.float32
        assert mean.item() == pytest.approx((2 * first[kind] + last[kind]).item() / 3)

    found = whole.score_corpus(lambda own: own)
    assert set(found) == {"bleu", "chrf"} and min(found.values()) > 0
    assert batches.score_corpus(lambda own: own) == found
    # The sum over ranks is scored, not a mean of scores.
    assert batches.score_corpus(lambda own: 2 * own)["chrf"] == pytest.approx(found["chrf"])
    ranks = [make_scores(), make_scores()]
    ranks[0].add(SUMMARIES[:2], REFERENCES[:2])
    ranks[1].add(SUMMARIES[2:], REFERENCES[2:])
    others = iter(ranks[1].statistics.values())
    sums = ranks[0].score_corpus(lambda own: own + torch.from_numpy(next(others)))
    assert sums == found


def test_an_epoch_forgets_the_one_before() -> None:
    scores = make_scores()
    scores.add(SUMMARIES, REFERENCES)
    scores.reset()
    assert not any(statistics.any() for statistics in scores.statistics.values())
