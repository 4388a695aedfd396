from pathlib import Path

import pytest

from tests.config.mistakes import check_mistake

MISTAKES = {
    "generation: {strategy: beam, num_beams: 4, num_beam_groups: 3}": "generation.num_beam_groups=3 does not divide g",
    "generation: {num_return_sequences: 2}": "generation.num_return_sequences=2 is more than "
    "generation.strategy=gree",
    "generation: {strategy: mbr, num_beam_groups: 3}": "generation.num_beam_groups=3 does not divide generation.mbr_num_beams=8",
    "generation: {strategy: mbr, mbr_num_beams: 1, mbr_num_samples: 0}": "leave nothing to choose from",
    "generation: {mbr_metrics: [rouge1, rougeLsum]}": "generation.mbr_metrics=rougeLsum is not a metric of minimum Bayes risk; legal: rouge1, rouge2, rougeL",
    "generation: {mbr_metrics: []}": "generation.mbr_metrics=[] leaves nothing to maximize; legal: one or more of rouge1, rouge2, rougeL",
    "generation: {strategy: mbr, num_return_sequences: 25}": "legal: at most 24",
    "generation: {num_return_sequences: 2, strategy: beam, long_documents: split}": "generation.num_return_sequences=",
    "generation: {diversity_penalty: 0.5}": "generation.diversity_penalty=0.5 does nothing with "
    "generation.num_beam_g",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")
