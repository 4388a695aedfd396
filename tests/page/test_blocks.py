import pytest
import torch

from headcount.page.blocks import attention_blocks, heads_of, heads_off, recorded_weights
from tests.model.builds import ARCHITECTURES, batch, make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_off_is_the_model_without_its_columns(architecture: str) -> None:
    model = make(architecture).eval()
    names = heads_of(model)
    assert (
        len(names) == len(set(names)) == sum(b.num_heads for b in attention_blocks(model).values())
    )
    before = model(*batch()).logits_MV
    for name in (names[0], names[-1]):
        with heads_off(model, [name]):
            off = model(*batch()).logits_MV
        assert not torch.allclose(off, before)
        if architecture != "recurrent":
            block = attention_blocks(model)[name.rpartition(".")[0]]
            weight = block.output_projection.weight
            kept = weight.detach().clone()
            begin = int(name.rpartition(".")[2]) * block.head_dim
            with torch.no_grad():
                weight[:, begin : begin + block.head_dim] = 0
            assert torch.allclose(model(*batch()).logits_MV, off)
            with torch.no_grad():
                weight.copy_(kept)
    assert torch.equal(model(*batch()).logits_MV, before)


def test_gates_that_were_set_stay_and_come_back_after_an_error() -> None:
    model = make("transformer").eval()
    block = attention_blocks(model)["cross.0"]
    block.head_gates = torch.tensor([1.0, 0.5, 1.0, 1.0])
    with pytest.raises(RuntimeError), heads_off(model, ["cross.0.0", "cross.0.2"]):
        assert block.head_gates.tolist() == [0.0, 0.5, 0.0, 1.0]
        raise RuntimeError
    assert block.head_gates.tolist() == [1.0, 0.5, 1.0, 1.0]
    with pytest.raises(KeyError), heads_off(model, ["cross.9.0"]):
        pass


def test_recorded_weights_are_those_that_the_model_returns() -> None:
    model = make("transformer").eval()
    example = batch([7], [3])
    with recorded_weights(model) as weights:
        output = model(*example, return_weights=True)
    assert set(weights) == set(attention_blocks(model))
    for layer, expected in enumerate(output.weights):
        assert torch.equal(weights[f"cross.{layer}"], expected[0])
    model(*example)
    assert all(not block._forward_hooks for block in attention_blocks(model).values())
