from pathlib import Path

import pytest

from headcount.config.load import load
from tests.config.mistakes import check_mistake

MISTAKES = {
    "model: {num_heads: 3}": "x.yaml: model.num_heads=3 does not divide "
    "model.embedding_size=256; legal: 1, 2, 4, 8",
    "model: {num_kv_heads: 3}": "x.yaml: model.num_kv_heads=3 does not divide "
    "model.num_heads=4; legal: 1, 2, 4",
    "model: {cross_heads: 3}": "x.yaml: model.cross_heads=3 does not divide "
    "model.embedding_size=256",
    "model: {encoder_heads: 8, encoder_kv_heads: 3}": "model.encoder_kv_heads=3 does not divide "
    "model.encoder_heads=8",
    "model: {encoder_heads: [8, 4]}": "x.yaml: model.encoder_heads=[8, 4] does not go with the "
    "number of encoder blocks, 3; legal: one number from 1, or a list of 3 of them",
    "model: {cross_heads: []}": "x.yaml: model.cross_heads=[] does not go with the number of",
    "model: {decoder_heads: [8, 0, 4]}": "x.yaml: model.decoder_heads=[8, 0, 4] does not go with",
    "model: {decoder_heads: [8, 4, 3]}": "model.decoder_heads=3 does not divide model.embedding",
    "model: {cross_heads: [8, 4, 2], cross_kv_heads: [8, 4, 4]}": "model.cross_kv_heads=4 does "
    "not divide model.cross_heads=2",
    "model: {head_mask: {cross: [[1, 1], [1, 1], [1, 1]]}}": "x.yaml: model.head_mask.cross=[[1, 1], "
    "[1, 1], [1, 1]] does not fit the model; legal: 3 lists of 4 numbers, 0 or 1",
    "model: {num_heads: 1, head_mask: {cross: [[1], [2], [1]]}}": "model.head_mask.cross=[[1], [2],",
    "model: {num_heads: 1, head_mask: {cross: [[1], [[1]], [1]]}}": "x.yaml: model.head_mask.cross=[[1], "
    "[[1]], [1]] does not fit the model; legal: 3 lists of 1 numbers, 0 or 1",
    # The layers are not counted one by one.
    "model: {decoder_layers: 1000000000, head_mask: {cross: [[1, 1, 1, 1]]}}": "does not fit the "
    "model; legal: 1000000000 lists of 4 numbers, 0 or 1",
    "model: {embedding_size: 1000000007}": "does not divide model.embedding_size=1000000007; "
    "legal: 1,",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    check_mistake(text, MISTAKES[text], tmp_path / "x.yaml")


def test_a_place_that_is_not_there_has_no_say() -> None:
    """Cross-attention is not rotary, so its heads may be odd.

    Num_heads need not fit where no place has that number.
    """
    load(
        [],
        [
            "model.positions=rotary",
            "model.embedding_size=12",
            "model.num_heads=2",
            "model.cross_heads=4",
        ],
    )
    places = ["model.encoder_heads=3", "model.decoder_heads=3", "model.cross_heads=3"]
    load([], ["model.embedding_size=18", *places])


def test_heads_by_layer() -> None:
    changes = [
        "model.encoder_heads=[8,4,2]",
        "model.num_kv_heads=2",
        "model.cross_kv_heads=[1,2,4]",
    ]
    model = load([], changes).model
    assert [model.heads_of("encoder", layer) for layer in range(3)] == [8, 4, 2]
    assert [model.heads_of("cross", layer) for layer in range(3)] == [4, 4, 4]
    assert [model.kv_heads_of("encoder", layer) for layer in range(3)] == [2, 2, 2]
    assert [model.kv_heads_of("cross", layer) for layer in range(3)] == [1, 2, 4]
    assert [model.head_dim_of("encoder", layer) for layer in range(3)] == [32, 64, 128]
    assert model.count_heads() == 14 + 12 + 12
