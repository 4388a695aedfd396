import pytest
import torch

from headcount.heads.blocks import Head, closed_heads, gated, gates_without, heads_of, parse_head
from headcount.model.attention_blocks import attention_blocks
from tests.model.builds import make


def test_heads_are_those_of_all_blocks() -> None:
    model = make("transformer")
    heads = heads_of(model)
    assert len(heads) == 4 * 6
    assert str(heads[1]) == f"{next(iter(attention_blocks(model)))}.1"


def test_a_closed_head_stays_closed() -> None:
    model = make("transformer")
    block = attention_blocks(model)["decoder.0"]
    block.head_gates = torch.tensor([1.0, 0.0, 0.5, 1.0])
    with gated(model, gates_without(model, {Head(site="decoder", layer=0, index=3)})):
        assert block.head_gates.tolist() == [1.0, 0.0, 0.5, 0.0]
        assert closed_heads(model) == {
            Head(site="decoder", layer=0, index=1),
            Head(site="decoder", layer=0, index=3),
        }
    assert [str(head) for head in closed_heads(model)] == ["decoder.0.1"]


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
