import pytest
import torch

from headcount.heads.blocks import (
    Head,
    attention_blocks,
    block_name,
    gated,
    gates_without,
    heads_of,
    parse_head,
)
from tests.model.builds import make


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        (
            "transformer",
            ["encoder.0", "encoder.1", "decoder.0", "decoder.1", "cross.0", "cross.1"],
        ),
        ("gpt", ["decoder.0", "decoder.1"]),
        ("recurrent", ["cross.0"]),
    ],
)
def test_blocks_are_named_by_site_and_layer(architecture: str, names: list[str]) -> None:
    model = make(architecture)
    assert list(attention_blocks(model)) == names
    heads = heads_of(model)
    assert len(heads) == 4 * len(names)
    assert str(heads[1]) == f"{names[0]}.1"


def test_more_than_ten_layers_are_in_order() -> None:
    names = [block_name(f"decoder.{layer}.attention") for layer in range(12)]
    model = make("transformer", "decoder_layers=12")
    found = [name for name in attention_blocks(model) if name.startswith("decoder")]
    assert found == names


def test_gates_are_set_and_restored() -> None:
    model = make("transformer")
    gates = gates_without(model, {Head(site="cross", layer=1, index=2)})
    assert gates["cross.1"].tolist() == [1, 1, 0, 1] and gates["cross.0"].tolist() == [1] * 4
    earlier = torch.ones(4)
    attention_blocks(model)["cross.0"].head_gates = earlier
    with pytest.raises(RuntimeError), gated(model, gates):
        assert attention_blocks(model)["cross.1"].head_gates is gates["cross.1"]
        raise RuntimeError
    assert attention_blocks(model)["cross.1"].head_gates is None
    assert attention_blocks(model)["cross.0"].head_gates is earlier


def test_an_unknown_head_is_rejected_with_the_legal_ones() -> None:
    model = make("transformer")
    assert parse_head("decoder.1.3", model) == Head(site="decoder", layer=1, index=3)
    with pytest.raises(
        ValueError, match=r"head cross\.2\.1 does not exist; legal: encoder\.0\.0-3"
    ):
        parse_head("cross.2.1", model)
