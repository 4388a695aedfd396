from pathlib import Path

import pytest

from headcount.config.load import load
from headcount.errors import ConfigError
from tests.config.mistakes import check_mistake

MISTAKES = {
    "{data: {bpe_dropout: 0.1}, tokenizer: {algorithm: unigram}}": "data.bpe_dropout=0.1 does not "
    "go with tokenizer.algorithm=unigram; legal: 0",
    "stages: [{steps: 3}, {steps: 4}]": "x.yaml: stages: steps=4 of stage 2, the last one, which",
    "stages: [{}, {}]": "x.yaml: stages: steps=null of stage 1, which another one follows; legal:",
    "generation: {max_tokens: 513}": "generation.max_tokens=513 is beyond the model's positions",
    "generation: {min_tokens: 65}": "generation.min_tokens=65 is more than "
    "generation.max_tokens=64; legal: at most 64",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")


def test_stages_are_what_they_change() -> None:
    config = load([], ["stages=[{steps: 30,objective: infill},{}]", "optimizer.warmup_steps=7"])
    [(first, pretraining), (second, training)] = config.stage_plan
    assert (first, second) == (0, 30)
    assert (pretraining.objective, training.objective) == ("infill", "summarize")
    assert pretraining.warmup_steps == training.warmup_steps == 7
    [(_, only)] = load([], ["data.objective=gap_sentences"]).stage_plan
    assert only.objective == "gap_sentences" and only.steps is None


def test_heads_that_are_off_are_heads_of_the_model() -> None:
    pruned = "model.head_mask={decoder: [[1, 0, 0, 1], [0, 0, 0, 0]]}"
    layers = ["model.encoder_layers=1", "model.decoder_layers=2", pruned]
    config = load([], [*layers, "generation.heads_off=[encoder.0.3,decoder.0.1,cross.1.0]"])
    assert config.generation.heads_off == ["encoder.0.3", "decoder.0.1", "cross.1.0"]
    names = ["encoder.1.0", "encoder.0.4", "decoder.0.2", "decoder.1.0", "cross.2.0", "cross.0"]
    names += ["cross.0.-1", "other.0.0", "cross.0.0.0", f"cross.0.{'1' * 300}"]
    for name in names:
        with pytest.raises(ConfigError, match=r"heads_off=[^\n]*: the model has no such"):
            load([], [*layers, f"generation.heads_off=[{name}]"])
