from dataclasses import replace

import pytest
import torch

from headcount.model.attention_blocks import attention_blocks
from headcount.page.heads_off import generate_without, head_sets, heads_off, summaries_without
from headcount.training.decoding import encode_pairs
from tests.model.builds import ARCHITECTURES, make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_summaries_without_a_head_are_those_of_the_gated_model(
    make_run, architecture: str
) -> None:
    run, pairs = make_run(architecture)
    summarizer, encoded = run.summarizer, encode_pairs(run.summarizer, pairs)
    original = summaries_without(summarizer, encoded, [[]])[0]
    assert original == [
        summaries[0].summary for summaries in summarizer.summarize(encoded.batch(range(5)))
    ]
    sets = head_sets(summarizer)
    found = summaries_without(summarizer, encoded, sets)
    assert any(summaries != original for summaries in found)
    for heads, summaries in zip(sets, found, strict=True):
        blocks = attention_blocks(summarizer.model)
        for head in heads:
            name, index = head.rsplit(".", 1)
            block = blocks[name]
            if block.head_gates is None:
                block.head_gates = torch.ones(block.num_heads)
            block.head_gates[int(index)] = 0
        expected = [each[0].summary for each in summarizer.summarize(encoded.batch(range(5)))]
        assert summaries == expected, heads
        for block in blocks.values():
            block.head_gates = None
    assert summaries_without(summarizer, encoded, [[]])[0] == original


def test_sets_are_heads_then_layers_then_sites(make_run) -> None:
    run, _ = make_run("transformer", "model.cross_heads=1")
    sets = head_sets(run.summarizer)
    assert ["cross.0.0"] in sets and ["encoder.0.0", "encoder.0.1"] in sets
    assert ["encoder.0.0", "encoder.0.1", "encoder.1.0", "encoder.1.1"] in sets
    assert ["cross.0.0", "cross.1.0"] in sets and len(sets) == len({tuple(each) for each in sets})
    assert len(sets) == 10 + 4 + 3


def test_documents_keep_their_order_over_batches(make_run) -> None:
    run, pairs = make_run()
    encoded = encode_pairs(run.summarizer, pairs)
    config = run.summarizer.config
    run.summarizer.config = replace(config, generation=replace(config.generation, batch_size=2))
    in_twos = generate_without(run.summarizer, encoded)
    run.summarizer.config = config
    assert [each.tokens for each in in_twos] == [
        each.tokens for each in generate_without(run.summarizer, encoded)
    ]


def test_gates_that_were_set_stay_and_come_back_after_an_error() -> None:
    model = make("transformer").eval()
    blocks = attention_blocks(model)
    blocks["cross.0"].head_gates = torch.tensor([1.0, 0.5, 1.0, 1.0])
    with pytest.raises(RuntimeError), heads_off(model, ["cross.0.0", "cross.0.2"]):
        assert blocks["cross.0"].head_gates.tolist() == [0.0, 0.5, 0.0, 1.0]
        assert blocks["cross.1"].head_gates is None
        raise RuntimeError
    assert blocks["cross.0"].head_gates.tolist() == [1.0, 0.5, 1.0, 1.0]
    with (
        pytest.raises(ValueError, match="cross.9.0 does not exist"),
        heads_off(model, ["cross.9.0"]),
    ):
        pass
