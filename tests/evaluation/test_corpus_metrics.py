import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from headcount.config.sections.evaluation import EvaluationConfig
from headcount.evaluation.corpus_metrics import (
    CorpusMetric,
    Statistics,
    estimate_corpus_score,
    make_corpus_metrics,
    resampled_scores,
)

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "mat",
    ".",
    ",",
    "Straße",
    "42",
    "'ll",
    "isn't",
]


def make_corpus(number: int, references: int = 1) -> tuple[list[str], list[list[str]]]:
    draw = random.Random(0)

    def sentence() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(3, 12)))

    targets = [[sentence() for _ in range(references)] for _ in range(number)]
    summaries = [
        " ".join(word for word in texts[0].split() if draw.random() < 0.9) + " cat"
        for texts in targets
    ]
    return summaries, targets


def count(metric: CorpusMetric, summaries: list[str], references: list[list[str]]) -> Statistics:
    return np.array([metric.count(s, r) for s, r in zip(summaries, references, strict=True)])


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize(("name", "theirs"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_sums_of_statistics_give_the_score_of_the_corpus(name, theirs, references: int) -> None:
    summaries, targets = make_corpus(50, references)
    metric = CorpusMetric(name, "13a")
    statistics = count(metric, summaries, targets)
    expected = theirs.corpus_score(summaries, list(map(list, zip(*targets, strict=True)))).score
    assert metric.score(statistics.sum(0).tolist()) == pytest.approx(expected, abs=1e-12)
    assert 10 < expected < 95


# Sentences on which the tokenizers of sacrebleu differ: symbols, dashes, numbers, scripts without
# blanks.
MIXED = [
    ("我喜欢喝红茶和绿茶。", "我喜欢喝红茶和黑茶！"),
    ("«Straße» – 3,5€ für 2.000 Leute…", "»Straße« – 3,50€ für 2.000 Leute"),
    ("彼は東京に住んでいます", "彼は東京で働いています"),
    ("it's state-of-the-art, isn't it?", "it is state-of-the-art, isn't it"),
]


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [("bleu", "13a"), ("bleu", "intl"), ("bleu", "zh"), ("bleu", "char"), ("chrf", "13a")],
)
def test_scores_are_those_of_sacrebleus_command(name, tokenizer, tmp_path: Path) -> None:
    summaries, targets = make_corpus(40, 2)
    for summary, reference in MIXED:
        summaries.append(summary)
        targets.append([reference, f"{reference} {summary[:5]}"])
    hypotheses = tmp_path / "hypotheses"
    hypotheses.write_text("\n".join(summaries) + "\n", encoding="utf-8")
    files = []
    for stream in range(2):
        path = tmp_path / f"references-{stream}"
        path.write_text("\n".join(texts[stream] for texts in targets) + "\n", encoding="utf-8")
        files.append(str(path))
    command = [sys.executable, "-m", "sacrebleu", *files, "-i", str(hypotheses), "-m", name]
    if name == "bleu":
        command += ["-tok", tokenizer]
    printed = subprocess.run(
        [*command, "-b", "-w", "10"], check=True, capture_output=True, text=True
    ).stdout
    metric = CorpusMetric(name, tokenizer)
    score = metric.score(count(metric, summaries, targets).sum(0).tolist())
    assert f"{score:.10f}" == printed.strip()

    printed = subprocess.run(
        [*command, "-f", "text"], check=True, capture_output=True, text=True
    ).stdout
    _, _, rest = metric.signature(targets).partition("|")
    assert rest in printed


def test_chinese_has_its_tokenizer() -> None:
    summary, reference = "我喜欢喝红茶和绿茶", ["我喜欢喝红茶和黑茶"]
    scores = {
        tokenizer: CorpusMetric("bleu", tokenizer).score(
            CorpusMetric("bleu", tokenizer).count(summary, reference)
        )
        for tokenizer in ("13a", "zh", "char")
    }
    assert scores["13a"] == 0 and scores["zh"] == scores["char"] > 50


def test_an_example_is_scored_as_a_sentence() -> None:
    bleu, chrf = (CorpusMetric(name, "13a") for name in ("bleu", "chrf"))
    reference = ["the cat sat on the mat"]
    theirs = BLEU(effective_order=True).sentence_score("the cat", reference).score
    assert bleu.score_example(bleu.count("the cat", reference)) == theirs > 0
    theirs = CHRF().sentence_score("the cat", reference).score
    assert chrf.score_example(chrf.count("the cat", reference)) == theirs


def test_interval_is_that_of_resampled_corpora() -> None:
    summaries, targets = make_corpus(60)
    metric = CorpusMetric("bleu", "13a")
    statistics = count(metric, summaries, targets)
    draws = np.random.default_rng(0)
    plain = []
    for _ in range(20):
        drawn = draws.integers(0, 60, 60)
        corpus = [summaries[row] for row in drawn], [[targets[row][0] for row in drawn]]
        plain.append(BLEU().corpus_score(*corpus).score)
    assert resampled_scores(metric, statistics, 20) == pytest.approx(plain)
    found = estimate_corpus_score(metric, statistics)
    assert found is not None and found.low < found.mean < found.high


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_without_references_there_is_no_score(name) -> None:
    metric = CorpusMetric(name, "13a")
    nothing = metric.count("a", [])
    assert nothing == [0] * metric.size
    assert estimate_corpus_score(metric, np.array([nothing])) is None
    assert metric.score(metric.count("", ["a b"])) == 0


def test_metrics_of_a_config_are_those_listed_and_the_one_that_selects() -> None:
    def of(**changes: object) -> list[str]:
        return list(make_corpus_metrics(EvaluationConfig(**changes)))

    assert of() == []
    assert of(metrics=["chrf", "bleu"]) == ["bleu", "chrf"]
    assert of(select_by="chrf") == ["chrf"]
