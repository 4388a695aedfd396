"""configs/translation.yaml from end to end, on a generated pair of languages."""

import csv
import json
import random
from pathlib import Path

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from headcount.commands import train as run
from headcount.config.load import load

ROOT = Path(__file__).parents[2]
SUBJECTS = {
    "der Bär": "the bear",
    "die Kröte": "the toad",
    "das Öhr": "the eye",
    "ein Fuß": "a foot",
}
VERBS = {"hört": "hears", "grüßt": "greets", "kauft": "buys", "sieht": "sees"}
SMALL = [
    "model.embedding_size=32",
    "model.num_heads=2",
    "model.feedforward_size=64",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "model.dropout=0",
    "data.max_document_tokens=32",
    "data.max_summary_tokens=32",
    "generation.max_tokens=32",
    "data.batch_tokens=512",
    "tokenizer.vocabulary_size=300",
    "optimizer.learning_rate=0.01",
    "optimizer.warmup_steps=10",
    "tracking.mode=disabled",
    "trainer.max_steps=120",
    "trainer.val_check_interval=40",
    "trainer.check_val_every_n_epoch=null",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
]


def write_pairs(folder: Path) -> None:
    """Write sentences of two languages; the verb comes last in the first."""
    draw = random.Random(0)
    for split, number in (("train", 300), ("validation", 24), ("test", 24)):
        rows = []
        for _ in range(number):
            (subject, s), (object_, o) = draw.choices(list(SUBJECTS.items()), k=2)
            verb, v = draw.choice(list(VERBS.items()))
            pair = {"de": f"{subject} {object_} {verb}.", "en": f"{s} {v} {o}."}
            rows.append(json.dumps({"translation": pair}) + "\n")
        folder.mkdir(exist_ok=True)
        (folder / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")


def test_translations_are_trained_selected_and_scored_as_translators_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "data")
    where = [f"data.path={tmp_path / 'data'}", f"data.cache_dir={tmp_path / 'cache'}"]
    config = load(
        [str(ROOT / "configs" / "translation.yaml")], [*SMALL, *where, "run.folder=here"]
    )
    run.train(config)
    folder = tmp_path / "here"

    # The scores are sacrebleu's own of the test summaries.
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    summaries = [row["summary"] for row in rows]
    references = [[row["references"][0] for row in rows]]
    scores = json.loads((folder / "scores.json").read_text())
    model = scores["systems"]["model"]
    bleu = BLEU().corpus_score(summaries, references).score
    assert model["bleu"]["mean"] == pytest.approx(bleu)
    assert model["chrf"]["mean"] == pytest.approx(CHRF().corpus_score(summaries, references).score)
    assert model["bleu"]["low"] <= bleu <= model["bleu"]["high"]
    assert "BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2." in scores["signature"]
    assert "tokenizer:unicode" in scores["signature"] and scores["alarms"] == []
    assert bleu > 50, "the languages are learned"

    # The checkpoint is the latest one within the margin of the best validation BLEU so far.
    with (folder / "metrics.csv").open(newline="") as file:
        logged = [row for row in csv.DictReader(file) if row["validation/bleu"]]
    best = max(float(row["validation/bleu"]) for row in logged)
    assert len(logged) == 3 and best > 50 and all(float(row["validation/chrf"]) for row in logged)
    margin = config.evaluation.selection_margin
    best_so_far = 0.0
    for row in logged:
        bleu_there = float(row["validation/bleu"])
        best_so_far = max(best_so_far, bleu_there)
        if bleu_there >= best_so_far - margin:
            selected = row
    assert margin == 1 and scores["step"] == int(selected["step"]) + 1

    # Terminal and table of examples show them.
    printed = capsys.readouterr().out
    assert "BLEU" in printed and "chrF" in printed and "  bleu " in printed
    with (folder / "per_example_metrics.csv").open(newline="") as file:
        examples = list(csv.DictReader(file))
    sentence = BLEU(effective_order=True).sentence_score(summaries[0], [references[0][0]]).score
    assert float(examples[0]["bleu"]) == pytest.approx(sentence)
    assert len(examples[0]["bleu_statistics"].split()) == 10
