from pathlib import Path

import pytest

from tests.config.mistakes import check_mistake

RECURRENT = "architecture: recurrent, attention: additive"
MISTAKES = {
    "model: {positions: rotary, num_heads: 256}": "model.positions=rotary does not go with "
    "model.num_heads=256, whose",
    "model: {architecture: gpt}": "model.encoder_layers=3 does not go with "
    "model.architecture=gpt; legal: 0",
    "model: {architecture: gpt, encoder_layers: 0, cross_heads: 2}": "model.cross_heads=2 does "
    "not go with model.arch",
    "model: {architecture: gpt, encoder_layers: 0, tie_embeddings: output}": "model.tie_embeddings=output does not go",
    "model: {architecture: recurrent}": "model.attention=dot_product does not go with "
    "model.architecture=recurrent; l",
    f"model: {{{RECURRENT}, norm: none}}": "model.positions=sinusoidal does not go with",
    f"model: {{{RECURRENT}, norm: none, positions: none, head_dim: 8}}": "model.head_dim=8 does not go with",
    "model: {encoder_layers: 0}": "model.encoder_layers=0 does not go with "
    "model.architecture=transformer; legal: 1",
    "model: {attention: additive}": "model.attention=additive does not go with "
    "model.architecture=transformer",
    "model: {norm: none}": "model.norm=none does not go with model.architecture=transformer; "
    "legal: layernorm, rmsnorm",
    "model: {coverage: 1.0}": "model.coverage=1.0 does not go with model.copying=False; legal: 0",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")
