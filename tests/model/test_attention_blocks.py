import pytest

from headcount.model.attention_blocks import attention_blocks, block_name
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
    assert list(attention_blocks(make(architecture))) == names


def test_more_than_ten_layers_are_in_order() -> None:
    names = [block_name(f"decoder.{layer}.attention") for layer in range(12)]
    model = make("transformer", "decoder_layers=12")
    found = [name for name in attention_blocks(model) if name.startswith("decoder")]
    assert found == names
